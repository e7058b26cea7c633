//! Where messages come from: a terminal with a line that can be edited and a history, or a pipe
//! with a message a line. It must not know what becomes of them.

use std::io::{self, BufRead, IsTerminal, Read, StdinLock};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::lines::{Lines, Typed};
use crate::failure::Failure;
use crate::output::{self, Console};
use crate::prompt::without_mark;

const PROMPT: &str = "> ";
/// Of a line that goes on with the message before.
const MORE: &str = "… ";
const HISTORY_LINES: usize = 1000;

/// What came of waiting for a message.
#[derive(Debug)]
pub enum Next {
    Typed(Typed),
    /// Ctrl-C, with nothing under way.
    Interrupted,
    /// There is no more.
    End,
}

/// Where lines come from.
pub enum Input {
    Terminal(Box<Terminal>),
    Pipe(Pipe),
}

impl Input {
    /// A terminal to read from and to answer on, or else a pipe.
    pub fn open(history: bool, console: Console) -> Result<Self, Failure> {
        match io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => Ok(Self::Terminal(Box::new(Terminal::open(history, console)?))),
            false => Ok(Self::Pipe(Pipe {
                from: io::stdin().lock(),
                begun: false,
            })),
        }
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Waits for the next message or command. `most`: no longer text can be of use; `too_long` says
    /// so of one that has more bytes.
    pub fn next(&mut self, most: u64, too_long: impl Fn() -> Failure) -> Result<Next, Failure> {
        let mut lines = Lines::default();
        let mut begun = false;
        // More than is typed by hand. A pasted text that does not fit is refused later, with numbers.
        let bounded = !self.is_terminal();
        loop {
            let line = match self {
                Self::Terminal(terminal) => terminal.line(if begun { MORE } else { PROMPT })?,
                Self::Pipe(pipe) => pipe.line(most, &too_long)?,
            };
            match line {
                Line::Text(line) if lines.take(&line) => break,
                Line::Text(_) => begun = true,
                Line::Interrupted => return Ok(Next::Interrupted),
                Line::End if begun => break,
                Line::End => return Ok(Next::End),
            }
            if bounded && lines.bytes() as u64 > most {
                return Err(too_long());
            }
        }
        let typed = lines.end();
        if let Self::Terminal(terminal) = self {
            terminal.keep(&typed);
        }
        Ok(Next::Typed(typed))
    }
}

#[derive(Debug)]
enum Line {
    Text(String),
    Interrupted,
    End,
}

/// A line that can be edited, and what was typed before.
pub struct Terminal {
    editor: DefaultEditor,
    history: Option<PathBuf>,
    console: Console,
}

impl Terminal {
    fn open(history: bool, console: Console) -> Result<Self, Failure> {
        // The editor changes how the terminal behaves while it waits.
        output::keep_terminal();
        let config = Config::builder().max_history_size(HISTORY_LINES);
        let config = config.map(|config| config.auto_add_history(false).build());
        let editor = config
            .and_then(DefaultEditor::with_config)
            .map_err(failed)?;
        let mut terminal = Self {
            editor,
            history: history_file().filter(|_| history),
            console,
        };
        terminal.read_history();
        Ok(terminal)
    }

    fn line(&mut self, prompt: &str) -> Result<Line, Failure> {
        loop {
            return match self.editor.readline(prompt) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                // The window has another size.
                Err(ReadlineError::Signal(_)) => continue,
                Err(error) => Err(failed(error)),
            };
        }
    }

    fn read_history(&mut self) {
        let Some(file) = self.history.as_ref().filter(|file| file.exists()) else {
            return;
        };
        if let Err(error) = self.editor.load_history(file) {
            self.without_history(&error.to_string());
        }
    }

    /// Written at once: the run may end in any way.
    fn keep(&mut self, typed: &Typed) {
        let text = match typed {
            Typed::Message(text) if text.starts_with('/') => format!("/{text}"),
            Typed::Message(text) | Typed::Command(text) => text.clone(),
            Typed::Nothing => return,
        };
        let added = self.editor.add_history_entry(text);
        let Some(file) = self.history.as_ref().filter(|_| matches!(added, Ok(true))) else {
            return;
        };
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        let kept = folder.map_err(ReadlineError::from);
        if let Err(error) = kept.and_then(|()| self.editor.append_history(file)) {
            self.without_history(&error.to_string());
        }
    }

    /// A conversation is worth more than its history: it goes on.
    fn without_history(&mut self, reason: &str) {
        if let Some(file) = self.history.take() {
            self.console.say(format_args!(
                "note: no history is kept: {}: {reason}",
                file.display()
            ));
        }
    }
}

fn failed(error: ReadlineError) -> Failure {
    Failure::ReadPrompt {
        file: "the terminal".to_owned(),
        source: match error {
            ReadlineError::Io(error) => error,
            other => io::Error::other(other),
        },
    }
}

/// In the folder for what a program keeps between its runs.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local").join("state")));
    state.map(|state| state.join("engine").join("chat_history"))
}

/// A message a line.
#[derive(Debug)]
pub struct Pipe {
    from: StdinLock<'static>,
    begun: bool,
}

impl Pipe {
    /// Reads no more of a line than can be of use.
    fn line(&mut self, most: u64, too_long: impl Fn() -> Failure) -> Result<Line, Failure> {
        let failed = |source| Failure::ReadPrompt {
            file: "stdin".to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let mut from = (&mut self.from).take(most.saturating_add(2));
        from.read_until(b'\n', &mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            return Ok(Line::End);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.len() as u64 > most {
            return Err(too_long());
        }
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let first = !std::mem::replace(&mut self.begun, true);
        Ok(Line::Text(match first {
            true => without_mark(&text).to_owned(),
            false => text,
        }))
    }
}

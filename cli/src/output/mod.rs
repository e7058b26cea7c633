//! Everything that is printed goes through here: stdout through [`Stdout`], whose errors count,
//! and stderr through [`Console`], whose errors cannot be told.

mod dump;
mod files;
mod human;
mod injected;
mod live;
mod progress;
mod screen;
mod table;
mod terminal;

use std::fmt;
use std::io::{self, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::failure::Failure;

pub use dump::Dump;
pub use files::{PartFolder, build_whole, try_place, write_whole};
pub use human::{gigabytes, memory, milliseconds, seconds, short_count, three_digits, tokens};
pub use injected::Injected;
pub use live::LivePanel;
pub use progress::{Bar, PromptBar, SoundBar, Steps};
pub use table::{Align, Table};
pub use terminal::keep_terminal;

/// Takes away what is half-done, on the terminal and on disk: the process is about to end.
pub fn abandon() {
    live::abandon();
    terminal::abandon();
    files::abandon();
}

/// The same from a place that must not wait, because it may be inside of what it would wait for.
pub fn abandon_if_free() {
    files::abandon_if_free();
}

/// Data for the user or the next program.
#[derive(Debug)]
pub struct Stdout {
    to: StdoutLock<'static>,
}

impl Stdout {
    pub fn lock() -> Self {
        Self {
            to: io::stdout().lock(),
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.to.is_terminal()
    }

    /// Whether colours are shown, and wanted.
    pub fn has_colours(&self) -> bool {
        colours_wanted() && self.is_terminal()
    }

    /// Bytes for the next program, at once.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes)?;
        Ok(self.to.flush()?)
    }

    /// Writes and shows at once: a token is seen when it is made.
    pub fn show(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        write!(self.to, "{text}")?;
        Ok(self.to.flush()?)
    }

    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(io::Error::from)?;
        writeln!(self.to, "{line}")?;
        Ok(self.to.flush()?)
    }
}

/// Words for the person at the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    quiet: bool,
    colour: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Style {
    Bold,
    Red,
    Cyan,
    Green,
    Yellow,
    Faint,
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        let colour = colours_wanted() && io::stderr().is_terminal();
        Self { quiet, colour }
    }

    #[cfg(test)]
    pub fn with_colour(colour: bool) -> Self {
        Self {
            quiet: false,
            colour,
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Printed unless `--quiet`.
    pub fn say(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.print(text);
        }
    }

    /// Printed in any case: what was asked for by name, and errors.
    pub fn print(&self, text: impl fmt::Display) {
        // Without a stderr it cannot be told.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Red => "1;31",
            Style::Cyan => "1;36",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `error:`, its causes, and the `hint:`.
    pub fn failure(&self, failure: &Failure) {
        self.print(format_args!(
            "{} {failure}",
            self.paint(Style::Red, "error:")
        ));
        for cause in failure.causes() {
            self.print(format_args!("  caused by: {cause}"));
        }
        if let Some(hint) = failure.hint() {
            self.print(format_args!("{} {hint}", self.paint(Style::Cyan, "hint:")));
        }
    }
}

fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! A generation told as it goes: its text on stdout, and the profile beside it.

use engine::profile::Streaming;
use engine::text::Logprobs;
use engine::{Generation, Report};

use super::live::Live;
use super::profile::Profiler;
use crate::args::ProfileHow;
use crate::failure::Failure;
use crate::output::{Console, LivePanel, PromptBar, Stdout};

/// Runs the generation to its end. `logits` is shown those of each token that are kept.
pub fn tell(
    generation: &mut Generation<'_, '_>,
    writer: &mut Writer,
    mut profile: Option<&mut Profile>,
    mut prompt_bar: Option<PromptBar>,
    logits: &mut dyn FnMut(&[f32]),
) -> Result<(), Failure> {
    loop {
        let next = generation.next();
        // The text, or what went wrong, gets the terminal to itself.
        drop(prompt_bar.take());
        if let Some(Ok(piece)) = &next {
            writer.logprobs.extend(piece.logprobs.clone());
            generation.logits().into_iter().for_each(&mut *logits);
            writer.token(piece.token, &piece.text)?;
        }
        for pass in generation.measured() {
            match &mut profile {
                None => {}
                Some(Profile::Summaries(profiler)) => profiler.pass(pass),
                Some(Profile::Live(live)) => {
                    let due = live.pass(pass);
                    if due {
                        writer.draw(live);
                    }
                }
            }
        }
        if next.transpose()?.is_none() {
            return Ok(());
        }
    }
}

/// The ways to look at a run.
#[derive(Debug)]
pub enum Profile {
    Summaries(Box<Profiler>),
    Live(Box<Live>),
}

impl Profile {
    pub fn new(how: ProfileHow, console: Console, streaming: &Streaming, every: usize) -> Self {
        let streaming = streaming.clone();
        match how {
            ProfileHow::Live if LivePanel::possible() => {
                Self::Live(Box::new(Live::new(console, streaming)))
            }
            ProfileHow::Live | ProfileHow::Summary => {
                Self::Summaries(Box::new(Profiler::new(console, streaming, every)))
            }
        }
    }

    /// What is left to be said when the text is over: the panel stays.
    pub fn finish(&mut self, console: &Console) {
        match self {
            Self::Summaries(profiler) => profiler.finish(),
            Self::Live(live) => {
                for line in live.lines(LivePanel::columns()) {
                    console.print(line);
                }
            }
        }
    }
}

/// Brings the text to stdout as it comes, or collects it for the JSON object. Without a tokenizer
/// there is no text: then token ids go out, spelled as `--prompt-tokens` reads them.
#[derive(Debug)]
pub struct Writer {
    pub out: Stdout,
    /// What is redrawn beside the text.
    panel: Option<LivePanel>,
    collect: bool,
    ids: bool,
    pub text: String,
    tokens: usize,
    /// Those of each token, where they were asked for.
    pub logprobs: Vec<Logprobs>,
}

impl Writer {
    pub fn new(collect: bool, ids: bool) -> Self {
        Self {
            out: Stdout::lock(),
            panel: None,
            collect,
            ids,
            text: String::new(),
            tokens: 0,
            logprobs: Vec::new(),
        }
    }

    /// A profile that is redrawn in place has a panel.
    pub fn make_room(&mut self, profile: Option<&Profile>) {
        if let Some(Profile::Live(_)) = profile {
            self.panel = Some(LivePanel::new(self.shows_text()));
        }
    }

    fn token(&mut self, token: u32, text: &str) -> Result<(), Failure> {
        self.tokens += 1;
        match (self.ids, self.tokens) {
            (false, _) => self.text(text),
            (true, _) if self.collect => Ok(()),
            (true, 1) => self.show(&token.to_string()),
            (true, _) => self.show(&format!(",{token}")),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        if self.collect {
            self.text.push_str(text);
            return Ok(());
        }
        match text {
            "" => Ok(()),
            text => self.show(text),
        }
    }

    fn show(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.panel {
            Some(panel) => panel.text(&mut self.out, text),
            None => self.out.show(text),
        }
    }

    fn draw(&mut self, live: &Live) {
        if let Some(panel) = &mut self.panel {
            panel.show(live.lines(LivePanel::columns()));
        }
    }

    /// Whether text comes on a terminal as it is made.
    fn shows_text(&self) -> bool {
        !self.collect && self.out.is_terminal()
    }

    /// The rest of the text, and nothing beside it any more.
    pub fn end(&mut self, rest: &str, report: &Report) -> Result<(), Failure> {
        let shown = self.text(rest);
        let closed = match &mut self.panel {
            Some(panel) => panel.close(&mut self.out),
            None => Ok(()),
        };
        shown.and(closed).and_then(|()| self.end_line(report))
    }

    /// A shell's prompt wants a line of its own; a file or a pipe gets the text alone.
    fn end_line(&mut self, report: &Report) -> Result<(), Failure> {
        if self.collect || report.tokens.is_empty() || !(self.ids || self.out.is_terminal()) {
            return Ok(());
        }
        self.out.show("\n")
    }
}

//! One answer: its tokens are generated, its text goes to stdout as it comes, its passes are counted.
//! It must not know what was asked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::profile::Window;
use engine::text::Style;
use engine::{Generation, GenerationOptions, Session};

use super::reasoning::Reasoning;
use super::stats::Last;
use super::talk::Prompt;
use crate::commands::generate::prompt_bar;
use crate::failure::Failure;
use crate::output::{Console, PromptBar, Stdout};

/// Ends an answer.
pub type Flag = Arc<AtomicBool>;

/// What an answer came to.
pub struct Answer {
    pub text: String,
    pub last: Last,
    /// The run cannot go on.
    pub failed: Option<Failure>,
}

/// An error is of a prompt that cannot be taken: nothing was done.
pub fn give(
    session: &mut Session<'_>,
    prompt: Prompt,
    options: GenerationOptions,
    window: &mut Window,
    console: &Console,
) -> Result<Answer, Failure> {
    let unread = prompt.ids.len() - session.shared_with(&prompt.ids);
    let bar = prompt_bar(session, unread, console);
    let mut generation = session.generate_reusing(prompt.ids, options)?;
    let mut shown = Shown::new(prompt.style);
    let ran = drive(&mut generation, &mut shown, window, bar);
    // Whatever came is shown, whatever then went wrong.
    let rest = generation.rest();
    let ended = shown.end(&rest);
    let last = Last {
        cached_tokens: generation.cached_tokens(),
        report: generation.report(),
    };
    Ok(Answer {
        text: shown.text,
        last,
        failed: ran.and(ended).err(),
    })
}

fn drive(
    generation: &mut Generation<'_, '_>,
    shown: &mut Shown,
    window: &mut Window,
    mut bar: Option<PromptBar>,
) -> Result<(), Failure> {
    loop {
        let next = generation.next();
        // The text gets the terminal to itself.
        drop(bar.take());
        if let Some(Ok(piece)) = &next {
            shown.push(&piece.text)?;
        }
        for pass in generation.measured() {
            window.add(&pass.timing, &pass.loads);
        }
        if next.transpose()?.is_none() {
            return Ok(());
        }
    }
}

/// The text, as it is and as it is shown.
struct Shown {
    out: Stdout,
    text: String,
    reasoning: Reasoning,
}

impl Shown {
    fn new(style: Style) -> Self {
        let out = Stdout::lock();
        Self {
            reasoning: Reasoning::new(out.has_colours(), style),
            text: String::new(),
            out,
        }
    }

    fn push(&mut self, text: &str) -> Result<(), Failure> {
        self.text.push_str(text);
        let shown = self.reasoning.push(text);
        self.show(&shown)
    }

    fn show(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.out.show(text)
    }

    /// The rest of it. An answer ends with its line.
    fn end(&mut self, rest: &str) -> Result<(), Failure> {
        self.push(rest)?;
        let held = self.reasoning.end();
        self.show(&held)?;
        match self.text.ends_with('\n') {
            true => Ok(()),
            false => self.out.show("\n"),
        }
    }
}

//! What is said: tokens, frames of sound, why it ended, and what it came to. The same of every system.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::runaway::Runaway;
use crate::error::EngineError;
use crate::profile::{Startup, Timing, Totals};
use crate::run::past::Measured;

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    EndOfText,
    MaxNewTokens,
    ContextFull,
    Runaway(Runaway),
    Interrupted,
    Failed,
}

/// A token, and what came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub token: u32,
    /// Of a token of speech.
    pub frame: Option<Frame>,
}

/// What an iterator gives for what was said, or was not; `ending` is told why.
pub(super) fn given(
    said: Result<Option<Said>, EngineError>,
    ending: &mut Option<Ending>,
) -> Option<Result<Said, EngineError>> {
    match said {
        Ok(said) => said.map(Ok),
        Err(EngineError::Interrupted) => {
            *ending = Some(Ending::Interrupted);
            None
        }
        Err(error) => {
            *ending = Some(Ending::Failed);
            Some(Err(error))
        }
    }
}

/// A frame of speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub audio: Vec<f32>,
    /// The root of its mean square.
    pub loudness: f32,
    /// What it was made of, by the names that comparisons have.
    pub stages: Vec<(Cow<'static, str>, Vec<f32>)>,
}

impl Frame {
    /// What it was made of: nothing where it has no stage of that name.
    pub fn stage(&self, name: &str) -> &[f32] {
        let found = self.stages.iter().find(|(known, _)| known == name);
        found.map_or(&[], |(_, numbers)| numbers)
    }
}

/// How much of a part is said, and from where on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The most tokens of this part.
    pub max_new_tokens: usize,
    /// Frames of parts that were spoken before: their draws are taken.
    pub first_frame: usize,
    /// Every token is a frame, whatever the model would say: for measuring.
    pub only_frames: bool,
    /// Seconds that it should take. Speech that runs away from them is stopped; `None`: it is not.
    pub expected_s: Option<f64>,
}

impl Limits {
    /// Why nothing more is said after so many tokens, in a context with room for so many more.
    pub(super) fn reached(&self, said: usize, room: usize) -> Option<Ending> {
        match said >= self.max_new_tokens {
            true => Some(Ending::MaxNewTokens),
            false => (said > 0 && room == 0).then_some(Ending::ContextFull),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_new_tokens: usize::MAX,
            first_frame: 0,
            only_frames: false,
            expected_s: None,
        }
    }
}

/// What was said of a part: enough to go on from it in another session, without making its sound
/// again. Lists have one frame after the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaidBefore {
    pub tokens: Vec<u32>,
    /// One for each frame.
    pub loudness: Vec<f32>,
    /// What else a system needs, by its own names.
    pub lists: Vec<(String, Vec<f32>)>,
}

impl SaidBefore {
    pub fn frames(&self) -> usize {
        self.loudness.len()
    }

    /// Nothing where there is no list of that name.
    pub(super) fn list(&self, name: &str) -> &[f32] {
        let found = self.lists.iter().find(|(known, _)| known == name);
        found.map_or(&[], |(_, numbers)| numbers)
    }

    pub(super) fn list_mut(&mut self, name: &str) -> &mut Vec<f32> {
        let at = self.lists.iter().position(|(known, _)| known == name);
        let at = at.unwrap_or_else(|| {
            self.lists.push((name.to_owned(), Vec::new()));
            self.lists.len() - 1
        });
        &mut self.lists[at].1
    }
}

/// What was spoken in a session so far.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    tokens: usize,
    frames: usize,
    first_audio: Option<Duration>,
    /// All tokens of a part after its first, and what the caller did between them.
    generate: Duration,
    /// When the last token was said.
    last: Option<Instant>,
    totals: Totals,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            tokens: 0,
            frames: 0,
            first_audio: None,
            generate: Duration::ZERO,
            last: None,
            totals: Totals::default(),
        }
    }
}

/// What speaking came to.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechReport {
    pub tokens: usize,
    pub frames: usize,
    /// From the call that began to the first frame of sound.
    pub first_audio: Option<Duration>,
    pub totals: Totals,
    pub timing: Timing,
}

impl Tally {
    /// A part begins; the first one's beginning is that of all.
    pub fn begin(&mut self) {
        if self.tokens == 0 {
            self.started = Instant::now();
        }
        self.last = None;
    }

    /// A token was said, with a frame or without; of these passes all is known since the one before.
    pub fn add(&mut self, spoke: bool, measured: &[Measured]) {
        self.tokens += 1;
        if spoke {
            self.frames += 1;
            (self.first_audio).get_or_insert_with(|| self.started.elapsed());
        }
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.generate += now - last;
        }
        self.know(measured);
    }

    /// Of these passes all is known now.
    pub fn know(&mut self, measured: &[Measured]) {
        for pass in measured {
            self.totals.add(&pass.timing, &pass.loads);
        }
    }

    pub fn report(&self, startup: &Startup) -> SpeechReport {
        SpeechReport {
            tokens: self.tokens,
            frames: self.frames,
            first_audio: self.first_audio,
            totals: self.totals,
            timing: Timing::new(startup, self.totals, self.generate, self.first_audio),
        }
    }
}

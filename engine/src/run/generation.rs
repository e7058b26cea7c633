//! Generating text: pass, choose a token, turn it into text, stop where it should stop. An
//! iterator, so that the caller decides what happens between tokens.

use std::time::{Duration, Instant};

use super::continuation::Continuation;
use super::past::Measured;
use super::session::Session;
use crate::compute::batch::RunKind;
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::{LongSpan, PassKind, Recording, Timing, Totals, past_stage, stage};
use crate::text::{Candidates, Grammar, Logprobs, Sampling};

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    pub max_new_tokens: usize,
    pub sampling: Sampling,
    /// Texts that end the generation and are not part of it.
    pub stop: Vec<String>,
    /// Special tokens that are printed, where others are not.
    pub show: Vec<String>,
    /// Go on past the model's own end-of-text.
    pub ignore_eos: bool,
    /// Tell with each token how likely it was, and as many of the likeliest.
    pub logprobs: Option<usize>,
    /// Added to these tokens' logits, before everything else.
    pub bias: Vec<(u32, f32)>,
    /// What the answer has to be: tokens that it does not allow are not chosen, and where it is
    /// complete the generation ends.
    pub grammar: Option<Grammar>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        let sampling = Sampling::default();
        Self {
            max_new_tokens: 128,
            sampling,
            stop: Vec::new(),
            show: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            bias: Vec::new(),
            grammar: None,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    EndOfText,
    /// The grammar is complete: nothing can follow.
    GrammarComplete,
    StopString,
    MaxNewTokens,
    ContextFull,
    Interrupted,
    /// An error came, and was given out.
    Failed,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    pub token: u32,
    /// What can be printed now; may be empty, or hold back what could become a stop string.
    pub text: String,
    /// If they were asked for.
    pub logprobs: Option<Logprobs>,
}

/// A whole continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub text: String,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
}

/// What a generation came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub prompt_tokens: usize,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
    pub time_to_first_token: Option<Duration>,
    pub totals: Totals,
    pub timing: Timing,
}

/// An iterator over the tokens of one continuation.
#[derive(Debug)]
pub struct Generation<'s, 'm> {
    session: &'s mut Session<'m>,
    continuation: Continuation,
    /// So many tokens of the prompt had been read before.
    cached: usize,
    /// What is left of it then is a single token, which comes as the next one does.
    is_next: bool,
    started: Instant,
    time_to_first_token: Option<Duration>,
    /// When the prompt's pass was over, and the last one.
    generating: Option<(Instant, Instant)>,
    /// The logits of the last token's pass before sampling changed them, if they are wanted.
    logits: Option<Vec<f32>>,
    /// `generate`, from the first step to the end.
    span: LongSpan,
    totals: Totals,
}

impl<'s, 'm> Generation<'s, 'm> {
    pub(crate) fn new(
        session: &'s mut Session<'m>,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Self, EngineError> {
        let continuation = Continuation::new(session.model(), prompt, options)?;
        Self::of(session, continuation, 0, Instant::now())
    }

    /// The same where the session's own sequence begins as the prompt does: what they have in common
    /// is not read again. Nothing is forgotten for a prompt that cannot be taken.
    pub(crate) fn reusing(
        session: &'s mut Session<'m>,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Self, EngineError> {
        let model = session.model();
        model.blueprint().check_tokens(&prompt, 0)?;
        let cached = session.shared_with(&prompt);
        let continuation = Continuation::new(model, prompt, options)?;
        session.go_back(cached)?;
        Self::of(session, continuation, cached, Instant::now())
    }

    /// The same where the session's own sequence has seen all of the prompt but its last token, which
    /// comes by itself. `started`: when reading the rest began; `read`: the passes that did.
    pub(crate) fn after_reading<'p>(
        session: &'s mut Session<'m>,
        prompt: Vec<u32>,
        options: GenerationOptions,
        started: Instant,
        read: impl Iterator<Item = &'p Measured>,
    ) -> Result<Self, EngineError> {
        let own = session.model().blueprint().stack;
        let continuation = Continuation::new(session.model(), prompt, options)?;
        let cached = continuation.prompt_tokens() - 1;
        let is_next = cached > 0;
        let mut totals = Totals::default();
        for Measured { timing, loads } in read {
            let mut timing = *timing;
            if timing.stack != own {
                // They are not as many more tokens of the prompt.
                (timing.rows, timing.seen) = (0, 0);
            }
            totals.add(&timing, loads);
        }
        Ok(Self {
            is_next,
            totals,
            ..Self::of(session, continuation, cached, started)?
        })
    }

    fn of(
        session: &'s mut Session<'m>,
        continuation: Continuation,
        cached: usize,
        started: Instant,
    ) -> Result<Self, EngineError> {
        // Passes that were made before are none of this one's.
        session.passes.begin()?;
        Ok(Self {
            continuation,
            cached,
            is_next: false,
            started,
            time_to_first_token: None,
            generating: None,
            logits: None,
            span: LongSpan::default(),
            totals: Totals::default(),
            session,
        })
    }

    /// The passes of which all is known since `next` was called before: on the host the last token's,
    /// or of the token that ends the text. On a device they come one call later, and at the end all.
    pub fn measured(&self) -> &[Measured] {
        self.session.measured()
    }

    pub fn model(&self) -> &Model {
        self.session.model()
    }

    pub fn ended(&self) -> Option<Ended> {
        self.continuation.ended()
    }

    /// Tokens of the prompt that had been read before.
    pub fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// Keeps the logits of every token from now on, for [`Generation::logits`].
    pub fn keep_logits(&mut self) {
        self.logits = Some(Vec::new());
    }

    /// What the last token was chosen from, as the model gave it.
    pub fn logits(&self) -> Option<&[f32]> {
        self.logits.as_deref()
    }

    /// Text held back for a stop string or an unfinished character, once there is no more.
    pub fn rest(&mut self) -> String {
        self.continuation.rest()
    }

    /// What it has come to so far.
    pub fn report(&mut self) -> Report {
        // What a device cannot say any more is left out; an error was given out before.
        let _ = self.settle();
        Report {
            prompt_tokens: self.continuation.prompt_tokens(),
            tokens: self.continuation.generated().to_vec(),
            ended: self.ended(),
            time_to_first_token: self.time_to_first_token,
            totals: self.totals,
            timing: Timing::new(
                &self.session.passes.startup,
                self.totals,
                self.generating
                    .map_or(Duration::ZERO, |(from, to)| to.duration_since(from)),
                self.time_to_first_token,
            ),
        }
    }

    /// The timeline so far, if the session was told to record, and the end of recording.
    pub fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }

    fn step(&mut self) -> Result<Option<GeneratedToken>, EngineError> {
        let done = self.continuation.generated().len();
        if self.continuation.next(self.session.room()).is_none() {
            return Ok(None);
        }
        let said = match done {
            0 if !self.is_next => stage!(self.session.passes.clock, Prefill, self.say()?),
            _ => {
                let _generate = self.span.enter();
                stage!(self.session.passes.clock, Step, index = done, self.say()?)
            }
        };
        self.session.passes.end_pass()?;
        let now = Instant::now();
        self.time_to_first_token
            .get_or_insert_with(|| now - self.started);
        self.generating.get_or_insert((now, now)).1 = now;
        Ok(said)
    }

    /// Nothing comes after the last pass: what is not known of it is read now.
    fn settle(&mut self) -> Result<(), EngineError> {
        let told = self.session.measured().len();
        let settled = self.session.passes.settle();
        self.add_from(told);
        settled
    }

    /// Adds what is known now to the totals, but for the first `told` passes of it.
    fn add_from(&mut self, told: usize) {
        for pass in self.session.measured().iter().skip(told) {
            self.totals.add(&pass.timing, &pass.loads);
        }
    }

    /// One pass, and what is said after it: a token and the text that can be printed now.
    fn say(&mut self) -> Result<Option<GeneratedToken>, EngineError> {
        let wants = self.continuation.wants();
        let Some((mut kind, rows)) = self.continuation.next(self.session.room()) else {
            return Ok(None);
        };
        let (rows, run) = match (kind, self.cached) {
            (PassKind::Prompt, 1..) if self.is_next => {
                kind = PassKind::Decode;
                (&rows[self.cached..], RunKind::Decode)
            }
            // The rest of a prompt is one, even if it is a single token.
            (PassKind::Prompt, 1..) => {
                let whole = rows.len();
                (&rows[self.cached..], RunKind::Prompt { whole })
            }
            _ => (rows, self.session.run_kind(rows)),
        };
        let candidates = self.session.forward(kind, run, rows, wants)?;
        let token = stage!(
            self.session.passes.clock,
            Sampling,
            self.sample(candidates)?
        );
        if self.continuation.is_end(token) {
            return Ok(None);
        }
        let clock = &mut self.session.passes.clock;
        Ok(Some(stage!(clock, Decode, self.continuation.take(token))))
    }

    /// Samples the candidates, if they decide it; else all logits, with the same outcome.
    fn sample(&mut self, candidates: Option<Candidates>) -> Result<u32, EngineError> {
        if let Some(kept) = &mut self.logits {
            kept.clear();
            kept.extend_from_slice(self.session.all_logits()?);
        }
        let chosen = candidates.and_then(|candidates| self.continuation.choose(&candidates));
        let token = match chosen {
            Some(token) => token,
            None => self.continuation.sample(self.session.all_logits()?)?,
        };
        // Parts of it that took time, as stages.
        let times = self.continuation.times();
        if let Some((from, to)) = times.mask {
            past_stage!(self.session.passes.clock, Mask, from, to);
        }
        if let Some((from, to)) = times.top_k {
            past_stage!(self.session.passes.clock, TopK, from, to);
        }
        if let Some((from, to)) = times.top_p {
            past_stage!(self.session.passes.clock, TopP, from, to);
        }
        Ok(token)
    }
}

impl Iterator for Generation<'_, '_> {
    type Item = Result<GeneratedToken, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.session.passes.forget_measured();
        let stepped = match self.ended() {
            Some(_) => Ok(None),
            None => self.step(),
        };
        self.add_from(0);
        let settled = match &stepped {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => self.settle(),
        };
        let next = match stepped {
            Err(EngineError::Interrupted) => {
                self.continuation.end(Ended::Interrupted);
                Ok(None)
            }
            stepped => stepped.and_then(|token| settled.map(|()| token)),
        };
        if next.is_err() {
            self.continuation.end(Ended::Failed);
        }
        if self.ended().is_some() {
            self.span = LongSpan::default();
        }
        next.transpose()
    }
}

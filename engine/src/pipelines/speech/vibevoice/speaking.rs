//! A prompt spoken: a token at a time, and a frame of sound for each that is one of speech.

use super::noise::{Draws, Noise};
use super::past;
use super::session::{Prompt, SpeechSession};
use super::stages::{Asked, LastRows, Made};
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::pipelines::speech::narrator::PartSpeaking;
use crate::pipelines::speech::runaway::{Watch, loudness};
use crate::pipelines::speech::said::{
    Ending, Frame, Limits, Said, SaidBefore, SpeechReport, given,
};
use crate::profile::PassKind;
use crate::run::past::Measured;

/// What a frame was made of: the latent, what was heard of it, and the language model's last rows, with
/// the prompt and without.
pub(super) const LATENT: &str = "frame.latent";
pub(super) const SEMANTIC: &str = "frame.semantic";
const WITH_PROMPT: &str = "frame.cond_pos";
const WITHOUT: &str = "frame.cond_neg";

/// How to speak.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakOptions {
    /// How much the first condition counts over the second. 1: there is no second one, and no second
    /// branch that would give it.
    pub guidance: f32,
    pub noise: Noise,
    pub limits: Limits,
}

impl Default for SpeakOptions {
    fn default() -> Self {
        Self {
            guidance: 1.3,
            noise: Noise::default(),
            limits: Limits::default(),
        }
    }
}

impl SpeakOptions {
    /// Beside the branch that has seen the prompt there is one that has not.
    fn has_both(&self) -> bool {
        self.guidance != 1.0
    }
}

/// What the language model takes next.
#[derive(Debug)]
pub(super) enum Next {
    Prompt(Prompt),
    Token(u32),
    /// In place of a token's embedding.
    Row(u32, Vec<f32>),
}

/// An iterator over what is said.
#[derive(Debug)]
pub struct Speaking<'s, 'm> {
    session: &'s mut SpeechSession<'m>,
    draws: Draws,
    /// What the next frame begins as; empty until it is drawn.
    noise: Vec<f32>,
    next: Next,
    options: SpeakOptions,
    before: SaidBefore,
    watch: Option<Watch>,
    ending: Option<Ending>,
}

impl SpeechSession<'_> {
    /// Learns what a device knows of the last pass, if it can still say it.
    fn settle(&mut self) {
        let _ = self.session.passes.settle();
        self.tally.know(self.session.measured());
    }

    /// What all that was spoken has come to.
    pub fn report(&self) -> SpeechReport {
        self.tally.report(&self.session.passes.startup)
    }
}

impl<'s, 'm> Speaking<'s, 'm> {
    pub(super) fn new(
        session: &'s mut SpeechSession<'m>,
        next: Next,
        before: SaidBefore,
        options: SpeakOptions,
    ) -> Self {
        session.tally.begin();
        let config = &session.known.config;
        let mut draws = Draws::new(options.noise.clone());
        draws.skip_frames(
            options.limits.first_frame + before.frames(),
            config.acoustic.latent,
        );
        let frame_s = config.acoustic.hop() as f64 / config.sample_rate as f64;
        let watch = options
            .limits
            .expected_s
            .map(|expected| Watch::new(expected, frame_s, before.frames()));
        Self {
            draws,
            noise: Vec::new(),
            watch,
            session,
            next,
            options,
            before,
            ending: None,
        }
    }

    fn say(&mut self) -> Result<Option<Said>, EngineError> {
        let said = self.before.tokens.len();
        let room = self.session.own.room();
        if let Some(reached) = self.options.limits.reached(said, room) {
            self.ending = Some(reached);
            return Ok(None);
        }
        let last = self.pass()?;
        if self.noise.is_empty() {
            let frame = self.options.limits.first_frame + self.before.frames();
            self.noise
                .resize(self.session.known.config.acoustic.latent, 0.0);
            self.draws.frame(frame, &mut self.noise);
        }
        let session = &mut *self.session;
        let special = session.known.special;
        let asked = Asked {
            noise: &self.noise,
            guidance: self.options.guidance,
            only_frames: self.options.limits.only_frames,
        };
        let (token, made) = (session.stages).say(&mut session.session.passes, last, asked)?;
        let frame = match made {
            Some(made) => {
                self.noise.clear();
                Some(self.frame(token, made))
            }
            None => {
                // No frame came of what the second branch took.
                let seen = session.other.len();
                let kept = match token == special.start {
                    true => 0,
                    false => seen.saturating_sub(1),
                };
                session.other.go_back(kept)?;
                self.next = Next::Token(token);
                None
            }
        };
        past::add(&mut self.before, token, frame.as_ref());
        let session = &mut *self.session;
        session.session.passes.end_pass()?;
        session
            .tally
            .add(frame.is_some(), session.session.measured());
        if token == special.eos {
            self.ending = Some(Ending::EndOfText);
        }
        if let (Some(watch), Some(frame)) = (&mut self.watch, &frame)
            && let Some(why) = watch.frame(frame.loudness, frame.stage(WITH_PROMPT))
        {
            self.ending = Some(Ending::Runaway(why));
        }
        Ok(Some(Said { token, frame }))
    }

    /// One visit of each layer for both branches: where their last rows are.
    fn pass(&mut self) -> Result<LastRows, EngineError> {
        let has_both = self.options.has_both();
        let SpeechSession {
            session,
            own,
            other,
            known,
            ..
        } = &mut *self.session;
        let start = [known.special.start];
        let first = [0];
        let (kind, tokens, given, alone): (_, &[u32], _, &[u32]) = match &self.next {
            Next::Prompt(prompt) => {
                let given = Given {
                    tokens: &prompt.given,
                    rows: &prompt.rows,
                };
                (PassKind::Prompt, &prompt.tokens, Some(given), &start)
            }
            Next::Token(token) => {
                let token = std::slice::from_ref(token);
                (PassKind::Decode, token, None, token)
            }
            Next::Row(token, row) => {
                let token = std::slice::from_ref(token);
                let given = Given {
                    tokens: &first,
                    rows: row,
                };
                (PassKind::Decode, token, Some(given), token)
            }
        };
        let same = match kind {
            PassKind::Prompt => None,
            PassKind::Decode => given,
        };
        let (at, other_at) = (own.len(), other.len());
        let mut runs = [
            Run {
                state: &mut own.state,
                tokens,
                position: at,
                kind: RunKind::of(tokens.len(), at),
                given,
            },
            Run {
                state: &mut other.state,
                tokens: alone,
                position: other_at,
                kind: RunKind::Decode,
                given: same,
            },
        ];
        let wanted = if has_both { 2 } else { 1 };
        session.passes.blocks(kind, 1, &mut runs[..wanted])?;
        let last = tokens.len() - 1;
        own.tokens.extend(tokens);
        if has_both {
            other.tokens.extend(alone);
        }
        Ok(LastRows {
            with_prompt: last,
            without: has_both.then_some(last + 1),
        })
    }

    /// A frame of sound; what the language model takes of it comes next.
    fn frame(&mut self, token: u32, made: Made) -> Frame {
        self.next = Next::Row(token, made.row);
        let mut stages = vec![
            (LATENT.into(), made.latent),
            (SEMANTIC.into(), made.semantic),
            (WITH_PROMPT.into(), made.with_prompt),
        ];
        stages.extend(made.without.map(|row| (WITHOUT.into(), row)));
        Frame {
            loudness: loudness(&made.audio),
            audio: made.audio,
            stages,
        }
    }
}

impl Iterator for Speaking<'_, '_> {
    type Item = Result<Said, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.session.session.passes.forget_measured();
        let said = match self.ending {
            Some(_) => None,
            None => {
                let said = self.say();
                given(said, &mut self.ending)
            }
        };
        if said.is_none() {
            self.session.settle();
        }
        said
    }
}

impl PartSpeaking for Speaking<'_, '_> {
    fn ending(&self) -> Option<Ending> {
        self.ending
    }
    fn said(&self) -> Result<SaidBefore, EngineError> {
        let mut said = self.before.clone();
        past::keep(&mut said, self.session.stages.seen()?);
        Ok(said)
    }
    fn measured(&self) -> &[Measured] {
        self.session.session.measured()
    }
}

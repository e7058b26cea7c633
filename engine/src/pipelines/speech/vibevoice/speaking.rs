//! A prompt spoken: a token at a time, and a frame of sound for each that is one of speech.

use kernels::{denoise_step, encode};

use super::noise::{Draws, Noise};
use super::past;
use super::schedule::Found;
use super::session::{Prompt, SpeechSession, System};
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::pipelines::speech::narrator::PartSpeaking;
use crate::pipelines::speech::runaway::{Watch, loudness};
use crate::pipelines::speech::said::{
    Ending, Frame, Limits, Said, SaidBefore, SpeechReport, given,
};
use crate::profile::{PassKind, stage};
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
    next: Next,
    options: SpeakOptions,
    before: SaidBefore,
    watch: Option<Watch>,
    ending: Option<Ending>,
}

impl SpeechSession<'_> {
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
        let config = session.system.config;
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
        let rows = self.pass()?;
        let (with_prompt, without) = rows;
        let clock = &mut self.session.session.passes.clock;
        let special = self.session.system.special;
        let token = stage!(clock, Sampling, {
            match self.options.limits.only_frames {
                true => special.speech,
                false => choose(&self.session.system, &with_prompt),
            }
        });
        let frame = match token {
            _ if token == special.speech => Some(self.frame(with_prompt, without)?),
            _ => {
                // No frame came of what the second branch took.
                let seen = self.session.other.len();
                let kept = match token == special.start {
                    true => 0,
                    false => seen.saturating_sub(1),
                };
                self.session.other.go_back(kept)?;
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

    /// One visit of each layer for both branches: their last rows after the final norm.
    fn pass(&mut self) -> Result<(Vec<f32>, Option<Vec<f32>>), EngineError> {
        let has_both = self.options.has_both();
        let SpeechSession {
            session,
            own,
            other,
            system,
            ..
        } = &mut *self.session;
        let start = [system.special.start];
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
        let mut row = |at| {
            let mut row = vec![0.0; system.config.head.hidden];
            session.passes.normed(at, &mut row).map(|()| row)
        };
        let with_prompt = row(last)?;
        let without = has_both.then(|| row(last + 1)).transpose()?;
        own.tokens.extend(tokens);
        if has_both {
            other.tokens.extend(alone);
        }
        Ok((with_prompt, without))
    }

    /// A frame of sound, and what the language model takes of it.
    fn frame(
        &mut self,
        with_prompt: Vec<f32>,
        without: Option<Vec<f32>>,
    ) -> Result<Frame, EngineError> {
        let session = &mut *self.session;
        let clock = &mut session.session.passes.clock;
        let System {
            config,
            sizes,
            weights,
            special,
            scaling,
            bias,
            ..
        } = &session.system;
        let latent_size = config.acoustic.latent;
        let mut latent = vec![0.0; latent_size];
        let frame = self.options.limits.first_frame + self.before.frames();
        self.draws.frame(frame, &mut latent);
        let conditions = [&with_prompt[..], without.as_deref().unwrap_or_default()].concat();
        let (team, guidance) = (&session.team, self.options.guidance);
        let (schedule, scratch) = (&session.schedule, &mut session.denoiser);
        stage!(clock, DiffusionHead, {
            let (shape, weights) = (&sizes.denoiser, &weights.denoiser);
            kernels::condition(team, shape, weights, &conditions, scratch);
            let branches = 1 + usize::from(without.is_some());
            let mut noisy = vec![0.0; branches * latent_size];
            let (mut found, mut off) = (Found::default(), noisy.clone());
            for at in 0..schedule.len() {
                for row in noisy.chunks_exact_mut(latent_size) {
                    row.copy_from_slice(&latent);
                }
                denoise_step(team, shape, weights, at, &noisy, &mut off, scratch);
                let (guided, without) = off.split_at_mut(latent_size);
                for (with, without) in guided.iter_mut().zip(without) {
                    *with = *without + guidance * (*with - *without);
                }
                schedule.step(at, &mut latent, guided, &mut found);
            }
        });
        let divided: Vec<f32> = latent.iter().map(|z| z / scaling - bias).collect();
        let shape = &sizes.acoustic_decoder;
        let mut audio = vec![0.0; shape.hop()];
        let (state, scratch) = &mut session.decoder;
        stage!(clock, Codec, {
            let weights = &weights.decoder;
            kernels::decode(team, shape, weights, state, &divided, &mut audio, scratch);
        });
        let shape = &sizes.semantic_encoder;
        let mut semantic = vec![0.0; shape.latent];
        let (state, scratch) = &mut session.semantic;
        stage!(clock, SemanticEncoder, {
            let weights = &weights.semantic;
            encode(team, shape, weights, state, &audio, &mut semantic, scratch);
        });
        let speech = special.speech;
        self.next = Next::Row(speech, session.row_of(&latent, &semantic)?);
        let mut stages = vec![
            (LATENT.into(), latent),
            (SEMANTIC.into(), semantic),
            (WITH_PROMPT.into(), with_prompt),
        ];
        stages.extend(without.map(|row| (WITHOUT.into(), row)));
        Ok(Frame {
            loudness: loudness(&audio),
            audio,
            stages,
        })
    }
}

/// The likeliest of what may be said.
fn choose(system: &System<'_>, row: &[f32]) -> u32 {
    let logits = system.head_rows.chunks_exact(row.len());
    let logits = logits.map(|head| {
        let products = head
            .iter()
            .zip(row)
            .map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum::<f64>()
    });
    let mut best = (system.special.eos, f64::NEG_INFINITY);
    for (token, logit) in system.special.all().into_iter().zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

impl Iterator for Speaking<'_, '_> {
    type Item = Result<Said, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.session.session.passes.forget_measured();
        if self.ending.is_some() {
            return None;
        }
        let said = self.say();
        given(said, &mut self.ending)
    }
}

impl PartSpeaking for Speaking<'_, '_> {
    fn ending(&self) -> Option<Ending> {
        self.ending
    }
    fn said(&self) -> SaidBefore {
        let mut said = self.before.clone();
        past::keep(&mut said, &self.session.decoder.0, &self.session.semantic.0);
        said
    }
    fn measured(&self) -> &[Measured] {
        self.session.session.measured()
    }
}

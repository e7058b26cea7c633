//! A prompt spoken: a token at a time, and a frame of sound for each that is one of speech.

use std::time::{Duration, Instant};

use kernels::{denoise_step, encode};

use super::noise::{Draws, Noise};
use super::past::SaidBefore;
use super::runaway::{Runaway, Watch, loudness};
use super::schedule::Found;
use super::session::{Prompt, SpeechSession, System};
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::profile::{PassKind, Timing, Totals, stage};
use crate::run::past::Measured;

/// How to speak.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakOptions {
    /// How much the first condition counts over the second.
    pub guidance: f32,
    /// The most tokens.
    pub max_new_tokens: usize,
    pub noise: Noise,
    /// Frames of parts that were spoken before: their noise is taken.
    pub first_frame: usize,
    /// Seconds that it should take. Speech that runs away from them is stopped; `None`: it is not.
    pub expected_s: Option<f64>,
}

impl Default for SpeakOptions {
    fn default() -> Self {
        Self {
            guidance: 1.3,
            max_new_tokens: usize::MAX,
            noise: Noise::default(),
            first_frame: 0,
            expected_s: None,
        }
    }
}

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

/// A frame of speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub audio: Vec<f32>,
    /// The root of its mean square.
    pub loudness: f32,
    pub latent: Vec<f32>,
    pub semantic: Vec<f32>,
    /// The language model's last rows, with the prompt and without.
    pub with_prompt: Vec<f32>,
    pub without: Vec<f32>,
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

impl SpeechSession<'_> {
    /// What all that was spoken has come to.
    pub fn report(&self) -> SpeechReport {
        let tally = &self.tally;
        let startup = &self.session.passes.startup;
        SpeechReport {
            tokens: tally.tokens,
            frames: tally.frames,
            first_audio: tally.first_audio,
            totals: tally.totals,
            timing: Timing::new(startup, tally.totals, tally.generate, tally.first_audio),
        }
    }

    /// The next report begins here.
    pub fn forget_report(&mut self) {
        self.tally = Tally::default();
    }
}

impl<'s, 'm> Speaking<'s, 'm> {
    pub(super) fn new(
        session: &'s mut SpeechSession<'m>,
        next: Next,
        before: SaidBefore,
        options: SpeakOptions,
    ) -> Self {
        if session.tally.tokens == 0 {
            session.tally.started = Instant::now();
        }
        let config = session.system.config;
        let mut draws = Draws::new(options.noise.clone());
        draws.skip_frames(
            options.first_frame + before.frames(),
            config.acoustic.latent,
        );
        let frame_s = config.acoustic.hop() as f64 / config.sample_rate as f64;
        let watch = options.expected_s.map(|expected| {
            let mut watch = Watch::new(expected, frame_s);
            watch.made(before.frames());
            watch
        });
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

    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What was said of this prompt, to go on from it later.
    pub fn said(&self) -> SaidBefore {
        let mut said = self.before.clone();
        said.keep(&self.session.decoder.0, &self.session.semantic.0);
        said
    }

    /// The passes of which all is known since `next` was called before.
    pub fn measured(&self) -> &[Measured] {
        self.session.session.measured()
    }

    fn say(&mut self) -> Result<Option<Said>, EngineError> {
        let said = self.before.tokens.len();
        if said >= self.options.max_new_tokens {
            self.ending = Some(Ending::MaxNewTokens);
            return Ok(None);
        }
        if said > 0 && self.session.own.room() == 0 {
            self.ending = Some(Ending::ContextFull);
            return Ok(None);
        }
        let rows = self.pass()?;
        let [with_prompt, without] = rows;
        let clock = &mut self.session.session.passes.clock;
        let token = stage!(clock, Sampling, choose(&self.session.system, &with_prompt));
        let special = self.session.system.special;
        let frame = match token {
            _ if token == special.speech => Some(self.frame(with_prompt, without)?),
            _ => {
                // No frame came of what the second branch took.
                let seen = self.session.other.len();
                let kept = match token == special.start {
                    true => 0,
                    false => seen - 1,
                };
                self.session.other.go_back(kept)?;
                self.next = Next::Token(token);
                None
            }
        };
        self.before.add(token, frame.as_ref());
        self.session.session.passes.end_pass()?;
        self.count(frame.is_some());
        if token == special.eos {
            self.ending = Some(Ending::EndOfText);
        }
        if let (Some(watch), Some(frame)) = (&mut self.watch, &frame)
            && let Some(why) = watch.frame(frame.loudness, &frame.with_prompt)
        {
            self.ending = Some(Ending::Runaway(why));
        }
        Ok(Some(Said { token, frame }))
    }

    fn count(&mut self, spoke: bool) {
        let session = &mut *self.session;
        let tally = &mut session.tally;
        tally.tokens += 1;
        if spoke {
            tally.frames += 1;
            (tally.first_audio).get_or_insert_with(|| tally.started.elapsed());
        }
        let now = Instant::now();
        for pass in session.session.measured() {
            tally.totals.add(&pass.timing, &pass.loads);
            if let (PassKind::Decode, Some(last)) = (pass.timing.kind, tally.last) {
                tally.generate += now - last;
            }
        }
        tally.last = Some(now);
    }

    /// One visit of each layer for both branches: their last rows after the final norm.
    fn pass(&mut self) -> Result<[Vec<f32>; 2], EngineError> {
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
        session.passes.blocks(kind, 1, &mut runs)?;
        let width = system.config.head.hidden;
        let mut rows = [vec![0.0; width], vec![0.0; width]];
        for (at, row) in rows.iter_mut().enumerate() {
            session.passes.normed(tokens.len() - 1 + at, row)?;
        }
        own.tokens.extend(tokens);
        other.tokens.extend(alone);
        Ok(rows)
    }

    /// A frame of sound, and what the language model takes of it.
    fn frame(&mut self, with_prompt: Vec<f32>, without: Vec<f32>) -> Result<Frame, EngineError> {
        let session = &mut *self.session;
        let clock = &mut session.session.passes.clock;
        let System {
            parts,
            config,
            sizes,
            special,
            scaling,
            bias,
            ..
        } = &session.system;
        let latent_size = config.acoustic.latent;
        let mut latent = vec![0.0; latent_size];
        let frame = self.options.first_frame + self.before.frames();
        self.draws.frame(frame, &mut latent);
        let conditions = [&with_prompt[..], &without].concat();
        let (team, guidance) = (&session.team, self.options.guidance);
        let (schedule, scratch) = (&session.schedule, &mut session.denoiser);
        stage!(clock, DiffusionHead, {
            parts.head.open(|head| {
                let weights = head.denoiser(&sizes.denoiser);
                kernels::condition(team, &sizes.denoiser, &weights, &conditions, scratch);
                let (mut found, mut off) = (Found::default(), vec![0.0; 2 * latent_size]);
                for at in 0..schedule.len() {
                    let both = [&latent[..], &latent].concat();
                    let shape = &sizes.denoiser;
                    denoise_step(team, shape, &weights, at, &both, &mut off, scratch);
                    let (with, without) = off.split_at(latent_size);
                    let guided = with.iter().zip(without);
                    let guided: Vec<f32> = guided
                        .map(|(with, without)| without + guidance * (with - without))
                        .collect();
                    schedule.step(at, &mut latent, &guided, &mut found);
                }
            })?;
        });
        let divided: Vec<f32> = latent.iter().map(|z| z / scaling - bias).collect();
        let shape = &sizes.acoustic_decoder;
        let mut audio = vec![0.0; shape.hop()];
        let (state, scratch) = &mut session.decoder;
        stage!(clock, Codec, {
            parts.acoustic_decoder.open(|part| {
                let weights = part.codec(shape);
                kernels::decode(team, shape, &weights, state, &divided, &mut audio, scratch);
            })?;
        });
        let shape = &sizes.semantic_encoder;
        let mut semantic = vec![0.0; shape.latent];
        let (state, scratch) = &mut session.semantic;
        stage!(clock, SemanticEncoder, {
            parts.semantic_encoder.open(|part| {
                let weights = part.codec(shape);
                encode(team, shape, &weights, state, &audio, &mut semantic, scratch);
            })?;
        });
        let speech = special.speech;
        self.next = Next::Row(speech, session.row_of(&latent, &semantic)?);
        Ok(Frame {
            loudness: loudness(&audio),
            audio,
            latent,
            semantic,
            with_prompt,
            without,
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
        if self.ending.is_some() {
            return None;
        }
        self.session.session.passes.forget_measured();
        match self.say() {
            Ok(said) => said.map(Ok),
            Err(EngineError::Interrupted) => {
                self.ending = Some(Ending::Interrupted);
                None
            }
            Err(error) => {
                self.ending = Some(Ending::Failed);
                Some(Err(error))
            }
        }
    }
}

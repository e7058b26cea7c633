//! A script spoken: the prompt read, then a token at a time, and a frame of sound for each that is
//! one of speech.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kernels::{
    CodecScratch, CodecState, ConnectScratch, DenoiserScratch, Team, connect, denoise_step, encode,
};
use loader::Component;

use super::model::{Parts, Speech};
use super::noise::{Draws, Noise};
use super::parts::Open;
use super::schedule::{Found, Schedule};
use super::script::{self, Script};
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::{PassKind, Recording, Timing, Totals, stage};
use crate::run::past::Measured;
use crate::run::sequence::Sequence;
use crate::run::session::Session;

/// A voice, heard once.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Means of its frames.
    latents: Vec<f32>,
    frames: usize,
}

/// A script in voices, as the model takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Which of them stand for frames of voices.
    given: Vec<usize>,
    /// What these are.
    rows: Vec<f32>,
}

/// How to speak.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakOptions {
    /// How much the first condition counts over the second.
    pub guidance: f32,
    /// The most tokens.
    pub max_new_tokens: usize,
    pub noise: Noise,
}

impl Default for SpeakOptions {
    fn default() -> Self {
        Self {
            guidance: 1.3,
            max_new_tokens: usize::MAX,
            noise: Noise::default(),
        }
    }
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    EndOfText,
    MaxNewTokens,
    ContextFull,
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
    pub latent: Vec<f32>,
    pub semantic: Vec<f32>,
    /// The language model's last rows, with the prompt and without.
    pub with_prompt: Vec<f32>,
    pub without: Vec<f32>,
}

/// See the module.
#[derive(Debug)]
pub struct SpeechSession<'m> {
    session: Session<'m>,
    own: Sequence,
    /// Has seen the output alone, since the last start.
    other: Sequence,
    system: System<'m>,
    team: Arc<Team>,
    schedule: Schedule,
    encoder: (CodecState, CodecScratch),
    decoder: (CodecState, CodecScratch),
    semantic: (CodecState, CodecScratch),
    denoiser: DenoiserScratch,
    connector: ConnectScratch,
}

/// What does not change.
#[derive(Debug)]
struct System<'m> {
    parts: &'m Parts,
    config: &'m loader::VibeVoiceConfig,
    sizes: &'m super::model::Sizes,
    tokenizer: &'m crate::text::Tokenizer,
    special: script::Special,
    head_rows: &'m [f32],
    scaling: f32,
    bias: f32,
}

impl Voice {
    pub fn frames(&self) -> usize {
        self.frames
    }
}

impl<'m> SpeechSession<'m> {
    pub(super) fn new(speech: &'m mut Speech) -> Result<Self, EngineError> {
        let team = speech.team();
        let Speech {
            language,
            parts,
            config,
            sizes,
            steps,
            tokenizer,
            special,
            head_rows,
            scaling,
            bias,
        } = speech;
        let mut session = language.session()?;
        let (own, other) = (session.take_own()?, session.sequence()?);
        let codec = |shape, scratch| (CodecState::new(shape), CodecScratch::sized(scratch));
        let schedule = Schedule::new(config.head.train_steps, *steps);
        let mut denoiser = DenoiserScratch::sized(&sizes.denoiser_scratch);
        parts.head.open(|head| {
            let (shape, times) = (&sizes.denoiser, schedule.times());
            kernels::embed_times(&team, shape, &head.denoiser(shape), &times, &mut denoiser);
        })?;
        Ok(Self {
            encoder: codec(&sizes.acoustic_encoder, &sizes.encoder_scratch),
            decoder: codec(&sizes.acoustic_decoder, &sizes.decoder_scratch),
            semantic: codec(&sizes.semantic_encoder, &sizes.semantic_scratch),
            connector: ConnectScratch::sized(&sizes.connect_scratch),
            system: System {
                parts,
                config,
                sizes,
                tokenizer,
                special: *special,
                head_rows,
                scaling: *scaling,
                bias: *bias,
            },
            schedule,
            denoiser,
            session,
            own,
            other,
            team,
        })
    }

    pub fn config(&self) -> &loader::VibeVoiceConfig {
        self.system.config
    }

    /// The language model.
    pub fn model(&self) -> &Model {
        self.session.model()
    }

    /// Setting this ends the pass under way.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.session.cancel_with(flag);
    }

    pub fn watch_cores(&mut self) {
        self.session.watch_cores();
    }

    pub fn record(&mut self) {
        self.session.record();
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }

    /// Hears a voice: sound of the model's rate, whose loudness is as it should be.
    pub fn hear(&mut self, sound: &[f32]) -> Result<Voice, EngineError> {
        let System { parts, sizes, .. } = &self.system;
        let shape = &sizes.acoustic_encoder;
        let frames = sound.len().div_ceil(shape.hop());
        let mut padded = sound.to_vec();
        padded.resize(frames * shape.hop(), 0.0);
        let mut latents = vec![0.0; frames * shape.latent];
        let (state, scratch) = &mut self.encoder;
        state.reset();
        parts.acoustic_encoder.open(|part| {
            let weights = part.codec(shape);
            encode(
                &self.team,
                shape,
                &weights,
                state,
                &padded,
                &mut latents,
                scratch,
            );
        })?;
        Ok(Voice { latents, frames })
    }

    /// The prompt of a script in these voices, bound in their order; more than there are speakers are
    /// left out.
    pub fn prompt(
        &mut self,
        script: &Script,
        voices: &[Voice],
        noise: &Noise,
    ) -> Result<Prompt, EngineError> {
        let voices = &voices[..voices.len().min(script.speakers())];
        let frames: Vec<usize> = voices.iter().map(|voice| voice.frames).collect();
        let System {
            tokenizer, special, ..
        } = self.system;
        let (tokens, given) = script::prompt(script, &frames, tokenizer, special)?;
        let mut draws = Draws::new(noise.clone());
        let scales: Vec<f32> = (0..voices.len()).map(|at| draws.voice_scale(at)).collect();
        let most = frames.iter().copied().max().unwrap_or(0);
        let mut rows = Vec::new();
        for (at, (voice, scale)) in voices.iter().zip(scales).enumerate() {
            let latent = self.system.config.acoustic.latent;
            let mut all = vec![0.0; most * latent];
            draws.voice(at, most, latent, &mut all);
            let amount = self.system.config.acoustic.noise_std as f32 * scale;
            let drawn = voice.latents.iter().zip(&all);
            let scaled: Vec<f32> = drawn
                .map(|(mean, noise)| mean + amount * noise)
                .map(|latent| (latent + self.system.bias) * self.system.scaling)
                .collect();
            rows.extend(self.connected(Component::AcousticConnector, &scaled)?);
        }
        self.session.model().blueprint().check_tokens(&tokens, 0)?;
        Ok(Prompt {
            tokens,
            given,
            rows,
        })
    }

    /// Latents as rows of the language model.
    fn connected(&mut self, which: Component, latents: &[f32]) -> Result<Vec<f32>, EngineError> {
        let System { parts, config, .. } = &self.system;
        let (part, latent) = match which {
            Component::SemanticConnector => (&parts.semantic_connector, config.semantic.latent),
            _ => (&parts.acoustic_connector, config.acoustic.latent),
        };
        let mut out = vec![0.0; latents.len() / latent * config.head.hidden];
        let (team, scratch) = (&self.team, &mut self.connector);
        part.open(|part| {
            connect_through(team, part, config.connector_eps, latents, &mut out, scratch)
        })?;
        Ok(out)
    }

    /// Speaks. What it says comes token by token.
    pub fn speak(
        &mut self,
        prompt: Prompt,
        options: SpeakOptions,
    ) -> Result<Speaking<'_, 'm>, EngineError> {
        self.own.go_back(0)?;
        self.other.go_back(0)?;
        self.decoder.0.reset();
        self.semantic.0.reset();
        self.session.passes.begin()?;
        Ok(Speaking {
            draws: Draws::new(options.noise.clone()),
            session: self,
            next: Next::Prompt(prompt),
            options,
            said: 0,
            frames: 0,
            ending: None,
            started: Instant::now(),
            first_audio: None,
            generating: None,
            totals: Totals::default(),
        })
    }
}

fn connect_through(
    team: &Team,
    part: Open<'_>,
    eps: f64,
    x: &[f32],
    out: &mut [f32],
    scratch: &mut ConnectScratch,
) {
    connect(
        team,
        part.matrix("linear_1.weight"),
        part.vector("linear_1.bias"),
        part.vector("act.weight"),
        eps as f32,
        part.matrix("linear_2.weight"),
        part.vector("linear_2.bias"),
        x,
        out,
        scratch,
    );
}

/// What the language model takes next.
#[derive(Debug)]
enum Next {
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
    said: usize,
    frames: usize,
    ending: Option<Ending>,
    started: Instant,
    first_audio: Option<Duration>,
    /// When the prompt's pass was over, and the last one.
    generating: Option<(Instant, Instant)>,
    totals: Totals,
}

/// What speaking came to.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechReport {
    pub tokens: usize,
    pub frames: usize,
    pub ending: Option<Ending>,
    /// From the call that began to the first frame of sound.
    pub first_audio: Option<Duration>,
    pub totals: Totals,
    pub timing: Timing,
}

impl Speaking<'_, '_> {
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What it has come to so far.
    pub fn report(&self) -> SpeechReport {
        let generate = self.generating.map(|(from, to)| to.duration_since(from));
        let startup = &self.session.session.passes.startup;
        let generate = generate.unwrap_or_default();
        SpeechReport {
            tokens: self.said,
            frames: self.frames,
            ending: self.ending,
            first_audio: self.first_audio,
            totals: self.totals,
            timing: Timing::new(startup, self.totals, generate, self.first_audio),
        }
    }

    /// The passes of which all is known since `next` was called before.
    pub fn measured(&self) -> &[Measured] {
        self.session.session.measured()
    }

    fn say(&mut self) -> Result<Option<Said>, EngineError> {
        if self.said >= self.options.max_new_tokens {
            self.ending = Some(Ending::MaxNewTokens);
            return Ok(None);
        }
        if self.said > 0 && self.session.own.room() == 0 {
            self.ending = Some(Ending::ContextFull);
            return Ok(None);
        }
        let rows = self.pass()?;
        let [with_prompt, without] = rows;
        let clock = &mut self.session.session.passes.clock;
        let token = stage!(clock, Sampling, choose(&self.session.system, &with_prompt));
        let special = self.session.system.special;
        self.said += 1;
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
        self.session.session.passes.end_pass()?;
        let now = Instant::now();
        self.generating.get_or_insert((now, now)).1 = now;
        if frame.is_some() {
            self.first_audio.get_or_insert_with(|| now - self.started);
        }
        for pass in self.session.session.measured() {
            self.totals.add(&pass.timing, &pass.loads);
        }
        if token == special.eos {
            self.ending = Some(Ending::EndOfText);
        }
        Ok(Some(Said { token, frame }))
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
        self.draws.frame(self.frames, &mut latent);
        self.frames += 1;
        let conditions = [&with_prompt[..], &without].concat();
        let (team, guidance) = (&session.team, self.options.guidance);
        let (schedule, scratch) = (&session.schedule, &mut session.denoiser);
        stage!(clock, DiffusionHead, {
            parts.head.open(|head| {
                let weights = head.denoiser(&sizes.denoiser);
                kernels::condition(team, &sizes.denoiser, &weights, &conditions, scratch);
                let (mut found, mut off) = (Found::default(), vec![0.0; 2 * latent_size]);
                for at in 0..schedule.times().len() {
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
        let mut row = session.connected(Component::AcousticConnector, &latent)?;
        let heard = session.connected(Component::SemanticConnector, &semantic)?;
        row.iter_mut()
            .zip(heard)
            .for_each(|(row, heard)| *row += heard);
        self.next = Next::Row(speech, row);
        Ok(Frame {
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

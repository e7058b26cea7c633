//! A session of a system that speaks: voices are heard, a script and voices become a prompt, and a
//! prompt is spoken.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kernels::{CodecScratch, CodecState, ConnectScratch, DenoiserScratch, Team, connect, encode};
use loader::Component;

use super::model::{Parts, Speech};
use super::noise::{Draws, Noise};
use super::parts::Open;
use super::schedule::Schedule;
use super::script::{self, Script};
use super::speaking::{SpeakOptions, Speaking};
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::Recording;
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
    pub(super) given: Vec<usize>,
    /// What these are.
    pub(super) rows: Vec<f32>,
}

/// See the module.
#[derive(Debug)]
pub struct SpeechSession<'m> {
    pub(super) session: Session<'m>,
    pub(super) own: Sequence,
    /// Has seen the output alone, since the last start.
    pub(super) other: Sequence,
    pub(super) system: System<'m>,
    pub(super) team: Arc<Team>,
    pub(super) schedule: Schedule,
    pub(super) encoder: (CodecState, CodecScratch),
    pub(super) decoder: (CodecState, CodecScratch),
    pub(super) semantic: (CodecState, CodecScratch),
    pub(super) denoiser: DenoiserScratch,
    pub(super) connector: ConnectScratch,
}

/// What does not change.
#[derive(Debug)]
pub(super) struct System<'m> {
    pub(super) parts: &'m Parts,
    pub(super) config: &'m loader::VibeVoiceConfig,
    pub(super) sizes: &'m super::model::Sizes,
    pub(super) tokenizer: &'m crate::text::Tokenizer,
    pub(super) special: script::Special,
    pub(super) head_rows: &'m [f32],
    pub(super) scaling: f32,
    pub(super) bias: f32,
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
    pub(super) fn connected(
        &mut self,
        which: Component,
        latents: &[f32],
    ) -> Result<Vec<f32>, EngineError> {
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
        Ok(Speaking::new(self, prompt, options))
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

//! A session of a system that speaks: voices are heard, a script and voices become a prompt, and a
//! prompt is spoken.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kernels::{
    Between, CodecScratch, CodecState, CodecWeights, ConnectScratch, DenoiserScratch,
    DenoiserWeights, Team, connect, encode,
};
use loader::Component;

use super::model::{Parts, Speech};
use super::noise::{Draws, Noise};
use super::past;
use super::prompt;
use super::schedule::Schedule;
use super::speaking::{Next, SpeakOptions, Speaking};
use super::weights;
use crate::error::EngineError;
use crate::model::Model;
use crate::pipelines::speech::cut::{FRAMES_PER_S_MAX, PartLimit};
use crate::pipelines::speech::part::Part;
use crate::pipelines::speech::said::{SaidBefore, Tally};
use crate::pipelines::speech::script::Script;
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

impl Voice {
    /// What [`Voice::latents`] gave; `None` where it is no whole number of frames, or not of numbers.
    pub fn of_latents(latents: Vec<f32>, latent: usize) -> Option<Self> {
        let whole = latent > 0 && !latents.is_empty() && latents.len().is_multiple_of(latent);
        let fine = whole && latents.iter().all(|number| number.is_finite());
        fine.then(|| Self {
            frames: latents.len() / latent,
            latents,
        })
    }

    pub fn latents(&self) -> &[f32] {
        &self.latents
    }
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

/// The state and the working memory of both branches, the codecs and the head.
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
    pub(super) tally: Tally,
}

/// What does not change.
#[derive(Debug)]
pub(super) struct System<'m> {
    pub(super) parts: &'m Parts,
    pub(super) config: &'m loader::VibeVoiceConfig,
    pub(super) sizes: &'m super::model::Sizes,
    pub(super) weights: PartWeights<'m>,
    pub(super) tokenizer: &'m crate::text::Tokenizer,
    pub(super) special: prompt::Special,
    pub(super) head_rows: &'m [f32],
    pub(super) scaling: f32,
    pub(super) bias: f32,
}

/// The weights of what stands beside the language model.
#[derive(Debug)]
pub(super) struct PartWeights<'m> {
    pub encoder: CodecWeights<'m>,
    pub decoder: CodecWeights<'m>,
    pub semantic: CodecWeights<'m>,
    pub denoiser: DenoiserWeights<'m>,
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
        let weights = PartWeights {
            encoder: weights::codec(&parts.acoustic_encoder, &sizes.acoustic_encoder),
            decoder: weights::codec(&parts.acoustic_decoder, &sizes.acoustic_decoder),
            semantic: weights::codec(&parts.semantic_encoder, &sizes.semantic_encoder),
            denoiser: weights::denoiser(&parts.head, &sizes.denoiser),
        };
        let (shape, times) = (&sizes.denoiser, schedule.times());
        kernels::embed_times(&team, shape, &weights.denoiser, &times, &mut denoiser);
        Ok(Self {
            encoder: codec(&sizes.acoustic_encoder, &sizes.encoder_scratch),
            decoder: codec(&sizes.acoustic_decoder, &sizes.decoder_scratch),
            semantic: codec(&sizes.semantic_encoder, &sizes.semantic_scratch),
            connector: ConnectScratch::sized(&sizes.connect_scratch),
            system: System {
                parts,
                config,
                sizes,
                weights,
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
            tally: Tally::default(),
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
        let shape = &self.system.sizes.acoustic_encoder;
        let frames = sound.len().div_ceil(shape.hop());
        let mut padded = sound.to_vec();
        padded.resize(frames * shape.hop(), 0.0);
        let mut latents = vec![0.0; frames * shape.latent];
        let (state, scratch) = &mut self.encoder;
        state.reset();
        let weights = &self.system.weights.encoder;
        encode(
            &self.team,
            shape,
            weights,
            state,
            &padded,
            &mut latents,
            scratch,
        );
        Ok(Voice { latents, frames })
    }

    /// The prompt of a script in these voices: those of its speakers are taken.
    pub fn prompt(
        &mut self,
        script: &Script,
        voices: &[Voice],
        noise: &Noise,
    ) -> Result<Prompt, EngineError> {
        let bound = script.voices(voices.len()).into_iter();
        let voices: Vec<&Voice> = bound.filter_map(|at| voices.get(at)).collect();
        let frames: Vec<usize> = voices.iter().map(|voice| voice.frames).collect();
        let System {
            tokenizer, special, ..
        } = self.system;
        let (tokens, given) = prompt::prompt(script, &frames, tokenizer, special)?;
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
        connect_through(team, part, config.connector_eps, latents, &mut out, scratch);
        Ok(out)
    }

    /// What the language model takes for a frame.
    pub(super) fn row_of(
        &mut self,
        latents: &[f32],
        semantics: &[f32],
    ) -> Result<Vec<f32>, EngineError> {
        let mut rows = self.connected(Component::AcousticConnector, latents)?;
        let heard = self.connected(Component::SemanticConnector, semantics)?;
        (rows.iter_mut().zip(heard)).for_each(|(row, heard)| *row += heard);
        Ok(rows)
    }

    /// The script in parts that the context has room for each, and that take no more than so many
    /// seconds, as estimated.
    pub fn parts(
        &self,
        script: &Script,
        voices: &[Voice],
        most_s: Option<f64>,
    ) -> Result<Vec<Script>, EngineError> {
        let bound = script.voices(voices.len()).into_iter();
        let frames = bound.filter_map(|at| voices.get(at)).map(Voice::frames);
        let System {
            tokenizer,
            special,
            config,
            ..
        } = self.system;
        let without = script.part(Vec::new());
        let frames: Vec<usize> = frames.collect();
        let (without, _) = prompt::prompt(&without, &frames, tokenizer, special)?;
        let context = self.own.len() + self.own.room();
        Ok(script.parts(PartLimit {
            seconds: most_s.unwrap_or(f64::INFINITY),
            tokens: context.saturating_sub(without.len()) as f64,
            frames_per_s: FRAMES_PER_S_MAX
                .min(config.sample_rate as f64 / config.acoustic.hop() as f64),
        }))
    }

    /// Speaks. What it says comes token by token.
    pub fn speak(
        &mut self,
        prompt: Prompt,
        options: SpeakOptions,
    ) -> Result<Speaking<'_, 'm>, EngineError> {
        self.begin()?;
        let before = SaidBefore::default();
        Ok(Speaking::new(self, Next::Prompt(prompt), before, options))
    }

    /// Goes on where speaking of this prompt was ended. What was said is read as a prompt is, so the
    /// last bits of what follows may be others than if it had not been ended.
    pub fn speak_on(
        &mut self,
        mut prompt: Prompt,
        said: SaidBefore,
        options: SpeakOptions,
    ) -> Result<Speaking<'_, 'm>, EngineError> {
        self.begin()?;
        let next = match said.tokens.is_empty() {
            true => Next::Prompt(prompt),
            false => {
                let read = past::read(&said, self, &mut prompt)?;
                self.session.passes.forget_measured();
                read
            }
        };
        Ok(Speaking::new(self, next, said, options))
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        self.own.go_back(0)?;
        self.other.go_back(0)?;
        self.decoder.0.reset();
        self.semantic.0.reset();
        self.session.passes.begin()
    }
}

fn connect_through(
    team: &Team,
    part: &Part,
    eps: f64,
    x: &[f32],
    out: &mut [f32],
    scratch: &mut ConnectScratch,
) {
    connect(
        team,
        part.matrix("linear_1.weight"),
        part.vector("linear_1.bias"),
        Between::Norm(part.vector("act.weight"), eps as f32),
        part.matrix("linear_2.weight"),
        part.vector("linear_2.bias"),
        x,
        out,
        scratch,
    );
}

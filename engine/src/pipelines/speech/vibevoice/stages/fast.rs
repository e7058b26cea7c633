//! The stages by the kernels, on the host.

use std::sync::Arc;

use kernels::{
    Between, CodecPart, CodecScratch, CodecScratchSize, CodecShape, CodecState, CodecWeights,
    ConnectScratch, ConnectScratchSize, DenoiserScratch, DenoiserScratchSize, DenoiserShape,
    DenoiserWeights, Level, Team, connect, denoise_step, encode,
};
use loader::{Component, VibeVoiceConfig};

use super::{Asked, BRANCHES, Known, LastRows, Made, Stages, VOICE_FRAMES};
use crate::error::EngineError;
use crate::pipelines::speech::part::{Part, StageType};
use crate::pipelines::speech::vibevoice::schedule::{Found, Schedule};
use crate::pipelines::speech::vibevoice::weights::{self, codec_shape, denoiser_shape};
use crate::profile::stage;
use crate::run::passes::Passes;

/// Shapes and working memory.
#[derive(Debug, Clone)]
pub struct Sizes {
    acoustic_encoder: CodecShape,
    acoustic_decoder: CodecShape,
    semantic_encoder: CodecShape,
    denoiser: DenoiserShape,
    encoder_scratch: CodecScratchSize,
    decoder_scratch: CodecScratchSize,
    semantic_scratch: CodecScratchSize,
    denoiser_scratch: DenoiserScratchSize,
    connect_scratch: ConnectScratchSize,
}

impl Sizes {
    pub fn of(config: &VibeVoiceConfig, threads: usize, steps: usize, stages: StageType) -> Self {
        let level = Level::detect();
        let acoustic_encoder = codec_shape(&config.acoustic, CodecPart::Encoder);
        let acoustic_decoder = codec_shape(&config.acoustic, CodecPart::Decoder);
        let semantic_encoder = codec_shape(&config.semantic, CodecPart::Encoder);
        let denoiser = denoiser_shape(&config.head);
        let codec = |shape, frames| CodecScratchSize::of(level, threads, shape, frames);
        let width = config.head.hidden;
        let denoising = DenoiserScratchSize::of(level, threads, &denoiser, BRANCHES, steps);
        Self {
            encoder_scratch: codec(&acoustic_encoder, VOICE_FRAMES),
            decoder_scratch: codec(&acoustic_decoder, 1),
            semantic_scratch: codec(&semantic_encoder, 1),
            denoiser_scratch: match stages {
                StageType::AsLoaded => denoising,
                StageType::Q8_0 => denoising.with_rounded(),
            },
            connect_scratch: ConnectScratchSize::of(level, threads, width, VOICE_FRAMES),
            acoustic_encoder,
            acoustic_decoder,
            semantic_encoder,
            denoiser,
        }
    }

    pub fn bytes(&self) -> u64 {
        let codecs = [
            &self.encoder_scratch,
            &self.decoder_scratch,
            &self.semantic_scratch,
        ];
        let scratch: usize = codecs.into_iter().map(CodecScratchSize::bytes).sum();
        let shapes = [
            &self.acoustic_encoder,
            &self.acoustic_decoder,
            &self.semantic_encoder,
        ];
        let states: usize = shapes.into_iter().map(CodecState::bytes_for).sum();
        let rest = self.denoiser_scratch.bytes() + self.connect_scratch.bytes();
        (scratch + states + rest) as u64
    }
}

/// The weights, as the kernels take them.
#[derive(Debug)]
pub struct Parts {
    sizes: Sizes,
    acoustic_encoder: Part,
    acoustic_decoder: Part,
    semantic_encoder: Part,
    pub head: Part,
    acoustic_connector: Part,
    semantic_connector: Part,
}

impl Parts {
    pub fn load(
        sizes: Sizes,
        part: &mut dyn FnMut(Component) -> Result<Part, EngineError>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            sizes,
            acoustic_encoder: part(Component::AcousticEncoder)?,
            acoustic_decoder: part(Component::AcousticDecoder)?,
            semantic_encoder: part(Component::SemanticEncoder)?,
            head: part(Component::Head)?,
            acoustic_connector: part(Component::AcousticConnector)?,
            semantic_connector: part(Component::SemanticConnector)?,
        })
    }
}

/// The stages of a stream of speech, by the kernels.
#[derive(Debug)]
pub struct FastStages<'m> {
    known: &'m Known,
    parts: &'m Parts,
    team: Arc<Team>,
    weights: PartWeights<'m>,
    schedule: Schedule,
    encoder: (CodecState, CodecScratch),
    decoder: (CodecState, CodecScratch),
    semantic: (CodecState, CodecScratch),
    denoiser: DenoiserScratch,
    connector: ConnectScratch,
}

/// Where the weights are.
#[derive(Debug)]
struct PartWeights<'m> {
    encoder: CodecWeights<'m>,
    decoder: CodecWeights<'m>,
    semantic: CodecWeights<'m>,
    denoiser: DenoiserWeights<'m>,
}

impl<'m> FastStages<'m> {
    pub fn new(parts: &'m Parts, known: &'m Known, team: Arc<Team>) -> Self {
        let sizes = &parts.sizes;
        let codec = |shape, scratch| (CodecState::new(shape), CodecScratch::sized(scratch));
        let schedule = Schedule::new(known.config.head.train_steps, known.steps);
        let mut denoiser = DenoiserScratch::sized(&sizes.denoiser_scratch);
        let weights = PartWeights {
            encoder: weights::codec(&parts.acoustic_encoder, &sizes.acoustic_encoder),
            decoder: weights::codec(&parts.acoustic_decoder, &sizes.acoustic_decoder),
            semantic: weights::codec(&parts.semantic_encoder, &sizes.semantic_encoder),
            denoiser: weights::denoiser(&parts.head, &sizes.denoiser),
        };
        let (shape, times) = (&sizes.denoiser, schedule.times());
        kernels::embed_times(&team, shape, &weights.denoiser, &times, &mut denoiser);
        Self {
            encoder: codec(&sizes.acoustic_encoder, &sizes.encoder_scratch),
            decoder: codec(&sizes.acoustic_decoder, &sizes.decoder_scratch),
            semantic: codec(&sizes.semantic_encoder, &sizes.semantic_scratch),
            connector: ConnectScratch::sized(&sizes.connect_scratch),
            known,
            parts,
            team,
            weights,
            schedule,
            denoiser,
        }
    }

    /// A frame of sound, and what the language model takes of it.
    fn frame(
        &mut self,
        passes: &mut Passes<'_>,
        (with_prompt, without): (Vec<f32>, Option<Vec<f32>>),
        asked: Asked<'_>,
    ) -> Result<Made, EngineError> {
        let Known { scaling, bias, .. } = *self.known;
        let (sizes, weights) = (&self.parts.sizes, &self.weights);
        let (team, guidance) = (&self.team, asked.guidance);
        let clock = &mut passes.clock;
        let mut latent = asked.noise.to_vec();
        let latent_size = latent.len();
        let conditions = [&with_prompt[..], without.as_deref().unwrap_or_default()].concat();
        let (schedule, scratch) = (&self.schedule, &mut self.denoiser);
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
        let (state, scratch) = &mut self.decoder;
        stage!(clock, Codec, {
            let weights = &weights.decoder;
            kernels::decode(team, shape, weights, state, &divided, &mut audio, scratch);
        });
        let shape = &sizes.semantic_encoder;
        let mut semantic = vec![0.0; shape.latent];
        let (state, scratch) = &mut self.semantic;
        stage!(clock, SemanticEncoder, {
            let weights = &weights.semantic;
            encode(team, shape, weights, state, &audio, &mut semantic, scratch);
        });
        Ok(Made {
            row: self.rows_of(&latent, &semantic)?,
            latent,
            audio,
            semantic,
            with_prompt,
            without,
        })
    }
}

impl Stages for FastStages<'_> {
    fn begin(&mut self) {
        self.decoder.0.reset();
        self.semantic.0.reset();
    }

    fn hear(&mut self, sound: &[f32]) -> Result<Vec<f32>, EngineError> {
        let shape = &self.parts.sizes.acoustic_encoder;
        let mut latents = vec![0.0; sound.len() / shape.hop() * shape.latent];
        let (state, scratch) = &mut self.encoder;
        state.reset();
        let weights = &self.weights.encoder;
        encode(
            &self.team,
            shape,
            weights,
            state,
            sound,
            &mut latents,
            scratch,
        );
        Ok(latents)
    }

    fn connect(&mut self, which: Component, latents: &[f32]) -> Result<Vec<f32>, EngineError> {
        let config = &self.known.config;
        let (part, latent) = match which {
            Component::SemanticConnector => {
                (&self.parts.semantic_connector, config.semantic.latent)
            }
            _ => (&self.parts.acoustic_connector, config.acoustic.latent),
        };
        let mut out = vec![0.0; latents.len() / latent * config.head.hidden];
        connect(
            &self.team,
            part.matrix("linear_1.weight"),
            part.vector("linear_1.bias"),
            Between::Norm(part.vector("act.weight"), config.connector_eps as f32),
            part.matrix("linear_2.weight"),
            part.vector("linear_2.bias"),
            latents,
            &mut out,
            &mut self.connector,
        );
        Ok(out)
    }

    fn say(
        &mut self,
        passes: &mut Passes<'_>,
        last: LastRows,
        asked: Asked<'_>,
    ) -> Result<(u32, Option<Made>), EngineError> {
        let hidden = self.known.config.head.hidden;
        let mut row = |at| {
            let mut row = vec![0.0; hidden];
            passes.normed(at, &mut row).map(|()| row)
        };
        let with_prompt = row(last.with_prompt)?;
        let without = last.without.map(row).transpose()?;
        let speech = self.known.special.speech;
        let token = stage!(passes.clock, Sampling, {
            match asked.only_frames {
                true => speech,
                false => self.known.choose(&with_prompt),
            }
        });
        let made = (token == speech).then(|| self.frame(passes, (with_prompt, without), asked));
        Ok((token, made.transpose()?))
    }

    fn seen(&self) -> Result<[Vec<f32>; 2], EngineError> {
        Ok([&self.decoder, &self.semantic].map(|(state, _)| state.numbers().to_vec()))
    }

    fn go_on_from(&mut self, [decoder, hearer]: [&[f32]; 2]) -> Result<bool, EngineError> {
        let decoder = self.decoder.0.go_on_from(decoder);
        let hearer = self.semantic.0.go_on_from(hearer);
        Ok(decoder && hearer)
    }
}

//! A system that speaks: planned, then where it will live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::{
    CodecPart, CodecScratchSize, CodecShape, CodecState, ConnectScratchSize, DenoiserScratchSize,
    DenoiserShape, Level, Team,
};
use loader::{BlockLayout, Component, ComponentSource, VibeVoice, VibeVoiceConfig, Whole};

use super::prompt::Special;
use super::session::SpeechSession;
use super::weights::{codec_shape, denoiser_shape};
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::model::load::Progress;
use crate::model::options::{ModelOptions, Source};
use crate::model::{Blueprint, Model};
use crate::pipelines::speech::part::{Part, StageType, layout_of, numbers_of_rows};
use crate::pipelines::speech::tokenizer;
use crate::profile::MemoryLimit;
use crate::text::Tokenizer;

/// How to run it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechOptions {
    /// The language model's.
    pub model: ModelOptions,
    /// A folder with a tokenizer.json, or that file, where the checkpoint has none.
    pub tokenizer: Option<PathBuf>,
    /// From noise to a latent.
    pub steps: usize,
    /// What the diffusion head's layers are kept in.
    pub stages: StageType,
}

impl Default for SpeechOptions {
    fn default() -> Self {
        Self {
            model: ModelOptions::default(),
            tokenizer: None,
            steps: 10,
            stages: StageType::default(),
        }
    }
}

/// Matrices that `stages` is about: every step of a frame reads them.
fn is_stepped(name: &str) -> bool {
    name.contains(".ffn.")
}

/// How a component lies in memory.
fn layout(which: Component, component: &ComponentSource, stages: StageType) -> Arc<BlockLayout> {
    layout_of(component, stages, |name| {
        which == Component::Head && is_stepped(name)
    })
}

/// Rows under two conditions.
const BRANCHES: usize = 2;

/// Frames of a voice that are encoded together.
const VOICE_FRAMES: usize = 4;

/// What was asked for, and the plan that follows.
#[derive(Debug)]
pub struct SpeechBlueprint {
    pub language: Blueprint,
    system: VibeVoice,
    steps: usize,
    stages: StageType,
    tokenizer: Tokenizer,
    special: Special,
    sizes: Sizes,
}

/// Shapes and working memory of all that is not the language model.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub acoustic_encoder: CodecShape,
    pub acoustic_decoder: CodecShape,
    pub semantic_encoder: CodecShape,
    pub denoiser: DenoiserShape,
    pub encoder_scratch: CodecScratchSize,
    pub decoder_scratch: CodecScratchSize,
    pub semantic_scratch: CodecScratchSize,
    pub denoiser_scratch: DenoiserScratchSize,
    pub connect_scratch: ConnectScratchSize,
}

impl Sizes {
    fn of(config: &VibeVoiceConfig, threads: usize, steps: usize, stages: StageType) -> Self {
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

    fn bytes(&self) -> u64 {
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

impl SpeechBlueprint {
    pub fn new(path: &Path, options: &SpeechOptions) -> Result<Self, EngineError> {
        let system = VibeVoice::open(path)?;
        let asked = &options.model;
        if asked.kernels == Kernels::Clear {
            return Err(EngineError::OnlyFast);
        }
        let threads = asked.threads.unwrap_or_else(crate::physical_cores);
        let sizes = Sizes::of(&system.config, threads, options.steps, options.stages);
        let mut beside = sizes.bytes();
        for which in Component::ALL {
            let component = system.component(which, asked.dtype)?;
            beside += layout(which, &component, options.stages).slab_bytes() as u64;
        }
        let of_language = ModelOptions {
            sequences: BRANCHES,
            logit_rows: 1,
            // Only the rows of its head are read that a token may be drawn from.
            logits: false,
            kept_bytes: asked.kept_bytes + beside,
            verify: false,
            ..asked.clone()
        };
        let language = Blueprint::new(&Source::Speaking(path.into()), of_language)?;
        if language.on_device() {
            return Err(EngineError::RowsOnDevice);
        }
        let given = options.tokenizer.as_deref();
        let name = system.config.tokenizer_name.as_ref();
        let tokenizer = tokenizer::find(given, &language.checkpoint, name)?;
        Ok(Self {
            special: Special::of(&tokenizer)?,
            tokenizer,
            language,
            system,
            steps: options.steps,
            stages: options.stages,
            sizes,
        })
    }

    pub fn config(&self) -> &VibeVoiceConfig {
        &self.system.config
    }

    /// What stays beside the language model, with its bytes.
    pub fn beside(&self) -> Result<Vec<(&'static str, u64)>, EngineError> {
        let dtype = self.language.options.dtype;
        let parts = Component::ALL.into_iter();
        let parts = parts.map(|which| {
            let component = self.system.component(which, dtype)?;
            let layout = layout(which, &component, self.stages);
            Ok((which.name(), layout.slab_bytes() as u64))
        });
        let scratch = ("their working memory", self.sizes.bytes());
        parts.chain([Ok(scratch)]).collect()
    }
}

/// All that is not the language model.
#[derive(Debug)]
pub(super) struct Parts {
    pub acoustic_encoder: Part,
    pub acoustic_decoder: Part,
    pub semantic_encoder: Part,
    pub head: Part,
    pub acoustic_connector: Part,
    pub semantic_connector: Part,
}

/// A system that is loaded.
#[derive(Debug)]
pub struct Speech {
    pub(super) language: Model,
    pub(super) parts: Parts,
    pub(super) config: VibeVoiceConfig,
    pub(super) sizes: Sizes,
    pub(super) steps: usize,
    pub(super) tokenizer: Tokenizer,
    pub(super) special: Special,
    /// The rows of the language model's head for the tokens it may say.
    pub(super) head_rows: Vec<f32>,
    pub(super) scaling: f32,
    pub(super) bias: f32,
}

impl Speech {
    /// Plans and loads in one step.
    pub fn open(path: &Path, options: &SpeechOptions) -> Result<Self, EngineError> {
        Self::load(SpeechBlueprint::new(path, options)?, &mut |_| {})
    }

    /// Loads what was planned. `progress` is told of bytes as they arrive; there will be
    /// [`Speech::bytes_to_load`] of them.
    pub fn load(blueprint: SpeechBlueprint, progress: Progress<'_>) -> Result<Self, EngineError> {
        let SpeechBlueprint {
            language,
            system,
            steps,
            stages,
            tokenizer,
            special,
            sizes,
        } = blueprint;
        let dtype = language.options.dtype;
        let mut part = |which| {
            let component = system.component(which, dtype)?;
            let part = Part::load(&component, system.sources(), progress)?;
            part.laid_out(layout(which, &component, stages))
        };
        let parts = Parts {
            acoustic_encoder: part(Component::AcousticEncoder)?,
            acoustic_decoder: part(Component::AcousticDecoder)?,
            semantic_encoder: part(Component::SemanticEncoder)?,
            head: part(Component::Head)?,
            acoustic_connector: part(Component::AcousticConnector)?,
            semantic_connector: part(Component::SemanticConnector)?,
        };
        let head_rows = head_rows(&system, special)?;
        Ok(Self {
            language: Model::load(language, progress)?,
            parts,
            config: system.config.clone(),
            sizes,
            steps,
            tokenizer,
            special,
            head_rows,
            scaling: system.scaling(),
            bias: system.bias(),
        })
    }

    pub fn bytes_to_load(blueprint: &SpeechBlueprint) -> Result<u64, EngineError> {
        let mut bytes = Model::bytes_to_load(&blueprint.language)?;
        for which in Component::ALL {
            let component = blueprint.system.component(which, None)?;
            bytes += component.source.stored_bytes();
        }
        Ok(bytes)
    }

    /// Measures, once, how fast memory can be read, over the diffusion head's bytes, and counts what
    /// a frame reads of all parts. The reports of [`Speech::language`] then have it.
    pub fn measure_memory(&self) -> Result<MemoryLimit, EngineError> {
        let parts = &self.parts;
        let once = [
            &parts.acoustic_decoder,
            &parts.semantic_encoder,
            &parts.acoustic_connector,
            &parts.semantic_connector,
        ];
        let once: u64 = once.into_iter().map(Part::bytes).sum();
        let again = parts.head.bytes_of_weights(|name| {
            name.contains(".ffn.")
                || name.starts_with("noisy")
                || name == "final_layer.linear_2.weight"
        });
        let of_head = parts.head.bytes() + (self.steps as u64 - 1) * again;
        (self.language).measure_memory_over(Some(parts.head.slab()), once + of_head)
    }

    /// What reports are about.
    pub fn language(&self) -> &Model {
        &self.language
    }

    pub fn config(&self) -> &VibeVoiceConfig {
        &self.config
    }

    pub fn session(&mut self) -> Result<SpeechSession<'_>, EngineError> {
        SpeechSession::new(self)
    }

    pub(super) fn team(&self) -> Arc<Team> {
        Arc::clone(&self.language.team)
    }
}

/// The rows of the head for what may be said, in f32.
fn head_rows(system: &VibeVoice, special: Special) -> Result<Vec<f32>, EngineError> {
    let rows = system.language.rows(Whole::LmHead, None)?;
    let wanted = special.all();
    let vocabulary = system.language.config.vocab_size;
    for token in wanted {
        if token as usize >= vocabulary {
            return Err(EngineError::TokenOutOfRange {
                token,
                text: None,
                vocab_size: vocabulary,
            });
        }
    }
    numbers_of_rows(&rows, &wanted, system.language.config.hidden_size)
}

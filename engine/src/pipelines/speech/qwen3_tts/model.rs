//! A talker with its predictor and its codec: planned, then where they will live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::{
    ConnectScratchSize, Level, PredictorScratchSize, PredictorShape, RopeTable, Team,
    VocoderScratchSize, VocoderShape, VocoderState,
};
use loader::{DType, Qwen3Tts, Qwen3TtsComponent, Qwen3TtsConfig, Rows, Whole};

use super::session::TtsSession;
use super::weights::{predictor, predictor_shape, prepare, vocoder, vocoder_shape};
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::model::load::Progress;
use crate::model::options::{ModelOptions, Source};
use crate::model::{Blueprint, Model};
use crate::pipelines::speech::part::{Part, numbers_of_rows};
use crate::pipelines::speech::tokenizer;
use crate::profile::MemoryLimit;
use crate::text::Tokenizer;

/// How to run it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TtsOptions {
    /// The talker's.
    pub model: ModelOptions,
    /// A folder with a tokenizer, or its tokenizer.json, where the checkpoint has none.
    pub tokenizer: Option<PathBuf>,
}

/// Rows of the text track that are projected together.
const PROJECTED_ROWS: usize = 16;

/// What was asked for, and the plan that follows.
#[derive(Debug)]
pub struct TtsBlueprint {
    pub language: Blueprint,
    system: Qwen3Tts,
    tokenizer: Tokenizer,
    sizes: Sizes,
}

/// Shapes and working memory of all that is not the talker.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub predictor: PredictorShape,
    pub vocoder: VocoderShape,
    pub predictor_scratch: PredictorScratchSize,
    pub vocoder_scratch: VocoderScratchSize,
    pub project_scratch: ConnectScratchSize,
    /// Numbers of the codes' embedding.
    table: usize,
}

impl Sizes {
    fn of(config: &Qwen3TtsConfig, codes: usize, threads: usize) -> Self {
        let level = Level::detect();
        let predictor = predictor_shape(&config.predictor);
        let vocoder = vocoder_shape(&config.codec);
        let text = config.text_hidden;
        Self {
            predictor_scratch: PredictorScratchSize::of(level, threads, &predictor),
            vocoder_scratch: VocoderScratchSize::of(level, threads, &vocoder, 1),
            project_scratch: ConnectScratchSize::of(level, threads, text, PROJECTED_ROWS),
            table: codes * config.predictor.talker_hidden,
            predictor,
            vocoder,
        }
    }

    fn bytes(&self) -> u64 {
        let pairs = self.predictor.block.head_dim / 2;
        let all = [
            self.predictor_scratch.bytes(),
            self.vocoder_scratch.bytes(),
            self.project_scratch.bytes(),
            VocoderState::bytes_for(&self.vocoder),
            RopeTable::bytes_for(pairs, self.predictor.positions()),
            self.table * size_of::<f32>(),
        ];
        all.into_iter().sum::<usize>() as u64
    }
}

/// The codec computes in f32, whatever was asked for: what it stores is prepared in place.
fn dtype_of(which: Qwen3TtsComponent, asked: Option<DType>) -> Option<DType> {
    match which {
        Qwen3TtsComponent::CodecDecoder => Some(DType::F32),
        _ => asked,
    }
}

impl TtsBlueprint {
    pub fn new(path: &Path, options: &TtsOptions) -> Result<Self, EngineError> {
        let system = Qwen3Tts::open(path)?;
        let asked = &options.model;
        if asked.kernels == Kernels::Clear {
            return Err(EngineError::OnlyFast);
        }
        let threads = asked.threads.unwrap_or_else(crate::physical_cores);
        let sizes = Sizes::of(&system.config, system.talker.config.vocab_size, threads);
        let mut beside = sizes.bytes();
        for which in Qwen3TtsComponent::ALL {
            let component = system.component(which, dtype_of(which, asked.dtype))?;
            beside += component.source.slab_bytes() as u64;
        }
        let of_talker = ModelOptions {
            sequences: 1,
            logit_rows: 1,
            logits: true,
            kept_bytes: asked.kept_bytes + beside,
            verify: false,
            ..asked.clone()
        };
        let language = Blueprint::new(&Source::Speaking(path.into()), of_talker)?;
        if language.on_device() {
            return Err(EngineError::SpeechOnDevice);
        }
        let given = options.tokenizer.as_deref();
        let tokenizer = tokenizer::find(given, &language.checkpoint, None)?;
        Ok(Self {
            tokenizer,
            language,
            system,
            sizes,
        })
    }

    pub fn config(&self) -> &Qwen3TtsConfig {
        &self.system.config
    }

    /// What stays beside the talker, with its bytes.
    pub fn beside(&self) -> Result<Vec<(&'static str, u64)>, EngineError> {
        let dtype = self.language.options.dtype;
        let parts = Qwen3TtsComponent::ALL.into_iter().map(|which| {
            let component = self.system.component(which, dtype_of(which, dtype))?;
            let name = match which {
                Qwen3TtsComponent::CodecDecoder => "codec decoder, in f32",
                _ => which.name(),
            };
            Ok((name, component.source.slab_bytes() as u64))
        });
        let scratch = ("their working memory", self.sizes.bytes());
        parts.chain([Ok(scratch)]).collect()
    }

    pub fn bytes_to_load(&self) -> Result<u64, EngineError> {
        let mut bytes = Model::bytes_to_load(&self.language)?;
        for which in Qwen3TtsComponent::ALL {
            let component = self.system.component(which, None)?;
            bytes += component.source.stored_bytes();
        }
        Ok(bytes)
    }
}

/// All that is not the talker.
#[derive(Debug)]
pub(super) struct Parts {
    pub projection: Part,
    pub predictor: Part,
    pub codec: Part,
}

/// A system that is loaded.
#[derive(Debug)]
pub struct Tts {
    pub(super) talker: Model,
    pub(super) parts: Parts,
    pub(super) config: Qwen3TtsConfig,
    pub(super) sizes: Sizes,
    pub(super) tokenizer: Tokenizer,
    /// Of the text track; read where a text needs them.
    pub(super) text: Rows,
    /// Embeddings of the codes that the talker says.
    pub(super) codes: Vec<f32>,
}

impl Tts {
    /// Plans and loads in one step.
    pub fn open(path: &Path, options: &TtsOptions) -> Result<Self, EngineError> {
        Self::load(TtsBlueprint::new(path, options)?, &mut |_| {})
    }

    /// Loads what was planned. `progress` is told of bytes as they arrive; there will be
    /// [`TtsBlueprint::bytes_to_load`] of them.
    pub fn load(blueprint: TtsBlueprint, progress: Progress<'_>) -> Result<Self, EngineError> {
        let TtsBlueprint {
            language,
            system,
            tokenizer,
            sizes,
        } = blueprint;
        let asked = language.options.dtype;
        let mut part = |which| {
            let component = system.component(which, dtype_of(which, asked))?;
            Part::load(&component, system.sources(), progress)
        };
        let mut parts = Parts {
            projection: part(Qwen3TtsComponent::TextProjection)?,
            predictor: part(Qwen3TtsComponent::Predictor)?,
            codec: part(Qwen3TtsComponent::CodecDecoder)?,
        };
        parts.codec.prepare(|names, change| {
            prepare(&sizes.vocoder, names, change);
        });
        let codes = system.talker.rows(Whole::Embedding, None)?;
        let all: Vec<u32> = (0..system.talker.config.vocab_size as u32).collect();
        Ok(Self {
            text: system.text_rows(None)?,
            codes: numbers_of_rows(&codes, &all, system.config.predictor.talker_hidden)?,
            talker: Model::load(language, progress)?,
            config: system.config,
            parts,
            sizes,
            tokenizer,
        })
    }

    /// Measures, once, how fast memory can be read, over the predictor's bytes, and counts what a
    /// frame reads of all parts. The reports of [`Tts::talker`] then have it.
    pub fn measure_memory(&self) -> Result<MemoryLimit, EngineError> {
        let shape = &self.sizes.predictor;
        let of_predictor = predictor(&self.parts.predictor, shape).frame_bytes() as u64;
        let of_codec = vocoder(&self.parts.codec, &self.sizes.vocoder).bytes() as u64;
        let over = Some(self.parts.predictor.slab());
        self.talker
            .measure_memory_over(over, of_predictor + of_codec)
    }

    /// What reports are about.
    pub fn talker(&self) -> &Model {
        &self.talker
    }

    pub fn config(&self) -> &Qwen3TtsConfig {
        &self.config
    }

    pub fn session(&mut self) -> Result<TtsSession<'_>, EngineError> {
        TtsSession::new(self)
    }

    pub(super) fn team(&self) -> Arc<Team> {
        Arc::clone(&self.talker.team)
    }
}

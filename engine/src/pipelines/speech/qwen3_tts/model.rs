//! A talker with its predictor and its codec: planned, then where they will live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::Team;
use loader::{
    BlockLayout, ComponentSource, DType, Qwen3Tts, Qwen3TtsComponent, Qwen3TtsConfig, Rows, Whole,
};

use super::frames::{FramesSize, Parts};
use super::session::TtsSession;
use crate::error::EngineError;
use crate::model::load::Progress;
use crate::model::options::{ModelOptions, Source};
use crate::model::{Blueprint, Model};
use crate::pipelines::speech::part::{Part, StageType, layout_of, numbers_of_rows};
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
    /// What the predictor's matrices are kept in.
    pub stages: StageType,
}

/// Matrices that `stages` is about: every step of a frame reads them whole. Of embeddings it reads a row.
fn is_stepped(name: &str) -> bool {
    !name.contains("codec_embedding")
}

/// How a component lies in memory.
fn layout(
    which: Qwen3TtsComponent,
    component: &ComponentSource,
    stages: StageType,
) -> Arc<BlockLayout> {
    layout_of(component, stages, |name| {
        which == Qwen3TtsComponent::Predictor && is_stepped(name)
    })
}

/// What was asked for, and the plan that follows.
#[derive(Debug)]
pub struct TtsBlueprint {
    pub language: Blueprint,
    system: Qwen3Tts,
    stages: StageType,
    tokenizer: Tokenizer,
    frames: FramesSize,
}

impl TtsBlueprint {
    pub fn new(path: &Path, options: &TtsOptions) -> Result<Self, EngineError> {
        let system = Qwen3Tts::open(path)?;
        let asked = &options.model;
        let threads = asked.threads.unwrap_or_else(crate::physical_cores);
        options.stages.check(asked)?;
        let own = asked.dtype.or(DType::of(system.talker.encoding()));
        let of_device = asked.device.is_device().then_some(own).flatten();
        let frames = FramesSize::of(
            &system.config,
            asked.kernels,
            of_device,
            (threads, options.stages),
        );
        let beside = beside(&system, &frames, asked.dtype, options.stages)?;
        let of_talker = ModelOptions {
            sequences: 1,
            logit_rows: 1,
            logits: true,
            kept_bytes: asked.kept_bytes + beside.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            verify: false,
            ..asked.clone()
        };
        let language = Blueprint::new(&Source::Speaking(path.into()), of_talker)?;
        let given = options.tokenizer.as_deref();
        let tokenizer = tokenizer::find(given, &language.checkpoint, None)?;
        Ok(Self {
            tokenizer,
            language,
            system,
            stages: options.stages,
            frames,
        })
    }

    pub fn config(&self) -> &Qwen3TtsConfig {
        &self.system.config
    }

    /// What stays beside the talker, with its bytes.
    pub fn beside(&self) -> Result<Vec<(&'static str, u64)>, EngineError> {
        let dtype = self.language.options.dtype;
        beside(&self.system, &self.frames, dtype, self.stages)
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

/// What stays beside the talker, with its bytes.
fn beside(
    system: &Qwen3Tts,
    frames: &FramesSize,
    asked: Option<DType>,
    stages: StageType,
) -> Result<Vec<(&'static str, u64)>, EngineError> {
    let parts = Qwen3TtsComponent::ALL.into_iter().map(|which| {
        let component = system.component(which, frames.dtype(which, asked))?;
        let layout = layout(which, &component, stages);
        Ok((frames.name(which), layout.slab_bytes() as u64))
    });
    let mut all = parts.collect::<Result<Vec<_>, EngineError>>()?;
    let largest = all.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    let mut working = frames.bytes(largest);
    if frames.is_host() {
        // The embeddings of the codes that the talker says, which are the host's.
        let codes = system.talker.config.vocab_size * system.config.predictor.talker_hidden;
        working += (codes * size_of::<f32>()) as u64;
    }
    all.push(("their working memory", working));
    Ok(all)
}

/// A system that is loaded.
#[derive(Debug)]
pub struct Tts {
    pub(super) talker: Model,
    pub(super) parts: Parts,
    pub(super) config: Qwen3TtsConfig,
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
            stages,
            tokenizer,
            frames,
        } = blueprint;
        let asked = language.options.dtype;
        let size = frames.clone();
        let mut load = |which| {
            let component = system.component(which, size.dtype(which, asked))?;
            let part = Part::load(&component, system.sources(), progress)?;
            part.laid_out(layout(which, &component, stages))
        };
        let parts = Parts::load(frames, &system.config, language.place.device(), &mut load)?;
        let codes = system.talker.rows(Whole::Embedding, None)?;
        let all: Vec<u32> = (0..system.talker.config.vocab_size as u32).collect();
        Ok(Self {
            text: system.text_rows(None)?,
            codes: numbers_of_rows(&codes, &all, system.config.predictor.talker_hidden)?,
            talker: Model::load(language, progress)?,
            config: system.config,
            parts,
            tokenizer,
        })
    }

    /// Measures, once, how fast memory can be read, and counts what a frame reads of all parts. The
    /// reports of [`Tts::talker`] then have it.
    pub fn measure_memory(&self) -> Result<MemoryLimit, EngineError> {
        let (over, bytes) = self.parts.read_by_frame();
        self.talker.measure_memory_over(over, bytes)
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

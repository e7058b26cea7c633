//! A system that speaks: planned, then where it will live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::Team;
use loader::{BlockLayout, Component, ComponentSource, DType, VibeVoice, VibeVoiceConfig, Whole};

use super::prompt::Special;
use super::session::SpeechSession;
use super::stages::{Known, Sizes, Weights, frame_bytes};
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

/// Bytes of a component's weights.
fn bytes_of(
    sizes: &Sizes,
    which: Component,
    component: &ComponentSource,
    stages: StageType,
) -> u64 {
    match stages {
        StageType::AsLoaded => sizes.component_bytes(component),
        StageType::Q8_0 => layout(which, component, stages).slab_bytes() as u64,
    }
}

/// Sequences: with the prompt, and without.
const SEQUENCES: usize = 2;

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

impl SpeechBlueprint {
    pub fn new(path: &Path, options: &SpeechOptions) -> Result<Self, EngineError> {
        let system = VibeVoice::open(path)?;
        let asked = &options.model;
        options.stages.check(asked)?;
        let stored = DType::of(system.language.encoding());
        let mut sizes = Sizes::of(&system.config, asked, stored, options);
        let mut weights = 0;
        for which in Component::ALL {
            let component = system.component(which, sizes.dtype(asked.dtype))?;
            weights += bytes_of(&sizes, which, &component, options.stages);
            sizes.bring(&component);
        }
        let beside = weights + sizes.bytes();
        let of_language = ModelOptions {
            sequences: SEQUENCES,
            logit_rows: 1,
            // Only the rows of its head are read that a token may be drawn from.
            logits: false,
            kept_bytes: asked.kept_bytes + beside,
            verify: false,
            ..asked.clone()
        };
        let language = Blueprint::new(&Source::Speaking(path.into()), of_language)?;
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
        let dtype = self.sizes.dtype(self.language.options.dtype);
        let parts = Component::ALL.into_iter();
        let parts = parts.map(|which| {
            let component = self.system.component(which, dtype)?;
            let bytes = bytes_of(&self.sizes, which, &component, self.stages);
            Ok((which.name(), bytes))
        });
        let scratch = ("their working memory", self.sizes.bytes());
        parts.chain([Ok(scratch)]).collect()
    }
}

/// A system that is loaded.
#[derive(Debug)]
pub struct Speech {
    pub(super) language: Model,
    pub(super) weights: Weights,
    pub(super) known: Known,
    pub(super) tokenizer: Tokenizer,
    /// What a frame reads of all that is not the language model.
    frame_bytes: u64,
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
        let dtype = sizes.dtype(language.options.dtype);
        let head_rows = head_rows(&system, special)?;
        // First: it asks for all that was planned, and what follows has its room there.
        let language = Model::load(language, progress)?;
        let mut read = 0;
        let mut part = |which| -> Result<Part, EngineError> {
            let component = system.component(which, dtype)?;
            let part = Part::load(&component, system.sources(), progress)?;
            let part = part.laid_out(layout(which, &component, stages))?;
            read += frame_bytes(which, &part, steps);
            Ok(part)
        };
        let place = language.blueprint.place.as_ref();
        let weights = sizes.load(&system.config, place, &mut part)?;
        Ok(Self {
            language,
            weights,
            known: Known {
                config: system.config.clone(),
                special,
                head_rows,
                scaling: system.scaling(),
                bias: system.bias(),
                steps,
            },
            tokenizer,
            frame_bytes: read,
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
        let frame_bytes = self.frame_bytes;
        (self.weights).bytes_of_head(|bytes| self.language.measure_memory_over(bytes, frame_bytes))
    }

    /// What reports are about.
    pub fn language(&self) -> &Model {
        &self.language
    }

    pub fn config(&self) -> &VibeVoiceConfig {
        &self.known.config
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

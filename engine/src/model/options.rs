//! What a user asks for: a model, and how to run it. Values only; what follows from them is the
//! blueprint's to say.

use std::path::PathBuf;

use kernels::CacheType;
use loader::{Checkpoint, DType, Form, Qwen3Tts, SpeechSystem, VibeVoice};
use offload::{Home, PlaceChoice, Prefetch, Residency, Spread};

use crate::compute::Kernels;
use crate::compute::size::Room;
use crate::error::EngineError;
use crate::model::demo;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// The one inside the program.
    #[default]
    Demo,
    /// A folder as Hugging Face ships it, a GGUF file, or a folder of such files, a colon and a
    /// part of the file's name.
    Directory(PathBuf),
    /// The language model inside a checkpoint that speaks.
    Speaking(PathBuf),
}

impl Source {
    pub fn open(&self) -> Result<Checkpoint, EngineError> {
        Ok(match self {
            Self::Demo => demo::checkpoint()?,
            Self::Directory(directory) => Checkpoint::open(directory)?,
            Self::Speaking(directory) => match SpeechSystem::of(directory)? {
                Some(SpeechSystem::Qwen3Tts) => Qwen3Tts::open(directory)?.talker,
                _ => VibeVoice::open(directory)?.language,
            },
        })
    }
}

/// What was asked for. The defaults stream nothing that fits into memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOptions {
    pub residency: Residency,
    pub spread: Spread,
    /// `None`: two, or, beside `Residency::Auto`, one where the layer that then stays gains more.
    pub slots: Option<usize>,
    pub prefetch: Prefetch,
    /// Where streamed weights live; `None` picks.
    pub home: Option<Home>,
    /// A bus to emulate, in GB/s.
    pub link_gbps: Option<f64>,
    /// `None`: as the checkpoint stores them.
    pub dtype: Option<DType>,
    /// Positions the KV cache holds; `None`: as many as the model knows, up to a common size.
    pub context: Option<usize>,
    /// Sequences that are there together, each with a cache of its own.
    pub sequences: usize,
    /// Rows whose logits are computed together, and kept; at least one for each sequence.
    pub logit_rows: usize,
    /// Whether passes give logits. A model that only reads, for another to take its cache, needs
    /// neither a head nor, on the host, more of its embedding than the rows of its tokens.
    pub logits: bool,
    /// The most tokens of prompts that pass through the layers together; `None`: a whole prompt.
    pub prompt_rows: Option<usize>,
    /// Positions that all sequences share; `None`: a whole context for each. On the host only: a
    /// device's caches are allocated whole.
    pub positions: Option<usize>,
    /// Memory that the plan leaves for states that are kept beside the sequences.
    pub kept_bytes: u64,
    /// What keys and values are kept in; `None`: f32, or on a device the model's numbers.
    pub cache_type: Option<CacheType>,
    /// `None`: what the system says is available.
    pub memory_bytes: Option<u64>,
    /// The form of resident matrices; `None`: compact where that is possible and worth it.
    pub resident_form: Option<Form>,
    pub device: PlaceChoice,
    /// `None`: one a physical core.
    pub threads: Option<usize>,
    pub kernels: Kernels,
    /// Hold weights against their checksums.
    pub verify: bool,
    /// Multiply f32 matrices in TF32, on a device.
    pub tf32: bool,
}

impl ModelOptions {
    /// How much passes through the layers of a model with that context, and is kept in them.
    pub(crate) fn room(&self, context: usize) -> Room {
        Room::of(context, self.sequences, self.logit_rows)
            .in_chunks(self.prompt_rows)
            .sharing(self.positions)
    }
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            residency: Residency::Auto,
            spread: Spread::Even,
            slots: None,
            prefetch: Prefetch::Ahead,
            home: None,
            link_gbps: None,
            dtype: None,
            context: None,
            sequences: 1,
            logit_rows: 1,
            logits: true,
            prompt_rows: None,
            positions: None,
            kept_bytes: 0,
            cache_type: None,
            memory_bytes: None,
            resident_form: None,
            device: PlaceChoice::Auto,
            threads: None,
            kernels: Kernels::Fast,
            verify: false,
            tf32: false,
        }
    }
}

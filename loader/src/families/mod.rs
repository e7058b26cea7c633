//! The families of models that are understood, as data: one file each says what a family is called,
//! how its `config.json` becomes a [`ModelConfig`], what its tensors are called, the same of GGUF
//! files, and how a random checkpoint of it is written. A family added is its file and a line here; what families share is
//! in `config/` and `names.rs`.

mod granite;
mod llama;
mod mistral;
mod names;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;

use std::fmt;

use crate::files::gguf::InGguf;
use crate::json::Fields;
use crate::synth::Synth;
use crate::{Error, ModelConfig, Purpose, Role};

impl Family {
    /// All families, in the order in which messages name them.
    pub const ALL: [&'static Self; 7] = [
        Self::LLAMA,
        Self::MISTRAL,
        Self::QWEN2,
        Self::QWEN3,
        Self::PHI3,
        Self::OLMO2,
        Self::GRANITE,
    ];
}

/// What one kind of checkpoint is like.
pub struct Family {
    /// As people write it.
    pub name: &'static str,
    /// `architectures[0]` of its config.json.
    pub architecture: &'static str,
    /// `model_type` of its config.json.
    pub model_type: &'static str,
    pub(crate) read: fn(&Fields<'_>) -> Result<ModelConfig, Error>,
    /// The names, after the layer's number, of the stored tensors that make up a weight, in the
    /// order of its rows.
    pub(crate) names: fn(Role) -> &'static [&'static str],
    /// What a tensor of a layer is for that its checkpoints may have and the model does not read.
    pub(crate) extra: fn(&str) -> Option<Purpose>,
    /// `None` where such files have its models under another family's name.
    pub(crate) gguf: Option<InGguf>,
    pub(crate) synth: Synth,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.architecture == other.architecture
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.architecture)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

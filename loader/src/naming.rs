//! What a checkpoint's format calls things: its tensors, and the place that describes its model.

use std::fmt;

use crate::files::gguf::names;
use crate::{Rope, RopeScaling, Whole};

/// Whose names they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The names in safetensors files as transformers saves them, and in this crate.
    Transformers,
    /// Those of a language model that is a part of something larger.
    Nested(&'static NestedNames),
    Gguf,
}

/// What a system calls the tensors of its language model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NestedNames {
    /// What the names of all tensors in layers begin with.
    pub layers: &'static str,
    pub embedding: &'static str,
    pub final_norm: &'static str,
    pub head: &'static str,
    /// Frequencies that files may carry, and that are computed here.
    pub rotation: &'static str,
}

/// Where a checkpoint describes its model, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Description {
    ConfigJson,
    /// The metadata of a GGUF file.
    Metadata,
    /// `projector_N.json` of a fuser's projector.
    Projector,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigJson => "config.json",
            Self::Metadata => "metadata",
            Self::Projector => "projector_N.json",
        })
    }
}

impl Naming {
    /// What the names of all tensors in layers begin with.
    pub const fn layers(self) -> &'static str {
        match self {
            Self::Transformers => "model.layers.",
            Self::Nested(names) => names.layers,
            Self::Gguf => names::LAYERS,
        }
    }

    /// The tensors outside the blocks that the rotation was read from.
    pub fn of_rotation(self, rope: &Rope) -> &'static [&'static str] {
        match (self, &rope.divisors, &rope.scaling) {
            (Self::Transformers | Self::Nested(_), ..) => &[],
            (Self::Gguf, Some(_), _) => &[names::ROPE_DIVISORS],
            (Self::Gguf, None, RopeScaling::LongRope { .. }) => {
                &[names::ROPE_SHORT, names::ROPE_LONG]
            }
            (Self::Gguf, None, _) => &[],
        }
    }

    /// The name of a tensor outside the blocks; the head is one of its own here.
    pub const fn whole(self, which: Whole) -> &'static str {
        match (self, which) {
            (Self::Transformers, Whole::Embedding) => "model.embed_tokens.weight",
            (Self::Transformers, Whole::FinalNorm) => "model.norm.weight",
            (Self::Transformers, Whole::LmHead) => "lm_head.weight",
            (Self::Nested(names), Whole::Embedding) => names.embedding,
            (Self::Nested(names), Whole::FinalNorm) => names.final_norm,
            (Self::Nested(names), Whole::LmHead) => names.head,
            (Self::Gguf, Whole::Embedding) => names::EMBEDDING,
            (Self::Gguf, Whole::FinalNorm) => names::FINAL_NORM,
            (Self::Gguf, Whole::LmHead) => names::HEAD,
        }
    }

    /// Where the model is described.
    pub const fn description(self) -> Description {
        match self {
            Self::Transformers | Self::Nested(_) => Description::ConfigJson,
            Self::Gguf => Description::Metadata,
        }
    }

    /// What says how many layers there are.
    pub const fn layers_setting(self) -> &'static str {
        match self {
            Self::Transformers | Self::Nested(_) => "`num_hidden_layers` in config.json",
            Self::Gguf => "`block_count` in its metadata",
        }
    }
}

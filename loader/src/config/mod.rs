//! One description of a model for every family, with every number checked. Whoever holds a
//! [`ModelConfig`] may multiply its sizes without fear of overflow; nothing here knows tensors.

mod parse;

use crate::DType;

/// Upper bounds that no published model comes near and no product of which overflows 64 bits.
pub(crate) mod limits {
    pub const HIDDEN: usize = 1 << 18;
    pub const INTERMEDIATE: usize = 1 << 20;
    pub const LAYERS: usize = 4096;
    pub const HEADS: usize = 4096;
    pub const HEAD_DIM: usize = 8192;
    pub const HEADS_TIMES_DIM: usize = 1 << 18;
    pub const VOCAB: usize = 1 << 24;
    pub const POSITIONS: usize = 1 << 30;
}

/// The architectures that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// `architectures[0]` of its config.json.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// `model_type` of its config.json.
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How positions turn into rotations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

/// How a model was stretched to more positions than it was first trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_positions: usize,
    },
}

/// What `config.json` says, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    pub kv_heads: usize,
    /// Even.
    pub head_dim: usize,
    pub vocab_size: usize,
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope: Rope,
    pub qkv_bias: bool,
    pub out_bias: bool,
    pub mlp_bias: bool,
    /// Queries and keys are normalised per head before rotation.
    pub qk_norm: bool,
    /// The output projection is the embedding.
    pub tied_embeddings: bool,
    /// As declared; what is stored counts ([`crate::Checkpoint::dtype`]).
    pub dtype: Option<DType>,
    pub bos_token_id: Option<u32>,
    pub eos_token_ids: Vec<u32>,
    /// One per layer: how many positions it attends to, where that is limited.
    pub windows: Vec<Option<usize>>,
}

impl ModelConfig {
    /// Reads a `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self, crate::Error> {
        parse::parse("config.json", json)
    }

    pub(crate) fn parse_named(file: &str, json: &[u8]) -> Result<Self, crate::Error> {
        parse::parse(file, json)
    }

    /// How many positions (itself included) a query of this layer sees, where that is limited.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Rows of the query projection.
    pub fn q_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Rows of the key projection, and of the value projection.
    pub fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Bytes of keys and values of all layers for one position.
    pub fn kv_bytes_per_position(&self, cache_dtype: DType) -> u64 {
        2 * self.layers as u64 * self.kv_size() as u64 * cache_dtype.bytes() as u64
    }
}

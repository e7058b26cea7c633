//! One description of a model for every family, with every number checked. The sizes
//! of a [`ModelConfig`] may be multiplied without fear of overflow; nothing here knows tensors.
//! What is common to the families' files is read here; what is a family's own is in `families/`.

mod read;
mod rope;
mod said;
mod scaling;
mod windows;

use crate::spec::{BlockSpec, EndsSpec};
use crate::{DType, Error, Family};

pub(crate) use read::{
    Defaults, attention_biases, dense, dtype, parse, parse_part, refuse_quantised,
};
pub(crate) use rope::Rotations;
pub use rope::{Rope, RopePairing};
pub(crate) use said::{agreed, contradiction, one_of, unsupported};
pub use scaling::RopeScaling;
pub(crate) use scaling::{DEFAULT, Kind, LONGROPE};
pub(crate) use windows::Windows;

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

/// What numbers with a fraction may be.
pub(crate) mod ranges {
    use std::ops::RangeInclusive;

    /// Added to a mean of squares in 32 bits: less is nothing there, more is the whole of it.
    pub const NORM_EPS: RangeInclusive<f64> = 1e-12..=1.0;
    /// Base of the rotation's wavelengths; published ones are from 1e4 to 5e10.
    pub const ROPE_THETA: RangeInclusive<f64> = 1.0..=1e16;
    /// How many times more positions.
    pub const ROPE_FACTOR: RangeInclusive<f64> = 1.0..=1e6;
    /// What one frequency is divided by.
    pub const ROPE_DIVISOR: RangeInclusive<f64> = 1e-6..=1e6;
    /// How many times slower one pair of dimensions turns; a little less than once is published.
    pub const ROPE_SLOWER: RangeInclusive<f64> = 1e-3..=1e6;
    /// What cosines and sines are multiplied by.
    pub const ROPE_ATTENTION: RangeInclusive<f64> = 1e-3..=1e3;
}

/// What `config.json` says, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub family: &'static Family,
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
    pub block: BlockSpec,
    pub ends: EndsSpec,
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
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        parse("config.json", json)
    }

    pub(crate) fn parse_named(file: &str, json: &[u8]) -> Result<Self, Error> {
        parse(file, json)
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

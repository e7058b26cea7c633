//! All working memory of a predictor of codes, its cache included, allocated once. Knows sizes
//! only.

use super::parts::PredictorShape;
use crate::cache::{CacheType, LayerCache};
use crate::level::Level;
use crate::quant::{OCTET_FLOATS, octets};
use crate::scratch::{Scratch, ScratchSize};
use crate::shared::Buffer;
use crate::team::Team;

/// Rows that go through together at most: those that a frame begins with.
pub(super) const ROWS: usize = 2;

/// How much working memory a predictor takes: what a plan counts, and a [`PredictorScratch`] is
/// made from.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictorScratchSize {
    shape: PredictorShape,
    threads: usize,
    block: ScratchSize,
    /// Floats for rounded rows of what comes in, and of the last block.
    rounded: usize,
}

impl PredictorScratchSize {
    /// For a predictor of `shape`, computed by so many threads at `level`.
    pub fn of(level: Level, threads: usize, shape: &PredictorShape) -> Self {
        let threads = threads.max(1);
        PredictorScratchSize {
            shape: *shape,
            threads,
            block: ScratchSize::of(level, threads, &shape.block, ROWS),
            rounded: 0,
        }
    }

    /// The same with memory for rounded activations, which quantised weights multiply.
    pub fn with_rounded(self) -> Self {
        let cols = self.shape.input.max(self.shape.block.hidden);
        PredictorScratchSize {
            block: self.block.with_rounded(),
            rounded: self.threads.max(ROWS) * octets(cols) * OCTET_FLOATS,
            ..self
        }
    }

    /// Bytes that a [`PredictorScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let shape = &self.shape;
        let buffers = [
            ROWS * shape.input,
            ROWS * shape.block.hidden,
            shape.codes,
            self.rounded,
        ];
        let (kv_heads, head_dim) = (shape.block.kv_heads, shape.block.head_dim);
        let cache = LayerCache::bytes_for(CacheType::F32, kv_heads, head_dim, shape.positions());
        let lists = shape.layers * size_of::<LayerCache>();
        let buffers = buffers.into_iter().map(Buffer::bytes_for).sum::<usize>();
        buffers + self.block.bytes() + shape.layers * cache + lists
    }
}

/// Working memory of [`predict_codes`](super::predict_codes).
#[derive(Debug)]
pub struct PredictorScratch {
    pub(super) shape: PredictorShape,
    pub(super) threads: usize,
    /// What a step begins with.
    pub(super) inputs: Buffer,
    /// On the way through the blocks.
    pub(super) hidden: Buffer,
    pub(super) logits: Buffer,
    pub(super) rounded: Buffer,
    /// One for each block: of the frame that is predicted.
    pub(super) caches: Vec<LayerCache>,
    pub(super) block: Scratch,
}

impl PredictorScratch {
    /// Memory for a predictor of `shape` with plain or compact weights, computed by `team`.
    pub fn new(team: &Team, shape: &PredictorShape) -> Self {
        let size = PredictorScratchSize::of(team.level(), team.threads(), shape);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &PredictorScratchSize) -> Self {
        let shape = size.shape;
        let (kv_heads, head_dim) = (shape.block.kv_heads, shape.block.head_dim);
        let cache = |_| LayerCache::new(CacheType::F32, kv_heads, head_dim, shape.positions());
        PredictorScratch {
            shape,
            threads: size.threads,
            inputs: Buffer::zeroed(ROWS * shape.input),
            hidden: Buffer::zeroed(ROWS * shape.block.hidden),
            logits: Buffer::zeroed(shape.codes),
            rounded: Buffer::zeroed(size.rounded),
            caches: (0..shape.layers).map(cache).collect(),
            block: Scratch::sized(&size.block),
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let buffers = [&self.inputs, &self.hidden, &self.logits, &self.rounded];
        let buffers = buffers.into_iter().map(Buffer::bytes).sum::<usize>();
        let caches = self.caches.iter().map(LayerCache::bytes).sum::<usize>();
        buffers + caches + self.block.bytes() + size_of_val(&*self.caches)
    }
}

//! What the clear version takes of memory. Its tensors are made by the tensor library, operation by
//! operation, so this is an estimate: it goes through the operations of a pass and takes the most
//! bytes that live at once. A test holds it against what is allocated.

use candle_core::DType as TensorDType;
use kernels::CacheType;
use loader::{BlockLayout, DType, Encoding, HeadNorms, Mixer, ModelConfig};

use crate::compute::size::{Needs, Room, Weights};
use crate::compute::{CHUNK_ROWS, SharedConfig};

/// What the allocator keeps of freed memory on the host, beside what is held at the peak: 8 to 13 MiB
/// in runs of the program, which has it map all that is large. Where it may choose for itself it is
/// 20 to 66 MiB, and another number in each run.
const KEPT: u64 = 10 << 20;

/// What matrix products copy of their factors, on the host: a few panels for each thread, as large as
/// the processor's caches make them.
const PANELS: u64 = 3 << 20;

/// How large a [`ClearCompute`](super::ClearCompute) is.
#[derive(Debug, Clone)]
pub struct ClearSize {
    pub(super) config: SharedConfig,
    pub(super) room: Room,
    /// What activations, weights and cache are computed in.
    pub(super) numbers: DType,
    /// What keys and values are rounded to when they are written, if they are.
    pub(super) cached: Option<TensorDType>,
    copies: Copies,
}

/// Bytes of weights in the numbers computed with: the host's slabs hold others, and a device's are
/// computed with as they lie.
#[derive(Debug, Clone, Copy, Default)]
struct Copies {
    /// Of the largest block, and kept.
    block: u64,
    /// While the head's are made.
    head: u64,
    is_host: bool,
}

impl ClearSize {
    /// The size on the host: in f32, since its matrix products in anything else are of no use. Keys
    /// and values are rounded as a cache of that type does, and stay in f32.
    pub fn on_host(
        config: SharedConfig,
        room: Room,
        cache_type: CacheType,
        weights: Weights<'_>,
    ) -> Self {
        let blocks = weights.blocks;
        let layouts = || blocks.layers().map(|layer| blocks.packed(layer).layout());
        let head = config.vocab_size * config.hidden_size;
        let copies = Copies {
            block: layouts()
                .map(|layout| widened(layout))
                .max()
                .unwrap_or_default(),
            head: weights.head.map_or(0, |encoding| {
                head * size_of::<f32>() + as_filed(encoding, config.vocab_size, &config)
            }) as u64,
            is_host: true,
        };
        Self {
            cached: match cache_type {
                CacheType::F32 => None,
                CacheType::F16 => Some(TensorDType::F16),
                CacheType::Bf16 => Some(TensorDType::BF16),
            },
            numbers: DType::F32,
            config,
            room,
            copies,
        }
    }

    /// The size on a device, in the weights' own numbers.
    pub fn on_device(config: SharedConfig, room: Room, numbers: DType) -> Self {
        Self {
            config,
            room,
            numbers,
            cached: None,
            copies: Copies::default(),
        }
    }

    pub fn needs(&self) -> Needs {
        let config = &self.config;
        let positions = self.room.sequences * self.room.context;
        let cache = 2 * config.layers * positions * config.kv_size() * self.numbers.bytes();
        let lasting = self.lasting_bytes();
        let passing = self.passing_bytes();
        Needs {
            cache: cache as u64,
            scratch: lasting + passing,
            kept: match self.copies.is_host {
                true => passing.min(KEPT),
                false => 0,
            },
        }
    }

    /// What is there from the first pass to the last: the turns of all positions and these
    /// themselves, the prompt's rows, the logits, and a block's weights.
    fn lasting_bytes(&self) -> u64 {
        let config = &self.config;
        let turns = self.room.context * config.rope.dims;
        let rows = self.room.rows() * config.hidden_size;
        let numbers = (turns + rows) * self.numbers.bytes();
        let logits = self.room.logit_rows * config.vocab_size;
        (numbers + (self.room.context + logits) * size_of::<f32>()) as u64 + self.copies.block
    }

    /// The most that the tensors of a pass take at once, beside what lasts.
    fn passing_bytes(&self) -> u64 {
        let rows = CHUNK_ROWS.min(self.room.context);
        let copies = self.copies;
        // The rows as they come, normed, as a part gives them, weighed, and their sum.
        let residual = 4 * rows * self.config.hidden_size * self.numbers.bytes();
        let parts = self.attention_bytes(rows).max(self.mlp_bytes(rows));
        let panels = if copies.is_host { PANELS } else { 0 };
        let block = (residual + parts) as u64 + panels;
        let logits = (2 * self.config.vocab_size * size_of::<f32>()) as u64;
        block.max(copies.head + logits)
    }

    fn attention_bytes(&self, rows: usize) -> usize {
        let (config, each) = (&*self.config, self.numbers.bytes());
        let ModelConfig {
            heads, head_dim, ..
        } = *config;
        let Mixer::Attention { head_norms, .. } = config.block.mixer;
        let q = rows * config.q_size() * each;
        let qkv = q + 2 * rows * config.kv_size() * each;
        // Queries apart, by heads, normed and turned; those that turn in part are cut and joined.
        let normed = if head_norms == HeadNorms::None { 0 } else { q };
        let cut = if config.rope.dims < head_dim {
            2 * q
        } else {
            0
        };
        let turning = qkv + 3 * q + normed + cut;
        // Scores as the product gives them, scaled, masked, and as shares.
        let scores = rows * heads * self.room.context;
        let own = if each == size_of::<f32>() { 0 } else { each };
        let scores = scores * (each + 3 * size_of::<f32>() + own);
        // The mask, and what it is made of.
        let mask = rows * self.room.context * (size_of::<f32>() + 2);
        turning.max(qkv + 3 * q + scores + mask)
    }

    fn mlp_bytes(&self, rows: usize) -> usize {
        // Gate and up, without and with their bias; or the activated gate and its product with up.
        4 * rows * self.config.intermediate_size * self.numbers.bytes()
    }
}

/// Bytes of a block's weights in f32.
fn widened(layout: &BlockLayout) -> u64 {
    let numbers = layout.parts().map(|(_, part)| part.rows * part.cols);
    (numbers.sum::<usize>() * size_of::<f32>()) as u64
}

/// Of the copy that is made of plain numbers before they are widened. What is in blocks, or in f32,
/// becomes numbers in one step.
fn copied(encoding: Encoding, bytes: usize) -> usize {
    match encoding {
        Encoding::Bf16 | Encoding::F16 => bytes,
        _ => 0,
    }
}

fn as_filed(encoding: Encoding, rows: usize, config: &ModelConfig) -> usize {
    let bytes = encoding.bytes(rows, config.hidden_size).unwrap_or(0);
    copied(encoding, bytes)
}

//! The bytes that every schedule streams: made once, shared by all.

use std::collections::BTreeMap;
use std::sync::Arc;

use loader::{BlockLayout, Checksum, DType, ModelConfig, Stretch};
use offload::{BlockId, Expectation, LayerIndex, Reference, StackId};

use crate::dice::{Dice, Place};
use crate::schedule::LAYERS_MAX;

/// A block's bytes, and what they have to be.
type Sealed = (Arc<[u8]>, Checksum);

#[derive(Debug, Clone)]
pub struct Homes(Arc<BTreeMap<BlockId, Sealed>>);

impl Homes {
    /// Random bytes for every block of two stacks. The second stack's blocks are smaller: slots are
    /// as large as the largest block.
    pub fn new(layout: &BlockLayout) -> Self {
        let blocks = [(0, layout.slab_bytes()), (1, layout.slab_bytes() * 3 / 4)];
        let homes = blocks.into_iter().flat_map(|(stack, bytes)| {
            LayerIndex::first(LAYERS_MAX as usize).map(move |layer| {
                let count = u64::from(stack) * LAYERS_MAX + u64::from(layer.0);
                let mut dice = Dice::new(7, Place::Plan, count);
                let content: Vec<u8> = (0..bytes).map(|_| dice.roll() as u8).collect();
                let sum = Checksum::of(&content);
                (BlockId::new(StackId(stack), layer), (content.into(), sum))
            })
        });
        Self(Arc::new(homes.collect()))
    }

    pub fn of(&self, block: BlockId) -> Arc<[u8]> {
        Arc::clone(&self.0[&block].0)
    }

    /// What a verifier is to expect of these blocks.
    pub fn expectations(&self, blocks: &[BlockId]) -> BTreeMap<BlockId, Expectation> {
        let expectation = |&block: &BlockId| {
            let (bytes, sum) = &self.0[&block];
            let stretch = Stretch {
                tensor: "a weight".into(),
                range: 0..bytes.len(),
                expected: Some(*sum),
            };
            (block, Expectation::new(vec![stretch], Reference::Manifest))
        };
        blocks.iter().map(expectation).collect()
    }

    pub fn origin(&self, block: BlockId) -> Arc<str> {
        format!("shard-{}-{}", block.stack.0, block.layer).into()
    }
}

/// A block of a few kilobytes: the ring is what is tested, not memory.
pub fn layout() -> Result<BlockLayout, loader::Error> {
    let config = ModelConfig::parse(
        br#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 12,
             "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
             "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
             "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "bfloat16"}"#,
    )?;
    Ok(BlockLayout::packed(&config.block_weights(), DType::Bf16))
}

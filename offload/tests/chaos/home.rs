//! The bytes that every schedule streams: made once, shared by all.

use std::collections::BTreeMap;
use std::sync::Arc;

use loader::{BlockLayout, Checksum, DType, ModelConfig, Stretch};
use offload::{BlockId, Expectation, LayerIndex, Reference, StackId};

use crate::dice::{Dice, Place};
use crate::schedule::{EXPERTS_MAX, LAYERS_MAX, LEGS_MAX};

/// A block's bytes, and what they have to be.
type Sealed = (Arc<[u8]>, Checksum);

#[derive(Debug, Clone)]
pub struct Homes(Arc<BTreeMap<BlockId, Sealed>>);

impl Homes {
    /// Random bytes for every block of all stacks, and for experts. Blocks of every second stack
    /// are smaller, and so are some experts: slots are as large as the largest block.
    pub fn new(layout: &BlockLayout) -> Self {
        let bytes = layout.slab_bytes();
        let blocks = (0..2 * LEGS_MAX).flat_map(|stack| {
            let layers = LayerIndex::first(LAYERS_MAX as usize);
            layers.map(move |layer| BlockId::new(StackId(stack), layer))
        });
        let sized = |block: BlockId| {
            let quarters = 4 - usize::from(block.stack.0 + block.part) % 2;
            (block, bytes * quarters / 4)
        };
        let homes = blocks.chain(experts(EXPERTS_MAX)).map(sized).zip(0..);
        let homes = homes.map(|((block, bytes), count)| {
            let mut dice = Dice::new(7, Place::Plan, count);
            let content: Vec<u8> = (0..bytes).map(|_| dice.roll() as u8).collect();
            let sum = Checksum::of(&content);
            (block, (content.into(), sum))
        });
        Self(Arc::new(homes.collect()))
    }

    pub fn of(&self, block: BlockId) -> Arc<[u8]> {
        Arc::clone(&self.0[&block].0)
    }

    /// What a verifier is to expect of these blocks.
    pub fn expectations<'a>(
        &self,
        blocks: impl IntoIterator<Item = &'a BlockId>,
    ) -> BTreeMap<BlockId, Expectation> {
        let expectation = |&block: &BlockId| {
            let (bytes, sum) = &self.0[&block];
            let stretch = Stretch {
                tensor: "a weight".into(),
                range: 0..bytes.len(),
                expected: Some(*sum),
            };
            (block, Expectation::new(vec![stretch], Reference::Manifest))
        };
        blocks.into_iter().map(expectation).collect()
    }

    pub fn origin(&self, block: BlockId) -> Arc<str> {
        format!("shard-{}-{}-{}", block.stack.0, block.layer, block.part).into()
    }
}

/// The experts of one layer.
pub fn experts(count: u16) -> impl Iterator<Item = BlockId> {
    let trunk = BlockId::new(StackId(0), LayerIndex(0));
    (1..=count).map(move |part| trunk.part(part))
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

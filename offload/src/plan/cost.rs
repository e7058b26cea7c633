//! What blocks take, and what is taken beside them: sums of these are a plan's bytes.

use crate::block::LayerIndex;

/// What must stay in compute memory beside the blocks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedBytes {
    /// Embedding, final norm and head, or what is loaded of them.
    pub ends: u64,
    /// The KV cache at its full capacity.
    pub cache: u64,
    /// Activations and logits.
    pub scratch: u64,
}

impl FixedBytes {
    pub fn total(self) -> u64 {
        self.ends + self.cache + self.scratch
    }
}

/// What one block takes, in bytes. Blocks of a stack may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockCost {
    /// In a slot.
    pub slab: u64,
    /// In compute memory, resident.
    pub resident: u64,
    /// Over the link, at each visit of a streamed block.
    pub link: u64,
    /// In RAM for a streamed block's home; 0 where homes are on disk. It is the memory that the
    /// plan is for, unless the request has a [`HostRoom`].
    pub home: u64,
    /// Of its weights as they are stored: what computing with it takes is in proportion.
    pub weights: u64,
}

impl BlockCost {
    /// A block that crosses the link as it lies, from a home that costs nothing here.
    pub fn of_slab(slab: u64) -> Self {
        Self {
            slab,
            resident: slab,
            link: slab,
            home: 0,
            weights: slab,
        }
    }
}

/// What the blocks of a stack take, and what is taken once beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Costs {
    pub blocks: Vec<BlockCost>,
    /// While resident blocks are brought into a form that is not the checkpoint's, before cache and
    /// scratch are touched; 0 where they keep it.
    pub packing: u64,
    /// The link's own buffers, while anything is streamed.
    pub buffers: BufferBytes,
    /// Of the ends, what is left where streamed blocks live, while there are any.
    pub ends_left: u64,
}

impl Costs {
    /// Of so many equal blocks, and nothing beside them.
    pub fn uniform(blocks: usize, each: BlockCost) -> Self {
        Self {
            blocks: vec![each; blocks],
            ..Self::default()
        }
    }

    /// How many times a block's weights are those of the mean one.
    pub fn share(&self, layer: LayerIndex) -> f64 {
        let all: u64 = self.blocks.iter().map(|block| block.weights).sum();
        match all {
            0 => 1.0,
            _ => {
                let own = self.blocks[layer.as_usize()].weights;
                own as f64 * self.blocks.len() as f64 / all as f64
            }
        }
    }
}

/// What a link takes for itself: buffers of one size, some for each slot it fills, up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferBytes {
    pub each: u64,
    pub per_slot: u64,
    pub most: u64,
}

impl BufferBytes {
    /// How many there are for so many slots.
    pub fn count(self, slots: usize) -> u64 {
        self.most.min(self.per_slot * slots as u64)
    }
}

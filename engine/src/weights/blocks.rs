//! The blocks of a model, or of a fuser: where each one's weights are in the files, and how they lie in memory, in
//! a slot and where they stay. Layers may differ in their encodings; nothing here knows a plan.

use std::sync::Arc;

use loader::{
    Arrangement, BlockLayout, BlockSource, Checkpoint, DType, Encoding, Error, Form, Fuser,
};
use offload::{Home, LayerIndex};

/// The blocks of a model or a fuser.
#[derive(Debug, Clone)]
pub struct Blocks(Vec<Block>);

#[derive(Debug, Clone)]
struct Block {
    packed: BlockSource,
    /// Its place in the host's memory, as a disk brings it.
    paged: BlockSource,
    /// Where it stays: packed, or some of it compact.
    resident: Arc<BlockLayout>,
}

impl Blocks {
    /// The blocks of all layers; plain numbers become `dtype`, where one is given.
    pub fn of(checkpoint: &Checkpoint, dtype: Option<DType>) -> Result<Self, Error> {
        Self::each(0..checkpoint.config.layers, |layer, arrangement| {
            checkpoint.block(layer, dtype, arrangement)
        })
    }

    /// The blocks of these projectors of a fuser, counted as it maps them.
    pub fn of_fuser(
        fuser: &Fuser,
        mapped: impl Iterator<Item = usize>,
        dtype: Option<DType>,
    ) -> Result<Self, Error> {
        Self::each(mapped, |index, arrangement| {
            fuser.block(index, dtype, arrangement)
        })
    }

    fn each(
        blocks: impl Iterator<Item = usize>,
        source: impl Fn(usize, Arrangement) -> Result<BlockSource, Error>,
    ) -> Result<Self, Error> {
        let block = |index| {
            let packed = source(index, Arrangement::Packed)?;
            Ok(Block {
                paged: source(index, Arrangement::Paged)?,
                resident: Arc::clone(packed.layout()),
                packed,
            })
        };
        blocks.map(block).collect::<Result<_, _>>().map(Self)
    }

    /// The same, those in compact form where they stay for which that is given; `None` if it is for
    /// none.
    pub fn compact(&self, compact: impl Fn(&BlockLayout) -> Option<BlockLayout>) -> Option<Self> {
        let mut blocks = self.0.clone();
        let mut any = false;
        for block in &mut blocks {
            if let Some(compact) = compact(block.packed.layout()) {
                block.resident = Arc::new(compact);
                any = true;
            }
        }
        any.then_some(Self(blocks))
    }

    /// The same, all of them plain.
    pub fn plain(&self) -> Self {
        let mut blocks = self.0.clone();
        for block in &mut blocks {
            block.resident = Arc::clone(block.packed.layout());
        }
        Self(blocks)
    }

    /// As it is read where it stays, and as it lies in a home in RAM and in a device's slot.
    pub fn packed(&self, layer: LayerIndex) -> &BlockSource {
        &self.0[layer.as_usize()].packed
    }

    /// As it comes to a slot of the host.
    pub fn streamed(&self, layer: LayerIndex, home: Home) -> &BlockSource {
        let block = &self.0[layer.as_usize()];
        match home {
            Home::Disk => &block.paged,
            Home::Ram => &block.packed,
        }
    }

    /// How it lies where it stays.
    pub fn resident(&self, layer: LayerIndex) -> &Arc<BlockLayout> {
        &self.0[layer.as_usize()].resident
    }

    pub fn layers(&self) -> impl Iterator<Item = LayerIndex> + Clone + use<> {
        LayerIndex::first(self.0.len())
    }

    /// Bytes of the largest, as it is read.
    pub fn largest_bytes(&self) -> usize {
        let bytes = self.0.iter().map(|block| block.packed.slab_bytes());
        bytes.max().unwrap_or(0)
    }

    /// The form of resident matrices.
    pub fn form(&self) -> Form {
        let is_compact = |block: &Block| block.resident != *block.packed.layout();
        match self.0.iter().any(is_compact) {
            true => Form::Compact,
            false => Form::Plain,
        }
    }

    /// The encodings of all blocks' weights with their bytes; the most first.
    pub fn encodings(&self) -> Vec<(Encoding, u64)> {
        let mut found: Vec<(Encoding, u64)> = Vec::new();
        for (_, part) in self
            .0
            .iter()
            .flat_map(|block| block.packed.layout().parts())
        {
            match found.iter_mut().find(|(of, _)| *of == part.encoding) {
                Some((_, bytes)) => *bytes += part.bytes as u64,
                None => found.push((part.encoding, part.bytes as u64)),
            }
        }
        found.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        found
    }
}

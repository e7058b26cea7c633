//! What blocks take, and what decides the reserve.

use std::sync::Arc;

use loader::{Arrangement, BlockSource, Checkpoint, Form, Whole};
use offload::{BlockCost, BufferBytes, Costs, DiskLink, Home, LinkInfo};

use crate::error::EngineError;
use crate::model::options::ModelOptions;
use crate::model::reserve::{self, Sizes};
use crate::weights::blocks::Blocks;

/// What decides the reserve.
pub(super) fn sizes(
    options: &ModelOptions,
    (threads, slots): (usize, usize),
    checkpoint: &Checkpoint,
    blocks: &Blocks,
    link: &LinkInfo,
) -> Result<Sizes, EngineError> {
    let streamed = blocks
        .layers()
        .map(|layer| blocks.streamed(layer, link.home));
    let packed = blocks.layers().map(|layer| blocks.packed(layer));
    let head = checkpoint.weight(Whole::Embedding, options.dtype, Arrangement::Paged)?;
    let resident = blocks
        .layers()
        .map(|layer| blocks.resident(layer).slab_bytes());
    let slabs = streamed
        .clone()
        .map(BlockSource::slab_bytes)
        .chain(resident);
    Ok(Sizes {
        // One that cannot be read is the tokenizer's error, if it is asked for.
        tokenizer: checkpoint.vocabulary_bytes(),
        slab: slabs.max().unwrap_or(0),
        chunks: reserve::chunks(packed.chain([&head])),
        compute_threads: threads,
        stream_threads: match link.home {
            Home::Disk => DiskLink::threads(streamed, slots),
            Home::Ram => 0,
        },
    })
}

/// What the blocks take in memory and over the link.
pub(super) fn costs(
    blocks: &Blocks,
    link: &LinkInfo,
    on_device: bool,
    can_be_left: u64,
) -> Arc<Costs> {
    let cost = |layer| {
        let packed = blocks.packed(layer);
        let slot = match on_device {
            true => packed,
            false => blocks.streamed(layer, link.home),
        };
        BlockCost {
            slab: slot.slab_bytes() as u64,
            resident: blocks.resident(layer).slab_bytes() as u64,
            link: match link.home {
                Home::Disk => packed.stored_bytes(),
                Home::Ram => packed.slab_bytes() as u64,
            },
            home: match link.home {
                Home::Disk => 0,
                Home::Ram => packed.slab_bytes() as u64,
            },
            weights: packed.layout().weight_bytes() as u64,
        }
    };
    let fills_slots = link.home == Home::Disk && !on_device;
    Arc::new(Costs {
        blocks: blocks.layers().map(cost).collect(),
        packing: match blocks.form() {
            Form::Compact => blocks.largest_bytes() as u64,
            Form::Plain => 0,
        },
        // Of a link to a device buffers are the host's, and the plan is for the device's memory.
        buffers: match fills_slots {
            true => DiskLink::buffers(
                blocks
                    .layers()
                    .map(|layer| blocks.streamed(layer, link.home)),
            ),
            false => BufferBytes::default(),
        },
        ends_left: if fills_slots { can_be_left } else { 0 },
    })
}

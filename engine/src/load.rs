//! Brings a blueprint's weights to where they will live: the ring first, so that its slots fill
//! while the rest is read; then embedding and head, then the resident blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use loader::{Access, BlockSource};
use offload::{
    BlockId, DiskLink, Home, Itinerary, LayerIndex, Link, OffloadError, RamHome, RamLink, Slab,
    Slot, StackId, StreamedStack,
};

use crate::blueprint::{Blueprint, STREAM_ACCESS};
use crate::ends::Ends;
use crate::error::EngineError;
use crate::memory;

/// The one stack of a text model.
pub(crate) const STACK: StackId = StackId(0);

/// Told how many stored bytes were read since it was last told.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

pub(crate) fn load(
    blueprint: &Blueprint,
    device: &Device,
    progress: Progress<'_>,
) -> Result<(Ends, StreamedStack), EngineError> {
    let mut stack = stream(blueprint, device, progress)?;
    let ends = Ends::load(&blueprint.checkpoint, blueprint.dtype(), device, progress)?;
    for layer in blueprint.plan.resident() {
        let slab = Slab::new(&blueprint.layout, device)?;
        let source = source_of(blueprint, layer)?;
        slab.bytes().write(|to| read(blueprint, &source, to))??;
        stack.keep(BlockId::new(STACK, layer), slab);
        progress(source.stored_bytes());
    }
    Ok((ends, stack))
}

/// Stored bytes that loading will read, for a progress bar.
pub(crate) fn stored_bytes(blueprint: &Blueprint) -> u64 {
    let checkpoint = &blueprint.checkpoint;
    let streamed_later = match blueprint.link.home {
        Home::Disk => blueprint.plan.streamed_count() as u64,
        Home::Ram => 0,
    };
    let blocks = blueprint.plan.layers() as u64 - streamed_later;
    let stored = checkpoint.dtype().bytes() as u64;
    let block_bytes = blueprint.layout.weight_bytes() as u64 / blueprint.dtype().bytes() as u64;
    blocks * block_bytes * stored + Ends::bytes(checkpoint, checkpoint.dtype())
}

fn stream(
    blueprint: &Blueprint,
    device: &Device,
    progress: Progress<'_>,
) -> Result<StreamedStack, EngineError> {
    let plan = &blueprint.plan;
    let itinerary = Itinerary::of_stack(STACK, plan);
    if itinerary.is_empty() {
        return Ok(StreamedStack::resident());
    }
    let slots = (0..plan.slots())
        .map(|_| Ok(Slot::new(Slab::new(&blueprint.layout, device)?)))
        .collect::<Result<Vec<_>, OffloadError>>()?;
    let link: Box<dyn Link> = match blueprint.link.home {
        Home::Disk => Box::new(disk_link(blueprint)?),
        Home::Ram => {
            let homes = ram_homes(blueprint, progress)?;
            Box::new(RamLink::new(
                homes,
                blueprint.link.emulated_gbps,
                plan.slots(),
            )?)
        }
    };
    Ok(StreamedStack::streaming(
        slots,
        itinerary,
        link,
        blueprint.options.prefetch,
    )?)
}

fn disk_link(blueprint: &Blueprint) -> Result<DiskLink, EngineError> {
    let blocks = blueprint
        .plan
        .streamed()
        .map(|layer| Ok((BlockId::new(STACK, layer), source_of(blueprint, layer)?)))
        .collect::<Result<Vec<_>, EngineError>>()?;
    let sources = blueprint.checkpoint.sources();
    Ok(DiskLink::new(
        sources,
        blocks,
        STREAM_ACCESS,
        blueprint.plan.slots(),
    )?)
}

fn ram_homes(
    blueprint: &Blueprint,
    progress: Progress<'_>,
) -> Result<BTreeMap<BlockId, RamHome>, EngineError> {
    let needed_bytes = blueprint.plan.streamed_count() as u64 * blueprint.plan.block().slab;
    // Without emulation the plan has counted them.
    if let Some(available_bytes) = memory::available_bytes()
        && needed_bytes > available_bytes
    {
        return Err(EngineError::HomesTooLarge {
            needed_bytes,
            available_bytes,
        });
    }
    let mut homes = BTreeMap::new();
    for layer in blueprint.plan.streamed() {
        let source = source_of(blueprint, layer)?;
        let origin: Arc<str> =
            format!("RAM (packed from {})", blueprint.checkpoint.location()).into();
        let fill = |to: &mut [u8]| read(blueprint, &source, to);
        let home = RamHome::filled(origin, source.slab_bytes(), fill)?;
        progress(source.stored_bytes());
        homes.insert(BlockId::new(STACK, layer), home);
    }
    Ok(homes)
}

fn source_of(blueprint: &Blueprint, layer: LayerIndex) -> Result<BlockSource, EngineError> {
    Ok(blueprint
        .checkpoint
        .block(layer.as_usize(), &blueprint.layout)?)
}

fn read(blueprint: &Blueprint, source: &BlockSource, to: &mut [u8]) -> Result<(), EngineError> {
    Ok(loader::read_block(
        &blueprint.checkpoint,
        source,
        to,
        Access::Buffered,
    )?)
}

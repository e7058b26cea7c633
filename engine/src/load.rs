//! Brings a blueprint's weights to where they will live: the embedding, then the ring, so that its
//! slots fill while the rest is read; then the head, then the resident blocks. (An embedding that is
//! not the head as well stays on disk where layers come from there, and that head is not waited for.)
//! With the ring before all of it a disk would have filled the slots, and idle, long before the last
//! of the others came.

use std::collections::BTreeMap;
use std::sync::Arc;

use loader::{Access, BlockSource, DType, Form};
use offload::{
    BlockId, Connection, DiskLink, Expectation, Home, Homes, Itinerary, LayerIndex, Link,
    OffloadError, RamHome, RingShape, Slab, SlabBytes, Slot, StackId, StreamedStack, VerifyingLink,
};

use crate::blueprint::{Blueprint, STREAM_ACCESS};
use crate::compact::Packer;
use crate::ends::Ends;
use crate::error::EngineError;
use crate::verification::Verification;
use kernels::Team;

/// The one stack of a text model.
pub(crate) const STACK: StackId = StackId(0);

/// Told how many stored bytes were read since it was last told.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// Given the link that streamed layers come over, gives the one to use: the same, or one around it
/// that counts, delays or breaks what passes.
pub type WrapLink<'a> = &'a mut dyn FnMut(Box<dyn Link>) -> Box<dyn Link>;

/// Weights where they will live.
pub(crate) struct Loading {
    pub ends: Ends,
    pub stack: StreamedStack,
    /// Of resident blocks, what a token reads.
    pub resident_bytes: u64,
    /// How the streamed ones are read, where that showed only now.
    pub access: Option<String>,
}

pub(crate) fn load(
    blueprint: &Blueprint,
    team: &Team,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<Loading, EngineError> {
    let place = blueprint.place.as_ref();
    let embedding = Ends::embedding(blueprint, progress)?;
    let (mut stack, access) = stream(blueprint, progress, wrap)?;
    // A session will take as much for its cache and activations: room that no layer may take.
    let fixed = blueprint.plan.fixed();
    let session = match blueprint.on_device() {
        true => {
            let bytes = usize::try_from(fixed.cache + fixed.scratch).unwrap_or(usize::MAX);
            Some(SlabBytes::new(bytes, DType::Bf16, place.device())?)
        }
        false => None,
    };
    let ends = Ends::load(blueprint, embedding, progress)?;
    if blueprint.plan.resident_count() > 0 {
        // Beside them, which are waited for.
        ends.begin_head()?;
    }
    let mut resident_bytes = 0;
    let packer = match blueprint.resident_form() {
        Form::Compact if blueprint.plan.resident_count() > 0 => Some(Packer::new(blueprint, team)?),
        Form::Compact | Form::Plain => None,
    };
    for (resident, layer) in blueprint.plan.resident().enumerate() {
        let slab =
            Slab::new(&blueprint.resident_layout, place.device()).map_err(|error| match error {
                OffloadError::OutOfDeviceMemory { bytes, .. } => EngineError::DeviceFull {
                    asked: blueprint.plan.resident_count(),
                    resident,
                    needed_bytes: bytes,
                },
                error => error.into(),
            })?;
        let source = source_of(blueprint, layer)?;
        resident_bytes += match &packer {
            Some(packer) => packer.fill(layer, &source, &slab)?,
            None => {
                fill(blueprint, slab.bytes(), &source, Access::Buffered)?;
                blueprint.layout.weight_bytes() as u64
            }
        };
        stack.keep(BlockId::new(STACK, layer), slab);
        progress(source.stored_bytes());
    }
    drop(session);
    Ok(Loading {
        ends,
        stack,
        resident_bytes,
        access,
    })
}

/// Reads a block, or another whole weight, into the memory of the blueprint's place.
pub(crate) fn fill(
    blueprint: &Blueprint,
    to: &SlabBytes,
    source: &BlockSource,
    access: Access,
) -> Result<(), EngineError> {
    fill_checked(blueprint, to, source, access, |_| Ok(()))
}

/// The same, and `check` sees the bytes while they are in the host's memory.
pub(crate) fn fill_checked(
    blueprint: &Blueprint,
    to: &SlabBytes,
    source: &BlockSource,
    access: Access,
    check: impl Fn(&[u8]) -> Result<(), loader::Error>,
) -> Result<(), EngineError> {
    let mut done = Ok(());
    let mut fill = |bytes: &mut [u8]| {
        done = read(blueprint, source, bytes, access).and_then(|()| check(bytes));
    };
    blueprint.place.fill(to, &mut fill)?;
    Ok(done?)
}

/// Reads, and with `--verify` looks at what came.
fn read(
    blueprint: &Blueprint,
    source: &BlockSource,
    to: &mut [u8],
    access: Access,
) -> Result<(), loader::Error> {
    let checkpoint = &blueprint.checkpoint;
    loader::read_block(checkpoint.sources(), source, to, access)?;
    match &blueprint.verification {
        Some(verification) => verification.check(checkpoint, source, to),
        None => Ok(()),
    }
}

/// Bytes that loading will read and make ready, for a progress bar.
pub(crate) fn stored_bytes(blueprint: &Blueprint) -> u64 {
    let checkpoint = &blueprint.checkpoint;
    let streamed_later = match blueprint.link.home {
        Home::Disk => blueprint.plan.streamed_count() as u64,
        Home::Ram => 0,
    };
    let blocks = blueprint.plan.layers() as u64 - streamed_later;
    let stored = checkpoint.dtype().bytes() as u64;
    let block_bytes = blueprint.layout.weight_bytes() as u64 / blueprint.dtype().bytes() as u64;
    // On a device, what lives in RAM is pinned when it is full: that takes its time, too.
    let pinned = match (blueprint.link.home, blueprint.on_device()) {
        (Home::Ram, true) => blueprint.plan.streamed_count() as u64 * blueprint.plan.block().slab,
        _ => 0,
    };
    blocks * block_bytes * stored + Ends::stored_bytes(blueprint) + pinned
}

fn stream(
    blueprint: &Blueprint,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<(StreamedStack, Option<String>), EngineError> {
    let plan = &blueprint.plan;
    let itinerary = Itinerary::of_stack(STACK, plan);
    if itinerary.is_empty() {
        return Ok((StreamedStack::resident(), None));
    }
    let slots = (0..plan.slots())
        .map(|_| {
            Ok(Slot::new(Slab::new(
                &blueprint.layout,
                blueprint.place.device(),
            )?))
        })
        .collect::<Result<Vec<_>, OffloadError>>()?;
    let (homes, expectations) = match blueprint.link.home {
        Home::Disk => {
            let expectations = file_expectations(blueprint)?;
            (Homes::Disk(disk_link(blueprint)?), expectations)
        }
        Home::Ram => {
            let blocks = ram_homes(blueprint, progress)?;
            let expectations = home_expectations(blueprint, &blocks)?;
            let gbps = blueprint.link.emulated_gbps;
            (Homes::Ram { blocks, gbps }, expectations)
        }
    };
    let ring = RingShape {
        slots: plan.slots(),
        visits: itinerary.len(),
        layout: Arc::clone(&blueprint.layout),
        poison: false,
    };
    let Connection { mut link, access } = blueprint.place.connect(homes, &ring, progress)?;
    link = wrap(link);
    if let Some(expectations) = expectations {
        link = Box::new(VerifyingLink::new(link, expectations)?);
    }
    let stack = StreamedStack::streaming(slots, itinerary, link, blueprint.options.prefetch)?;
    Ok((stack, access))
}

type Expectations = Option<BTreeMap<BlockId, Expectation>>;

fn file_expectations(blueprint: &Blueprint) -> Result<Expectations, EngineError> {
    let Some(verification) = &blueprint.verification else {
        return Ok(None);
    };
    let expectation = |layer| {
        let source = source_of(blueprint, layer)?;
        let expectation = verification.of_file(&blueprint.checkpoint, &source);
        Ok((BlockId::new(STACK, layer), expectation))
    };
    let streamed = blueprint.plan.streamed();
    streamed
        .map(expectation)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn home_expectations(
    blueprint: &Blueprint,
    homes: &BTreeMap<BlockId, RamHome>,
) -> Result<Expectations, EngineError> {
    if blueprint.verification.is_none() {
        return Ok(None);
    }
    let source = |block: BlockId| source_of(blueprint, block.layer);
    Verification::of_homes(&blueprint.checkpoint, homes, source).map(Some)
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
    let mut homes = BTreeMap::new();
    for layer in blueprint.plan.streamed() {
        let source = source_of(blueprint, layer)?;
        let origin: Arc<str> =
            format!("RAM (packed from {})", blueprint.checkpoint.location()).into();
        let fill = |to: &mut [u8]| -> Result<(), EngineError> {
            Ok(read(blueprint, &source, to, Access::Buffered)?)
        };
        let home = RamHome::filled(origin, source.slab_bytes(), blueprint.place.near(), fill)?;
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

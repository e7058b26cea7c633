//! Brings a blueprint's weights to where they will live: the embedding, then the ring, so that its
//! slots fill while the rest is read; then the head, then the resident blocks. (An embedding that
//! is not the head as well stays on disk where layers come from there, and that head is not waited
//! for.) With the ring before all of it a disk would have filled the slots, and idle, long before
//! the last of the others came.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::Team;
use loader::{Access, BlockSource, DType, Form};
use offload::{
    BlockId, Connection, DiskLink, Expectation, Home, Homes, Itinerary, Link, OffloadError,
    RamHome, RingShape, Slab, SlabBytes, Slot, Staged, StreamedStack, VerifyingLink,
};

use crate::error::EngineError;
use crate::model::Blueprint;
use crate::weights::ends::Ends;
use crate::weights::packer::Packer;
use crate::weights::reader::STREAM_ACCESS;
use crate::weights::verification::Verification;

/// Told how many stored bytes were read since it was last told.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// Given the link that streamed layers come over, gives the one to use: the same, or one around it
/// that counts, delays or breaks what passes.
pub type WrapLink<'a> = &'a mut dyn FnMut(Box<dyn Link>) -> Box<dyn Link>;

/// Weights where they will live.
pub(crate) struct Loading {
    pub ends: Ends,
    pub stack: StreamedStack,
    /// The bytes of resident blocks that a token reads.
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
    let reader = blueprint.reader();
    let plan_of_ends = blueprint.ends();
    let embedding = Ends::embedding(&reader, &plan_of_ends, progress)?;
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
    let ends = Ends::load(&reader, &plan_of_ends, embedding, progress)?;
    if blueprint.plan.resident_count() > 0 {
        // Beside them, which are waited for.
        ends.begin_head()?;
    }
    let mut resident_bytes = 0;
    let blocks = &blueprint.blocks;
    let packer = match blocks.form() {
        Form::Compact if blueprint.plan.resident_count() > 0 => {
            Some(Packer::new(blocks, reader, team)?)
        }
        Form::Compact | Form::Plain => None,
    };
    for (resident, layer) in blueprint.plan.resident().enumerate() {
        let bytes = blocks.resident(layer).slab_bytes();
        let slab = Slab::new(bytes, blueprint.slab_dtype(), place.device());
        let slab = slab.map_err(|error| match error {
            OffloadError::OutOfDeviceMemory { bytes, .. } => EngineError::DeviceFull {
                asked: blueprint.plan.resident_count(),
                resident,
                needed_bytes: bytes,
            },
            error => error.into(),
        })?;
        let source = blocks.packed(layer);
        resident_bytes += match &packer {
            Some(packer) => packer.fill(layer, &slab)?,
            None => {
                reader.fill(slab.bytes(), source, Access::Buffered)?;
                source.layout().weight_bytes() as u64
            }
        };
        stack.keep(BlockId::new(blueprint.stack, layer), slab);
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

/// Bytes that loading will read and make ready, for a progress bar.
pub(crate) fn stored_bytes(blueprint: &Blueprint) -> Result<u64, EngineError> {
    let blocks = &blueprint.blocks;
    let is_later = |layer| blueprint.link.home == Home::Disk && blueprint.plan.is_streamed(layer);
    let read = blocks.layers().filter(|&layer| !is_later(layer));
    let read: u64 = read.map(|layer| blocks.packed(layer).stored_bytes()).sum();
    // On a device, what lives in RAM is pinned when it is full: that takes its time, too.
    let pinned = match (blueprint.link.home, blueprint.on_device()) {
        (Home::Ram, true) => blueprint.plan.home_bytes(),
        _ => 0,
    };
    let ends = Ends::stored_bytes(&blueprint.checkpoint, &blueprint.ends())?;
    Ok(read + ends + pinned)
}

fn stream(
    blueprint: &Blueprint,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<(StreamedStack, Option<String>), EngineError> {
    let plan = &blueprint.plan;
    let itinerary = Itinerary::of_stack(blueprint.stack, plan);
    if itinerary.is_empty() {
        return Ok((StreamedStack::resident(), None));
    }
    let slot_bytes = usize::try_from(plan.slab_bytes()).unwrap_or(usize::MAX);
    let slots = (0..plan.slots())
        .map(|_| {
            let device = blueprint.place.device();
            Ok(Slot::new(Slab::new(
                slot_bytes,
                blueprint.slab_dtype(),
                device,
            )?))
        })
        .collect::<Result<Vec<_>, OffloadError>>()?;
    let (homes, expectations) = match blueprint.link.home {
        Home::Disk => {
            let homes = Homes::Disk {
                link: disk_link(blueprint)?,
                staged: blueprint.on_device().then(|| staged(blueprint)),
            };
            (homes, file_expectations(blueprint))
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
        slot_bytes,
        poison: false,
    };
    let Connection { mut link, access } = blueprint.place.connect(homes, &ring, progress)?;
    link = wrap(link);
    if let Some(expectations) = expectations {
        link = Box::new(VerifyingLink::new(link, expectations)?);
    }
    let stack = StreamedStack::streaming(slots, itinerary, &[], link, blueprint.options.prefetch)?;
    Ok((stack, access))
}

type Expectations = Option<BTreeMap<BlockId, Expectation>>;

fn file_expectations(blueprint: &Blueprint) -> Expectations {
    let verification = blueprint.verification.as_ref()?;
    let expectation = |(block, source): (BlockId, &BlockSource)| {
        (block, verification.of_file(&blueprint.checkpoint, source))
    };
    Some(streamed(blueprint).map(expectation).collect())
}

fn home_expectations(
    blueprint: &Blueprint,
    homes: &BTreeMap<BlockId, RamHome>,
) -> Result<Expectations, EngineError> {
    if blueprint.verification.is_none() {
        return Ok(None);
    }
    let source = |block: BlockId| blueprint.blocks.packed(block.layer);
    Verification::of_homes(&blueprint.checkpoint, homes, source).map(Some)
}

/// The streamed blocks, as they come into the host's memory.
fn streamed(blueprint: &Blueprint) -> impl Iterator<Item = (BlockId, &BlockSource)> {
    let (blocks, home) = (&blueprint.blocks, blueprint.link.home);
    let streamed = blueprint.plan.streamed();
    let id = |layer| BlockId::new(blueprint.stack, layer);
    streamed.map(move |layer| (id(layer), blocks.streamed(layer, home)))
}

fn disk_link(blueprint: &Blueprint) -> Result<DiskLink, EngineError> {
    let blocks = streamed(blueprint).map(|(block, source)| (block, source.clone()));
    let sources = blueprint.checkpoint.sources();
    Ok(DiskLink::new(
        sources,
        blocks,
        STREAM_ACCESS,
        blueprint.plan.slots(),
    )?)
}

/// How the pages that a disk fills come to a device's slots.
fn staged(blueprint: &Blueprint) -> Staged {
    let moves = streamed(blueprint).map(|(block, source)| {
        let packed = blueprint.blocks.packed(block.layer);
        (block, source.layout().moves_to(packed.layout()))
    });
    let bytes = streamed(blueprint).map(|(_, source)| source.slab_bytes());
    Staged {
        bytes: bytes.max().unwrap_or(0),
        moves: moves.collect(),
    }
}

fn ram_homes(
    blueprint: &Blueprint,
    progress: Progress<'_>,
) -> Result<BTreeMap<BlockId, RamHome>, EngineError> {
    let mut homes = BTreeMap::new();
    let reader = blueprint.reader();
    for (block, source) in streamed(blueprint) {
        let origin: Arc<str> =
            format!("RAM (packed from {})", blueprint.checkpoint.location()).into();
        let fill = |to: &mut [u8]| -> Result<(), EngineError> {
            Ok(reader.read(source, to, Access::Buffered)?)
        };
        let home = RamHome::filled(origin, source.slab_bytes(), blueprint.place.near(), fill)?;
        progress(source.stored_bytes());
        homes.insert(block, home);
    }
    Ok(homes)
}

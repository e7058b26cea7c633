//! Brings weights to where they will live: the embeddings, then the ring, so that its slots fill
//! while the rest is read; then the head, then the resident blocks. (An embedding that is not the
//! head as well stays on disk where layers come from there, and that head is not waited for.) With
//! the ring before all of it a disk would have filled the slots, and idle, long before the last of
//! the others came. One stack or several share the ring; what a stack is of is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::Team;
use loader::{Access, BlockSource, DType, Form, Storage};
use offload::{
    BlockId, Connection, DiskLink, Expectation, Home, Homes, Itinerary, LayerIndex, Link,
    OffloadError, Place, Prefetch, RamHome, ResidencyPlan, RingShape, Slab, SlabBytes, Slot,
    StackId, Staged, StreamedStack, VerifyingLink,
};

use crate::error::EngineError;
use crate::model::Blueprint;
use crate::weights::blocks::Blocks;
use crate::weights::ends::Ends;
use crate::weights::packer::Packer;
use crate::weights::reader::{STREAM_ACCESS, WeightReader};
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

/// A stack whose blocks are to be brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub stack: StackId,
    pub blocks: &'a Blocks,
    pub plan: &'a ResidencyPlan,
    pub reader: WeightReader<'a>,
    /// Where they come from, for messages.
    pub location: &'a str,
}

/// The ring that streamed blocks come through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingOf<'a> {
    pub place: &'a dyn Place,
    pub home: Home,
    pub emulated_gbps: Option<f64>,
    /// Over the blocks of all stacks.
    pub plan: &'a ResidencyPlan,
    pub slab_dtype: DType,
    pub prefetch: Prefetch,
}

impl Blueprint {
    pub(crate) fn load_of(&self) -> Load<'_> {
        Load {
            stack: self.stack,
            blocks: &self.blocks,
            plan: &self.plan,
            reader: self.reader(),
            location: self.checkpoint.location(),
        }
    }

    /// The ring of a plan over its own blocks, or over those of others as well.
    pub(crate) fn ring_of<'a>(&'a self, plan: &'a ResidencyPlan) -> RingOf<'a> {
        RingOf {
            place: self.place.as_ref(),
            home: self.link.home,
            emulated_gbps: self.link.emulated_gbps,
            plan,
            slab_dtype: self.slab_dtype(),
            prefetch: self.options.prefetch,
        }
    }
}

pub(crate) fn load(
    blueprint: &Blueprint,
    team: &Team,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<Loading, EngineError> {
    let place = blueprint.place.as_ref();
    let (load, checkpoint) = (blueprint.load_of(), &blueprint.checkpoint);
    let plan_of_ends = blueprint.ends();
    let embedding = Ends::embedding(&load.reader, checkpoint, &plan_of_ends, progress)?;
    let ring = blueprint.ring_of(&blueprint.plan);
    let itinerary = Itinerary::of_stack(blueprint.stack, &blueprint.plan);
    let (mut stack, access) = stream(&[load], &ring, itinerary, progress, wrap)?;
    // A session will take as much for its cache and activations: room that no layer may take.
    let fixed = blueprint.plan.fixed();
    let session = match blueprint.on_device() {
        true => {
            let bytes = usize::try_from(fixed.cache + fixed.scratch).unwrap_or(usize::MAX);
            Some(SlabBytes::new(bytes, DType::Bf16, place.device())?)
        }
        false => None,
    };
    let ends = Ends::load(&load.reader, checkpoint, &plan_of_ends, embedding, progress)?;
    if blueprint.plan.resident_count() > 0 {
        // Beside them, which are waited for.
        ends.begin_head()?;
    }
    let resident_bytes = keep(&load, &ring, team, &mut stack, progress)?;
    drop(session);
    Ok(Loading {
        ends,
        stack,
        resident_bytes,
        access,
    })
}

/// Reads the blocks that stay. Returns the bytes of them that a token reads.
pub(crate) fn keep(
    load: &Load<'_>,
    ring: &RingOf<'_>,
    team: &Team,
    stack: &mut StreamedStack,
    progress: Progress<'_>,
) -> Result<u64, EngineError> {
    let Load {
        blocks,
        plan,
        reader,
        ..
    } = *load;
    let mut resident_bytes = 0;
    let packer = match blocks.form() {
        Form::Compact if plan.resident_count() > 0 => Some(Packer::new(blocks, reader, team)?),
        Form::Compact | Form::Plain => None,
    };
    for (resident, layer) in plan.resident().enumerate() {
        let bytes = blocks.resident(layer).slab_bytes();
        let slab = Slab::new(bytes, ring.slab_dtype, ring.place.device());
        let slab = slab.map_err(|error| match error {
            OffloadError::OutOfDeviceMemory { bytes, .. } => EngineError::DeviceFull {
                asked: plan.resident_count(),
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
        stack.keep(BlockId::new(load.stack, layer), slab);
        progress(source.stored_bytes());
    }
    Ok(resident_bytes)
}

/// Bytes that loading will read and make ready, for a progress bar.
pub(crate) fn stored_bytes(blueprint: &Blueprint) -> Result<u64, EngineError> {
    let read = read_bytes(&blueprint.load_of(), blueprint.link.home);
    // On a device, what lives in RAM is pinned when it is full: that takes its time, too.
    let pinned = match (blueprint.link.home, blueprint.on_device()) {
        (Home::Ram, true) => blueprint.plan.home_bytes(),
        _ => 0,
    };
    let ends = Ends::stored_bytes(&blueprint.checkpoint, &blueprint.ends())?;
    Ok(read + ends + pinned)
}

/// Of the blocks that are read before the first pass.
pub(crate) fn read_bytes(load: &Load<'_>, home: Home) -> u64 {
    let is_later = |layer| home == Home::Disk && load.plan.is_streamed(layer);
    let read = load.blocks.layers().filter(|&layer| !is_later(layer));
    read.map(|layer| load.blocks.packed(layer).stored_bytes())
        .sum()
}

/// Starts the ring over the streamed blocks of all stacks.
pub(crate) fn stream(
    loads: &[Load<'_>],
    ring: &RingOf<'_>,
    itinerary: Itinerary,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<(StreamedStack, Option<String>), EngineError> {
    if itinerary.is_empty() {
        return Ok((StreamedStack::resident(), None));
    }
    let slot_bytes = usize::try_from(ring.plan.slab_bytes()).unwrap_or(usize::MAX);
    let slots = (0..ring.plan.slots())
        .map(|_| {
            let device = ring.place.device();
            Ok(Slot::new(Slab::new(slot_bytes, ring.slab_dtype, device)?))
        })
        .collect::<Result<Vec<_>, OffloadError>>()?;
    let on_device = !ring.place.device().is_cpu();
    let mut expectations = BTreeMap::new();
    let homes = match ring.home {
        Home::Disk => {
            for load in loads {
                expectations.extend(file_expectations(load, ring.home));
            }
            Homes::Disk {
                link: disk_link(loads, ring)?,
                staged: on_device.then(|| staged(loads, ring.home)),
            }
        }
        Home::Ram => {
            let mut blocks = BTreeMap::new();
            for load in loads {
                let homes = ram_homes(load, ring, progress)?;
                expectations.extend(home_expectations(load, &homes)?);
                blocks.extend(homes);
            }
            let gbps = ring.emulated_gbps;
            Homes::Ram { blocks, gbps }
        }
    };
    let shape = RingShape {
        slots: ring.plan.slots(),
        visits: itinerary.len(),
        slot_bytes,
        poison: false,
    };
    let Connection { mut link, access } = ring.place.connect(homes, &shape, progress)?;
    link = wrap(link);
    if loads.iter().any(|load| load.reader.verification.is_some()) {
        link = Box::new(VerifyingLink::new(link, expectations)?);
    }
    let stack = StreamedStack::streaming(slots, itinerary, &[], link, ring.prefetch)?;
    Ok((stack, access))
}

type Expectations = BTreeMap<BlockId, Expectation>;

fn file_expectations(load: &Load<'_>, home: Home) -> Expectations {
    let Some((verification, checkpoint)) = load.reader.verification else {
        return Expectations::new();
    };
    let expectation = |(block, source): (BlockId, &BlockSource)| {
        (block, verification.of_file(checkpoint, source))
    };
    streamed(load, home).map(expectation).collect()
}

fn home_expectations(
    load: &Load<'_>,
    homes: &BTreeMap<BlockId, RamHome>,
) -> Result<Expectations, EngineError> {
    let Some((_, checkpoint)) = load.reader.verification else {
        return Ok(Expectations::new());
    };
    let source = |block: BlockId| load.blocks.packed(block.layer);
    Verification::of_homes(checkpoint, homes, source)
}

/// The streamed blocks, as they come into the host's memory.
fn streamed<'a>(
    load: &Load<'a>,
    home: Home,
) -> impl Iterator<Item = (BlockId, &'a BlockSource)> + use<'a> {
    let (stack, blocks, plan) = (load.stack, load.blocks, load.plan);
    let id = move |layer: LayerIndex| BlockId::new(stack, layer);
    let streamed = plan.streamed();
    streamed.map(move |layer| (id(layer), blocks.streamed(layer, home)))
}

/// One link over the files of all stacks.
fn disk_link(loads: &[Load<'_>], ring: &RingOf<'_>) -> Result<DiskLink, EngineError> {
    let mut files: Vec<Arc<dyn Storage>> = Vec::new();
    let mut blocks = Vec::new();
    for load in loads {
        let before = files.len();
        let own = streamed(load, ring.home);
        blocks.extend(own.map(|(block, source)| (block, source.clone().behind(before))));
        files.extend(load.reader.sources.iter().cloned());
    }
    let slots = ring.plan.slots();
    Ok(DiskLink::new(&files, blocks, STREAM_ACCESS, slots)?)
}

/// How the pages that a disk fills come to a device's slots.
fn staged(loads: &[Load<'_>], home: Home) -> Staged {
    let (mut bytes, mut moves) = (0, BTreeMap::new());
    for load in loads {
        for (block, source) in streamed(load, home) {
            let packed = load.blocks.packed(block.layer);
            bytes = bytes.max(source.slab_bytes());
            moves.insert(block, source.layout().moves_to(packed.layout()));
        }
    }
    Staged { bytes, moves }
}

fn ram_homes(
    load: &Load<'_>,
    ring: &RingOf<'_>,
    progress: Progress<'_>,
) -> Result<BTreeMap<BlockId, RamHome>, EngineError> {
    let mut homes = BTreeMap::new();
    for (block, source) in streamed(load, ring.home) {
        let origin: Arc<str> = format!("RAM (packed from {})", load.location).into();
        let fill = |to: &mut [u8]| -> Result<(), EngineError> {
            Ok(load.reader.read(source, to, Access::Buffered)?)
        };
        let home = RamHome::filled(origin, source.slab_bytes(), ring.place.near(), fill)?;
        progress(source.stored_bytes());
        homes.insert(block, home);
    }
    Ok(homes)
}

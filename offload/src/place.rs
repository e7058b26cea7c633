//! Where compute and its memory are: the host, or a device. The seam between *a slab must be
//! filled*, *a block must be streamed* and the machinery that does it there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use loader::Move;

use crate::block::BlockId;
use crate::cuda;
use crate::error::OffloadError;
use crate::links::Link;
use crate::links::disk::DiskLink;
use crate::links::ram::{RamHome, RamLink, measure_copy_gbps};
use crate::memory::numa::NumaNode;
use crate::memory::slab::SlabBytes;

/// A place for weights and compute.
pub trait Place: fmt::Debug + Send + Sync {
    /// What tensors of this place are made on.
    fn device(&self) -> &Device;

    /// Memory that can still be taken there. `None`: it is the host's, and the system knows.
    fn free_bytes(&self) -> Option<u64>;

    /// Where in the host's memory homes should lie. `None`: there is nothing to choose.
    fn near(&self) -> Option<NumaNode> {
        None
    }

    /// Lets `fill` write what `to` is to hold. Returns when it does.
    fn fill(&self, to: &SlabBytes, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), OffloadError>;

    /// The link from the blocks' homes to this place's slots. `progress` is told of the bytes of
    /// homes that were made ready (pinned, for a device).
    fn connect(
        &self,
        homes: Homes,
        ring: &RingShape,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Connection, OffloadError>;

    /// A stopwatch for compute. `None`: compute is the host, and its clock is enough.
    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>>;

    /// What the link from host memory reaches when it does nothing else, in GB/s.
    fn measure_link_gbps(&self, budget: Duration) -> Result<f64, OffloadError>;

    /// What reading this place's memory reaches, in GB/s. `None`: it is the host's.
    fn measure_memory_gbps(&self, budget: Duration) -> Result<Option<f64>, OffloadError>;
}

/// Times what is ordered on a device, by the device's own clock: the host's would time the
/// ordering.
pub trait Stopwatch: fmt::Debug + Send {
    /// Marks the moment at which the device comes to here.
    fn stamp(&mut self) -> Result<(), OffloadError>;

    /// Whether the device has come to the mark made `back` marks before the last. Waits for
    /// nothing.
    fn has_come(&self, back: usize) -> Result<bool, OffloadError>;

    /// Keeps the marks so far for `read`, in place of those kept before, and begins anew.
    fn set_aside(&mut self);

    /// Forgets the marks since then.
    fn forget(&mut self);

    /// When the device came to each mark that was set aside, in order. To be asked when it has been
    /// waited for: it may be at work on what came after them.
    fn read(&mut self, times: &mut Vec<Instant>) -> Result<(), OffloadError>;
}

/// Where the streamed blocks come from.
pub enum Homes {
    Ram {
        blocks: BTreeMap<BlockId, RamHome>,
        /// The bus to emulate.
        gbps: Option<f64>,
    },
    Disk {
        link: DiskLink,
        /// How it comes to a device; `None` where it fills the slots itself.
        staged: Option<Staged>,
    },
}

/// Blocks as a disk brings them into host memory, and where in a device's slots their parts belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Of the largest.
    pub bytes: usize,
    pub moves: BTreeMap<BlockId, Vec<Move>>,
}

/// What a link must know of the ring it serves.
#[derive(Debug, Clone)]
pub struct RingShape {
    pub slots: usize,
    /// Visits of streamed blocks in one unit of work: in the longest of all itineraries that the
    /// ring may be given.
    pub visits: usize,
    /// Of one slot.
    pub slot_bytes: usize,
    /// Fill a slot with NaN before each copy into it, so that a read which comes too early or too
    /// late shows: for tests. (A device's link does; the host's tests bring their own links.)
    pub poison: bool,
}

/// A link, and what there is to say about it.
#[derive(Debug)]
pub struct Connection {
    pub link: Box<dyn Link>,
    /// How the homes are read, where that turned out only now.
    pub access: Option<String>,
}

/// Which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaceChoice {
    /// The first device there is, else the host.
    #[default]
    Auto,
    Host,
    Cuda(usize),
}

impl PlaceChoice {
    /// Whether it is a device with memory of its own, in this build and on this machine.
    pub fn is_device(self) -> bool {
        match self {
            Self::Auto => cuda::count() > 0,
            Self::Host => false,
            Self::Cuda(_) => true,
        }
    }
}

/// Opens a place. What a build without the feature `cuda` lacks is an error here.
pub fn open(choice: PlaceChoice) -> Result<Arc<dyn Place>, OffloadError> {
    match choice {
        PlaceChoice::Auto if choice.is_device() => cuda::open(0),
        PlaceChoice::Auto | PlaceChoice::Host => Ok(Arc::new(Host)),
        PlaceChoice::Cuda(ordinal) => cuda::open(ordinal),
    }
}

/// The host itself.
#[derive(Debug, Clone, Copy)]
pub struct Host;

impl Place for Host {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn fill(&self, to: &SlabBytes, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), OffloadError> {
        to.write(fill)
    }

    fn connect(
        &self,
        homes: Homes,
        ring: &RingShape,
        _progress: &mut dyn FnMut(u64),
    ) -> Result<Connection, OffloadError> {
        Ok(Connection {
            link: homes.into_host_link(ring.slots)?,
            access: None,
        })
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        None
    }

    fn measure_link_gbps(&self, budget: Duration) -> Result<f64, OffloadError> {
        Ok(measure_copy_gbps(budget))
    }

    fn measure_memory_gbps(&self, _budget: Duration) -> Result<Option<f64>, OffloadError> {
        Ok(None)
    }
}

impl Homes {
    /// The link that brings these blocks into slots in host memory.
    pub(crate) fn into_host_link(self, slots: usize) -> Result<Box<dyn Link>, OffloadError> {
        Ok(match self {
            Self::Ram { blocks, gbps } => Box::new(RamLink::new(blocks, gbps, slots)?),
            Self::Disk { link, .. } => Box::new(link),
        })
    }
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram { .. } => "Ram",
            Self::Disk { .. } => "Disk",
        })
    }
}

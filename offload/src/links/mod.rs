//! The seam between the ring and whatever moves the bytes: disk reads, a throttled copy, a GPU's
//! copy engine. A link starts copies and gives a mark for each; it knows no slot discipline.

pub mod disk;
pub mod latch;
pub mod pool;
pub mod ram;
pub mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block::BlockId;
use crate::error::LinkError;
use crate::ring::slot::Slot;

/// Moves blocks from their home into slots.
///
/// One owner is its only caller: the prefetch thread, or a cache of experts. `start` must not wait
/// for the bytes: the copies of all slots are in flight at once. Dropping the link ends its
/// threads; the marks of copies that it then leaves out come as errors, so that nobody waits for
/// them for ever.
pub trait Link: Send {
    /// Starts filling the slot's slab with `block`. The bytes may be written until the mark has
    /// come; the caller keeps everybody else away from the slab until then. A slot that was used
    /// before was released through its last mark.
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError>;

    /// Where the block's bytes come from, for messages.
    fn origin(&self, block: BlockId) -> Arc<str>;

    /// Bytes that `start` moves for one block.
    fn bytes(&self, block: BlockId) -> u64;
}

/// The completion of one copy, and what its visit tells the link. Called in this order by the
/// visit's thread; by a cache, which keeps a block for more visits, `release` last of all.
pub trait Mark: Send + Sync {
    /// Whether `wait` would return at once, given this much time to become so. For marks whose
    /// `wait` blocks: whoever waits can then give up between two tries.
    fn landed_within(&self, _patience: Duration) -> bool {
        true
    }

    /// Keeps compute away from the slab until the copy has landed. On the host it blocks; on a
    /// device it makes the compute stream wait, and returns at once.
    fn wait(&self) -> Result<(), LinkError>;

    /// The visit has issued its last read of the slab: no copy into it may overtake that. On the
    /// host the reads are over when it is called, and there is nothing to do.
    fn release(&self) -> Result<(), LinkError> {
        Ok(())
    }

    /// When all that happened. Asked when the unit of work is over and compute has been waited for,
    /// so that a device knows, and before the visits of the unit after the next.
    fn arrival(&self) -> Result<Arrival, LinkError>;

    /// What holding the bytes against their checksums took, where that was done.
    fn verified(&self) -> Duration {
        Duration::ZERO
    }
}

/// When a copy ran, and the visit that used it where another clock than the host's counts.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When the link moved the block's first byte and when its last had landed.
    pub copy_from: Instant,
    pub copy_to: Instant,
    /// `None`: compute is the host, and the host's own clock says it.
    pub visit: Option<DeviceVisit>,
}

/// A visit as a device's own clock timed it.
#[derive(Debug, Clone, Copy)]
pub struct DeviceVisit {
    /// When the compute stream came to where it needs the block.
    pub asked_at: Instant,
    /// How long it then waited for it.
    pub pre: Duration,
    /// When its last read of the slab was over.
    pub visit_to: Instant,
}

/// Where streamed weights live and how they travel: what the plan prints.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkInfo {
    pub home: Home,
    /// How the home is read, in words: "direct I/O", "page cache", "memory copy".
    pub access: String,
    /// The bus this link pretends to be. Every output then says `emulated`.
    pub emulated_gbps: Option<f64>,
}

/// Where the weights of streamed layers live between visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The checkpoint's own files (or the program's own bytes), read again at each visit.
    Disk,
    /// Packed once into host memory.
    Ram,
}

impl Home {
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Ram => "ram",
        }
    }
}

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl fmt::Debug for dyn Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

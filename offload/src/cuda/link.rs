//! The CUDA link: one copy a block, from pinned memory to a slot, on the copy stream. Ordering one
//! takes microseconds and no waiting; what cannot be pinned goes through `staging`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::pinned::{DeviceMemory, Pinned};
use super::staging::{Buffer, Staging};
use super::streams::Streams;
use super::visit::{PendingCopy, VisitEvents};
use crate::block::BlockId;
use crate::error::{LinkError, OffloadError};
use crate::links::ram::RamHome;
use crate::links::{Link, Mark};
use crate::memory::numa::NumaNode;
use crate::memory::slab::SlabBytes;
use crate::place::{Homes, RingShape};
use crate::ring::slot::Slot;

/// Threads that pin: it is the system's work, page by page, and goes on side by side.
const PINNING_THREADS: usize = 4;

#[derive(Debug)]
pub(super) struct CudaLink {
    streams: Arc<Streams>,
    pinned: BTreeMap<BlockId, Pinned>,
    staging: Option<Staging>,
    facts: BTreeMap<BlockId, Facts>,
    /// One set a visit, round and round.
    events: Vec<Arc<VisitEvents>>,
    started: usize,
    poison: bool,
    /// By the slot's index.
    slots: Vec<Option<Target>>,
}

/// What is told of a block.
#[derive(Debug)]
struct Facts {
    origin: Arc<str>,
    bytes: u64,
}

/// A slot as the copies see it.
#[derive(Debug)]
struct Target {
    /// Keeps the memory while copies may write it, even when the slot itself is gone.
    _slab: SlabBytes,
    memory: DeviceMemory,
    last: Option<Arc<VisitEvents>>,
}

impl CudaLink {
    /// The link, and how the homes are read by it.
    pub fn connect(
        streams: &Arc<Streams>,
        near: Option<NumaNode>,
        homes: Homes,
        ring: &RingShape,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, String), OffloadError> {
        let mut facts = BTreeMap::new();
        let mut pinned = BTreeMap::new();
        let (staging, access) = match homes {
            Homes::Disk { link, staged } => {
                for block in link.blocks() {
                    facts.insert(block, Facts::of(&link, block));
                }
                let Some(staged) = staged else {
                    return Err(OffloadError::NotStaged);
                };
                let buffers = Staging::buffers(streams, near, staged.bytes)?;
                let place = placed(near, buffers.iter().map(Buffer::memory))?;
                let homes = Homes::Disk { link, staged: None };
                let staging = Staging::start(buffers, homes, staged.moves, ring.slots)?;
                let access =
                    format!("direct reads into a pinned staging ring{place}, then the copy engine");
                (Some(staging), access)
            }
            Homes::Ram { blocks, gbps } => {
                for (&block, home) in &blocks {
                    let origin = Arc::clone(&home.origin);
                    let bytes = home.bytes.len_bytes() as u64;
                    facts.insert(block, Facts { origin, bytes });
                }
                let all = blocks.len();
                let Refused { mut blocks, said } = pin_all(streams, blocks, &mut pinned, progress);
                let buffers = match said {
                    None => None,
                    Some(_) => {
                        let room = make_room(streams, near, ring, &mut pinned, &mut blocks, &facts);
                        Some(room?)
                    }
                };
                let staged = buffers.iter().flatten().map(Buffer::memory);
                let place = placed(near, pinned.values().map(Pinned::memory).chain(staged))?;
                let mut access = format!("the copy engine from pinned memory{place}");
                if let Some(said) = said {
                    let _ = write!(
                        access,
                        " for {} of {all} layers; the others pass a pinned staging ring, because \
                         the system refused to pin more ({said})",
                        pinned.len(),
                    );
                }
                let homes = Homes::Ram { blocks, gbps };
                let start = |buffers| Staging::start(buffers, homes, BTreeMap::new(), ring.slots);
                let staging = buffers.map(start);
                (staging.transpose()?, access)
            }
        };
        // See `visit` for why this many.
        let events = (0..2 * ring.visits + ring.slots)
            .map(|_| VisitEvents::new(streams).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(super::opening)?;
        let link = Self {
            streams: Arc::clone(streams),
            pinned,
            staging,
            facts,
            events,
            started: 0,
            poison: ring.poison,
            slots: (0..ring.slots).map(|_| None).collect(),
        };
        Ok((link, access))
    }

    /// The slot's memory, looked up at its first copy.
    fn target(&mut self, slot: &Slot) -> Result<&mut Target, LinkError> {
        let target = self
            .slots
            .get_mut(slot.index())
            .ok_or_else(|| LinkError::Slab("the ring has more slots than it said".into()))?;
        if target.is_none() {
            let slab = slot.slab().bytes();
            let memory =
                DeviceMemory::of(slab).map_err(|error| LinkError::Slab(error.to_string()))?;
            *target = Some(Target {
                _slab: slab.clone(),
                memory,
                last: None,
            });
        }
        target.as_mut().ok_or(LinkError::NoHome)
    }
}

impl Facts {
    fn of(link: &dyn Link, block: BlockId) -> Self {
        Self {
            origin: link.origin(block),
            bytes: link.bytes(block),
        }
    }
}

impl Link for CudaLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let events = Arc::clone(&self.events[self.started % self.events.len()]);
        self.started += 1;
        let poison = self.poison;
        let target = self.target(slot)?;
        let after = target.last.replace(Arc::clone(&events));
        let copy = PendingCopy::new(&events, target.memory, after, poison);
        match (self.pinned.get(&block), &self.staging) {
            (Some(home), _) => {
                copy.order(home.all(), None)?;
            }
            (None, Some(staging)) => staging.carry(block, copy)?,
            (None, None) => return Err(LinkError::NoHome),
        }
        Ok(events)
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        self.facts
            .get(&block)
            .map_or_else(|| "nowhere".into(), |facts| Arc::clone(&facts.origin))
    }

    fn bytes(&self, block: BlockId) -> u64 {
        self.facts.get(&block).map_or(0, |facts| facts.bytes)
    }
}

impl Drop for CudaLink {
    fn drop(&mut self) {
        // Before any memory goes, on either side: nothing more is ordered, and what was is over.
        self.staging = None;
        // waits: at the end
        let _ = self.streams.copy.synchronize();
    }
}

/// Where pinned memory turned out to be, if there was a choice.
fn placed<'a>(
    near: Option<NumaNode>,
    memory: impl Iterator<Item = &'a SlabBytes>,
) -> Result<String, OffloadError> {
    let Some(node) = near else {
        return Ok(String::new());
    };
    let mut share = node.share();
    for memory in memory {
        memory.read(|bytes| share.add(bytes))?;
    }
    Ok(format!(", {share}"))
}

/// Staging buffers, where the system pins no more: homes give up their place until there is room.
fn make_room(
    streams: &Streams,
    near: Option<NumaNode>,
    ring: &RingShape,
    pinned: &mut BTreeMap<BlockId, Pinned>,
    unpinned: &mut BTreeMap<BlockId, RamHome>,
    facts: &BTreeMap<BlockId, Facts>,
) -> Result<Vec<Buffer>, OffloadError> {
    loop {
        let refused = match Staging::buffers(streams, near, ring.slot_bytes) {
            Ok(buffers) => return Ok(buffers),
            Err(refused) => refused,
        };
        let Some((block, home)) = pinned.pop_last() else {
            return Err(refused);
        };
        let origin = facts.get(&block).map(|facts| Arc::clone(&facts.origin));
        let home = RamHome {
            origin: origin.unwrap_or_else(|| "RAM".into()),
            bytes: home.memory().clone(),
        };
        unpinned.insert(block, home);
    }
}

/// Homes that could not be pinned, and what the driver said to the first.
struct Refused {
    blocks: BTreeMap<BlockId, RamHome>,
    said: Option<String>,
}

/// Pins homes side by side, in order, until one is refused: the next would be, too.
fn pin_all(
    streams: &Streams,
    blocks: BTreeMap<BlockId, RamHome>,
    pinned: &mut BTreeMap<BlockId, Pinned>,
    progress: &mut dyn FnMut(u64),
) -> Refused {
    let homes: Vec<(BlockId, RamHome)> = blocks.into_iter().collect();
    let next = AtomicUsize::new(0);
    let said = Mutex::new(None);
    let (done, results) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        for _ in 0..PINNING_THREADS.min(homes.len()) {
            let done = done.clone();
            let (homes, next, said) = (&homes, &next, &said);
            let pin = move || {
                while let Some((block, home)) = homes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match Pinned::new(streams.context(), home.bytes.clone()) {
                        Ok(home) => {
                            let _ = done.send((*block, home));
                        }
                        Err(error) => {
                            next.store(homes.len(), Ordering::Relaxed);
                            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                            said.get_or_insert_with(|| error.to_string());
                        }
                    }
                }
            };
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, pin) {
                // Those that have started pin the rest; without any, this is why nothing is pinned.
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.get_or_insert_with(|| error.to_string());
                break;
            }
        }
        drop(done);
        for (block, home) in results {
            progress(home.memory().len_bytes() as u64);
            pinned.insert(block, home);
        }
    });
    Refused {
        blocks: homes
            .into_iter()
            .filter(|(block, _)| !pinned.contains_key(block))
            .collect(),
        said: said.into_inner().unwrap_or_else(PoisonError::into_inner),
    }
}

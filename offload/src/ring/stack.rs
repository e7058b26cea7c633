//! The streamed stack: resident blocks, a ring of slots, and one way in.
//!
//! How slots travel is in `mod.rs`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::block::BlockId;
use crate::error::OffloadError;
use crate::links::Link;
use crate::memory::slab::Slab;
use crate::ring::Ring;
use crate::ring::itinerary::Itinerary;
use crate::ring::prefetch::Failure;
use crate::ring::record::{LoadKind, LoadRecord};
use crate::ring::slot::Slot;
use crate::ring::ticket::Visited;

/// When streamed blocks are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefetch {
    /// As soon as a slot is free, in the itinerary's order.
    Ahead,
    /// When a visit asks. Every load is then `Sync`.
    AtNeed,
}

/// The visits of a unit of work whose records are read later.
#[derive(Debug, Default)]
pub struct Visits(Vec<Visited>);

#[derive(Debug)]
pub struct StreamedStack {
    resident: BTreeMap<BlockId, Slab>,
    ring: Option<Ring>,
    /// Visits of streamed blocks since they were last set aside; allocated once.
    visited: Vec<Visited>,
}

impl StreamedStack {
    /// A stack that streams nothing.
    pub fn resident() -> Self {
        Self {
            resident: BTreeMap::new(),
            ring: None,
            visited: Vec::new(),
        }
    }

    /// Starts the prefetch thread; with `Prefetch::Ahead` the first slot begins to fill at once,
    /// and the others when they have been touched, if they are large (see `Touching`). The slots
    /// are as large as the largest block. `later`: blocks that the link can bring as well, for
    /// itineraries that follow.
    pub fn streaming(
        slots: Vec<Slot>,
        itinerary: Itinerary,
        later: &[BlockId],
        link: Box<dyn Link>,
        prefetch: Prefetch,
    ) -> Result<Self, OffloadError> {
        assert!(
            !slots.is_empty() || (itinerary.is_empty() && later.is_empty()),
            "a ring without slots"
        );
        let visited = Vec::with_capacity(itinerary.len());
        let ring = Ring::start(slots, itinerary, later, link, prefetch)?;
        Ok(Self {
            resident: BTreeMap::new(),
            ring: Some(ring),
            visited,
        })
    }

    /// Adds a resident block. The ring's first slots fill while resident blocks are being read.
    pub fn keep(&mut self, block: BlockId, slab: Slab) {
        self.resident.insert(block, slab);
    }

    /// Goes on with another itinerary, from the next unit of work on: from the one under way if
    /// none of its blocks was visited yet. Copies that were begun for the next unit of the old one are
    /// given back unseen, before the first visit of the new one; they are no more than there are
    /// slots, and none where this is said early enough.
    pub fn follow(&mut self, next: Itinerary) -> Result<(), OffloadError> {
        let Some(ring) = self.ring.as_mut() else {
            return match next.blocks().next() {
                Some(block) => Err(OffloadError::Unknown { block }),
                None => Ok(()),
            };
        };
        let blocks = next.len();
        ring.follow(next)?;
        self.visited.reserve(blocks);
        Ok(())
    }

    /// Setting the flag ends the wait for a copy with [`OffloadError::Cancelled`]. The copy goes
    /// on, and the block can be visited again.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        if let Some(ring) = &mut self.ring {
            ring.cancel_with(flag);
        }
    }

    /// Runs `work` over the block's weights: at once if it is resident, otherwise when its copy
    /// has landed. All branches that need the block belong into one visit: the link is paid once.
    pub fn visit<R, E: From<OffloadError>>(
        &mut self,
        block: BlockId,
        work: impl FnOnce(&Slab) -> Result<R, E>,
    ) -> Result<R, E> {
        if let Some(slab) = self.resident.get(&block) {
            return work(slab);
        }
        let ring = self.ring.as_mut().ok_or(OffloadError::Unknown { block })?;
        let (slot, mut visited) = ring.take(block)?;
        // A panic in the closure must not keep the slot: the next visits would wait for it.
        let result = catch_unwind(AssertUnwindSafe(|| work(slot.slab())));
        let released = ring.give_back(slot, &mut visited);
        self.visited.push(visited);
        match result {
            Ok(Ok(done)) => released.map(|()| done).map_err(E::from),
            // What the work ended in is told now, and the ring's failure at the next visit.
            Ok(Err(error)) => {
                ring.say_later(released.err());
                Err(error)
            }
            Err(panic) => {
                ring.say_later(released.err());
                resume_unwind(panic)
            }
        }
    }

    /// Goes on to the next unit of work after a pass that was cut short: takes the copies that
    /// are already on their way for the rest of this one and gives their slots back.
    pub fn finish_unit(&mut self) -> Result<(), OffloadError> {
        let Some(ring) = self.ring.as_mut() else {
            return Ok(());
        };
        while let Some(block) = ring.next_of_unit() {
            let (slot, mut visited) = ring.take(block)?;
            ring.give_back(slot, &mut visited)?;
        }
        self.visited.clear();
        Ok(())
    }

    /// Moves the visits of the unit of work that is over out of the next one's way, in place of
    /// what `aside` held before.
    pub fn set_aside(&mut self, aside: &mut Visits) {
        aside.0.clear();
        aside.0.reserve(self.visited.len());
        std::mem::swap(&mut aside.0, &mut self.visited);
    }

    /// Moves the records of those visits to the end of `into`. To be called when compute has been
    /// waited for at the unit's end, and before the visits of the unit after the next: what a
    /// device knows of them is overwritten then.
    pub fn read(
        &mut self,
        aside: &mut Visits,
        into: &mut Vec<LoadRecord>,
    ) -> Result<(), OffloadError> {
        for visited in aside.0.drain(..) {
            let block = visited.record.block;
            match (visited.complete(), self.ring.as_mut()) {
                (Ok(record), _) => into.push(record),
                (Err(source), Some(ring)) => {
                    return Err(ring.fail(block, Failure::Link(Box::new(source))));
                }
                (Err(_), None) => return Err(OffloadError::Unknown { block }),
            }
        }
        Ok(())
    }

    /// What the last load turned out to be, until it is set aside.
    pub fn last_load(&self) -> Option<LoadKind> {
        self.visited.last().map(|visited| visited.record.kind)
    }

    /// Streamed blocks in the longest unit of work.
    pub fn streamed_count(&self) -> usize {
        self.ring.as_ref().map_or(0, Ring::unit_blocks)
    }
}

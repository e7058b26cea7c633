//! The cache beside the ring: a fixed number of slots for blocks that data asks for, like experts.
//! The ring's order is known ahead; here a visit says which blocks it needs, and those that are
//! there from visits before cost nothing.
//!
//! No thread stands between: a link's `start` returns at once, so the visitor starts the copies of
//! all blocks that are missing, works on those that are there, and then waits for the others.
//!
//! * A seat holds its slot in one of three states. While a copy is under way it is in a ticket, and
//!   redeeming that is the only way to the bytes, as in the ring.
//! * A slot is released when its block has to go, before the next copy into it is started: a block
//!   may be visited many times.
//! * A failed load ends the cache. What a visit's own work ends in does not: copies that are under
//!   way then stay so, and their blocks can be asked for again.
//!
//! Never asked for inside a visit of the ring, nor the other way round. Knows no router and no
//! model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::links::{Link, Mark};
use crate::memory::slab::Slab;
use crate::ring::PATIENCE;
use crate::ring::record::{LoadKind, LoadRecord};
use crate::ring::slot::Slot;
use crate::ring::ticket::{Ticket, Visited};

/// Slots of their own for blocks that data asks for, and the threads that fill them.
#[derive(Debug)]
pub struct Experts {
    /// `None` after an error. It stands first: its threads end before the slots go.
    link: Option<Box<dyn Link>>,
    seats: Vec<Seat>,
    /// Of every block that the link can bring.
    origins: BTreeMap<BlockId, Arc<str>>,
    /// Visits so far: tells which block was used last.
    visits: u64,
    counts: Counts,
    /// First visits of loads whose records were not taken yet.
    visited: Vec<Visited>,
    cancel: Arc<AtomicBool>,
}

/// Blocks that were asked for, each once a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// They were there.
    pub hits: u64,
    /// They had to be loaded, or waited for.
    pub misses: u64,
}

/// Where a slot is.
#[derive(Debug)]
enum Seat {
    Empty(Slot),
    Coming(Ticket),
    There(Cached),
    /// It went with a failed load, and the cache with it.
    Gone,
}

/// A block whose copy has landed.
#[derive(Debug)]
struct Cached {
    block: BlockId,
    slot: Slot,
    mark: Arc<dyn Mark>,
    /// The number of its last visit.
    used: u64,
    /// Its load, until the first visit.
    load: Option<Visited>,
}

impl Experts {
    /// An empty cache. `blocks`: all that the link can bring; the slots are as large as the
    /// largest.
    pub fn new(slots: Vec<Slot>, blocks: &[BlockId], link: Box<dyn Link>) -> Self {
        assert!(!slots.is_empty(), "a cache without slots");
        let origins = blocks.iter().map(|&block| (block, link.origin(block)));
        let origins = origins.collect();
        let seats = slots.into_iter().zip(0..).map(|(mut slot, index)| {
            slot.index = index;
            Seat::Empty(slot)
        });
        Self {
            seats: seats.collect(),
            link: Some(link),
            origins,
            visits: 0,
            counts: Counts::default(),
            visited: Vec::new(),
            cancel: Arc::default(),
        }
    }

    /// Setting the flag ends the wait for a copy with [`OffloadError::Cancelled`]. The copies go
    /// on, and the blocks can be asked for again.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.cancel = flag;
    }

    /// Runs `work` over the weights of each of these blocks, once, even if it is named twice. Those
    /// that are missing begin to come before anything is worked on, as many as there are slots for;
    /// where there are more blocks than slots, the next follow as others are done with.
    ///
    /// **In no fixed order**: those that are there come first. What is computed must not depend on
    /// it, or the same run gives other bits on another day: keep what each block gives apart, and
    /// add it up in the order that was asked for.
    ///
    /// The first error ends the call; blocks that were not worked on by then are not.
    pub fn visit_each<E: From<OffloadError>>(
        &mut self,
        blocks: &[BlockId],
        mut work: impl FnMut(BlockId, &Slab) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut wanted = self.wanted(blocks)?;
        while !wanted.is_empty() {
            self.start_missing(&wanted)?;
            let mut there = self.seats.iter_mut().filter_map(Seat::there);
            let Some(cached) = there.find(|it| wanted.contains(&it.block)) else {
                self.wait_for_one(&wanted)?;
                continue;
            };
            wanted.retain(|&block| block != cached.block);
            self.visits += 1;
            cached.used = self.visits;
            let load = cached.load.take();
            let is_first = load.is_some();
            // Before the work, which may panic: a load has its record all the same.
            self.visited.extend(load);
            let done = work(cached.block, cached.slot.slab());
            if let Some(visited) = self.visited.last_mut()
                && is_first
            {
                visited.record.visit_to = Instant::now();
            }
            done?;
        }
        Ok(())
    }

    /// Blocks that were there when they were asked for, and those that were not.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Moves the records of loads to the end of `into`, each with its first visit: a load that was
    /// not visited yet, because the call that asked for it was cut short, comes later or not at
    /// all. They are all `SYNC`: ordered because they were needed. To be called once a unit of
    /// work, when compute has been waited for.
    pub fn records(&mut self, into: &mut Vec<LoadRecord>) -> Result<(), OffloadError> {
        for visited in std::mem::take(&mut self.visited) {
            let block = visited.record.block;
            into.push(visited.complete().map_err(|it| self.fail(block, it))?);
        }
        Ok(())
    }

    /// Those blocks, each once, counted.
    fn wanted(&mut self, blocks: &[BlockId]) -> Result<Vec<BlockId>, OffloadError> {
        let mut wanted = Vec::with_capacity(blocks.len());
        for &block in blocks {
            if !self.origins.contains_key(&block) {
                return Err(OffloadError::Unknown { block });
            }
            if !wanted.contains(&block) {
                wanted.push(block);
            }
        }
        if let (None, Some(&block)) = (&self.link, wanted.first()) {
            return Err(OffloadError::Stopped { block });
        }
        for &block in &wanted {
            let is_there = |seat: &Seat| matches!(seat, Seat::There(it) if it.block == block);
            match self.seats.iter().any(is_there) {
                true => self.counts.hits += 1,
                false => self.counts.misses += 1,
            }
        }
        Ok(wanted)
    }

    /// Starts the copies of all that are neither there nor coming, while there are slots for them.
    fn start_missing(&mut self, wanted: &[BlockId]) -> Result<(), OffloadError> {
        for &block in wanted {
            if self.seats.iter().any(|seat| seat.block() == Some(block)) {
                continue;
            }
            let Some(place) = self.vacancy(wanted) else {
                break;
            };
            let slot = self.empty(place)?;
            let ticket = self.start(block, slot)?;
            self.seats[place] = Seat::Coming(ticket);
        }
        Ok(())
    }

    /// A seat for another block: an empty one, or that of a copy which nobody wants any more and
    /// which has landed, or else that of the block which was used the longest time ago. Never that
    /// of a block which is wanted.
    fn vacancy(&self, wanted: &[BlockId]) -> Option<usize> {
        let age = |seat: &Seat| match seat {
            Seat::Empty(_) => Some(0),
            Seat::Coming(Ticket { block, .. }) | Seat::There(Cached { block, .. })
                if wanted.contains(block) =>
            {
                None
            }
            Seat::Coming(ticket) => ticket.mark.landed_within(Duration::ZERO).then_some(0),
            Seat::There(cached) => Some(cached.used),
            Seat::Gone => None,
        };
        let ages = self.seats.iter().map(age).enumerate();
        let vacant = ages.filter_map(|(place, age)| Some((age?, place)));
        vacant.min().map(|(_, place)| place)
    }

    fn take(&mut self, place: usize) -> Seat {
        std::mem::replace(&mut self.seats[place], Seat::Gone)
    }

    /// The slot of a vacant seat. The last read of what is in it was ordered: another copy may
    /// come.
    fn empty(&mut self, place: usize) -> Result<Slot, OffloadError> {
        let cached = match self.take(place) {
            Seat::Empty(slot) => return Ok(slot),
            Seat::There(cached) => cached,
            Seat::Coming(ticket) => self.redeem(ticket)?,
            Seat::Gone => unreachable!("a cache that goes on"),
        };
        let Cached {
            block, slot, mark, ..
        } = cached;
        match caught(|| mark.release()) {
            Ok(()) => Ok(slot),
            Err(source) => Err(self.fail(block, source)),
        }
    }

    /// Waits for the copy.
    fn redeem(&mut self, ticket: Ticket) -> Result<Cached, OffloadError> {
        let (block, mark) = (ticket.block, Arc::clone(&ticket.mark));
        match ticket.redeem(Instant::now()) {
            Ok((slot, mut load)) => {
                load.record.kind = LoadKind::Sync;
                let load = Some(load);
                let used = 0;
                Ok(Cached {
                    block,
                    slot,
                    mark,
                    used,
                    load,
                })
            }
            Err(source) => Err(self.fail(block, source)),
        }
    }

    fn start(&mut self, block: BlockId, slot: Slot) -> Result<Ticket, OffloadError> {
        let issued_at = Instant::now();
        let link = self.link.as_mut();
        let link = link.ok_or(OffloadError::Stopped { block })?;
        let started = caught(|| Ok((link.bytes(block), link.start(block, &slot)?)));
        match started {
            Ok((bytes, mark)) => Ok(Ticket {
                block,
                slot,
                issued_at,
                bytes,
                mark,
            }),
            Err(source) => Err(self.fail(block, source)),
        }
    }

    /// Waits until one of the wanted blocks has landed. Where copies of a call that was cut short
    /// are in every slot, until one of those has.
    fn wait_for_one(&mut self, wanted: &[BlockId]) -> Result<(), OffloadError> {
        let asked_at = Instant::now();
        let place = self.landed(wanted)?;
        let is_wanted = |block| wanted.contains(&block);
        // One that nobody wants is vacant from now on.
        if self.seats[place].block().is_some_and(is_wanted)
            && let Seat::Coming(ticket) = self.take(place)
        {
            let mut cached = self.redeem(ticket)?;
            if let Some(Visited { record, .. }) = &mut cached.load {
                record.asked_at = asked_at;
                record.pre = asked_at.elapsed();
            }
            self.seats[place] = Seat::There(cached);
        }
        Ok(())
    }

    /// The seat of a copy that has landed: of a wanted block, if any of them is coming.
    fn landed(&self, wanted: &[BlockId]) -> Result<usize, OffloadError> {
        let coming = || {
            let seats = self.seats.iter().enumerate();
            seats.filter_map(|(place, seat)| match seat {
                Seat::Coming(ticket) => Some((place, ticket)),
                _ => None,
            })
        };
        let is_wanted = |ticket: &Ticket| wanted.contains(&ticket.block);
        let any_wanted = coming().any(|(_, ticket)| is_wanted(ticket));
        let mut coming: Vec<(usize, &Ticket)> = coming()
            .filter(|(_, ticket)| !any_wanted || is_wanted(ticket))
            .collect();
        coming.sort_by_key(|(_, ticket)| ticket.issued_at);
        let Some(&(first, oldest)) = coming.first() else {
            unreachable!("nothing is vacant, so all are coming");
        };
        loop {
            let landed =
                |(_, ticket): &&(usize, &Ticket)| ticket.mark.landed_within(Duration::ZERO);
            if let Some((place, _)) = coming.iter().find(landed) {
                return Ok(*place);
            }
            if self.cancel.load(Ordering::Relaxed) {
                let block = oldest.block;
                return Err(OffloadError::Cancelled { block });
            }
            if oldest.mark.landed_within(PATIENCE) {
                return Ok(first);
            }
        }
    }

    /// Ends the run, and says why.
    fn fail(&mut self, block: BlockId, source: LinkError) -> OffloadError {
        self.end();
        let origin = self.origins.get(&block).cloned();
        OffloadError::Load {
            block,
            origin: origin.unwrap_or_else(|| "its home".into()),
            source: Box::new(source),
        }
    }

    /// Ends the link's threads. A link that panics while it goes has nothing to add.
    fn end(&mut self) {
        let link = self.link.take();
        let _ = caught(|| {
            drop(link);
            Ok(())
        });
    }
}

impl Drop for Experts {
    fn drop(&mut self) {
        self.end();
    }
}

impl Seat {
    fn there(&mut self) -> Option<&mut Cached> {
        match self {
            Self::There(cached) => Some(cached),
            _ => None,
        }
    }

    /// The block that is there or coming.
    fn block(&self) -> Option<BlockId> {
        match self {
            Self::Coming(ticket) => Some(ticket.block),
            Self::There(cached) => Some(cached.block),
            Self::Empty(_) | Self::Gone => None,
        }
    }
}

/// A link or a mark that panics is a failed load like any other. What it panicked with is kept for
/// good: letting go of it may panic as well, and no thread of the link's own stands between.
fn caught<T>(ask: impl FnOnce() -> Result<T, LinkError>) -> Result<T, LinkError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        let message = panic_message(panic.as_ref());
        std::mem::forget(panic);
        Err(LinkError::Panicked(message))
    })
}

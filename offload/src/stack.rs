//! The streamed stack: resident blocks, a ring of slots, and one way in.
//!
//! Slots travel, and holding one is the whole protocol:
//!
//! ```text
//! free channel -> prefetch thread -> ready channel -> visit -> free channel
//!                 starts a copy       a Ticket         reads
//! ```
//!
//! * Only the prefetch thread takes from `free`; only `visit` takes from `ready` and gives to
//!   `free`, into which fresh slots come before (large ones from a thread that touches them). Both
//!   channels hold as many entries as there are slots, so no send waits.
//! * A slot is written only while it is in a ticket, and read only inside `visit`, after the
//!   ticket's mark was waited for. It goes back to `free` after the closure has returned: the
//!   next copy into it cannot start earlier.
//! * A failed load ends the run: the visit that wanted the block reports it, with the block and
//!   the file. Dropping the stack hangs up both channels and joins the thread.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::block::BlockId;
use crate::error::{OffloadError, panic_message};
use crate::itinerary::Itinerary;
use crate::link::Link;
use crate::prefetch::{self, Ends, Failure};
use crate::record::{LoadKind, LoadRecord};
use crate::route::{Expected, Route};
use crate::slab::Slab;
use crate::slot::{Slot, Touching};
use crate::ticket::{Ticket, Visited};

/// How long a wait for a copy goes on before it looks whether anybody still wants it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

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
        if let Some(block) = next.blocks().find(|it| !ring.origins.contains_key(it)) {
            return Err(OffloadError::Unknown { block });
        }
        ring.unit_blocks = next.len();
        self.visited.reserve(next.len());
        ring.route.follow(ring.visits, next);
        Ok(())
    }

    /// Setting the flag ends the wait for a copy with [`OffloadError::Cancelled`]. The copy goes
    /// on, and the block can be visited again.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        if let Some(ring) = &mut self.ring {
            ring.cancel = flag;
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
                ring.unsaid = released.err();
                Err(error)
            }
            Err(panic) => {
                ring.unsaid = released.err();
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
        while !ring.route.begins_unit(ring.visits) {
            let Some(block) = ring.route.expected(ring.visits).block else {
                break;
            };
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
        self.ring.as_ref().map_or(0, |ring| ring.unit_blocks)
    }
}

#[derive(Debug)]
struct Ring {
    route: Arc<Route>,
    /// Of the itinerary that was given last.
    unit_blocks: usize,
    /// Loads that were taken, each with its visit or unseen.
    visits: u64,
    /// Of every block that the link can bring.
    origins: BTreeMap<BlockId, Arc<str>>,
    /// A failure that came together with an error of the visit's own work: the next visit's.
    unsaid: Option<OffloadError>,
    /// The next visit's ticket, where the wait for it was given up.
    waiting: Option<Ticket>,
    cancel: Arc<AtomicBool>,
    /// `None` after an error: hanging up is what tells the thread to end.
    ends: Option<RingEnds>,
    /// Holds an end as well, for as long as it takes.
    touching: Option<Touching>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct RingEnds {
    free: Sender<Slot>,
    ask: Option<Sender<()>>,
    ready: Receiver<Result<Ticket, (BlockId, Failure)>>,
}

impl Ring {
    fn start(
        slots: Vec<Slot>,
        itinerary: Itinerary,
        later: &[BlockId],
        link: Box<dyn Link>,
        prefetch: Prefetch,
    ) -> Result<Self, OffloadError> {
        let origins = itinerary
            .blocks()
            .chain(later.iter().copied())
            .map(|block| (block, link.origin(block)))
            .collect();
        let (free, free_end) = bounded(slots.len());
        let (ready_end, ready) = bounded(slots.len());
        let mut later = Vec::new();
        for (index, mut slot) in slots.into_iter().enumerate() {
            slot.index = u16::try_from(index).unwrap_or(u16::MAX);
            match index > 0 && slot.is_large() {
                true => later.push(slot),
                // Cannot fail: the other end is below and there is room for every slot.
                false => drop(free.send(slot)),
            }
        }
        let touching = (!later.is_empty()).then(|| Touching::start(later, &free));
        let (ask, asked) = match prefetch {
            Prefetch::Ahead => (None, None),
            Prefetch::AtNeed => {
                let (ask, asked) = bounded(1);
                (Some(ask), Some(asked))
            }
        };
        let ends = Ends {
            free: free_end,
            asked,
            ready: ready_end,
        };
        let unit_blocks = itinerary.len();
        let route = Arc::new(Route::new(itinerary));
        let thread = prefetch::spawn(link, Arc::clone(&route), ends)?;
        Ok(Self {
            route,
            unit_blocks,
            visits: 0,
            origins,
            unsaid: None,
            waiting: None,
            cancel: Arc::default(),
            ends: Some(RingEnds { free, ask, ready }),
            touching,
            thread: Some(thread),
        })
    }

    fn take(&mut self, block: BlockId) -> Result<(Slot, Visited), OffloadError> {
        if let Some(error) = self.unsaid.take() {
            return Err(error);
        }
        if self.ends.is_none() {
            return Err(OffloadError::Stopped { block });
        }
        let Expected {
            left_behind,
            block: expected,
        } = self.route.expected(self.visits);
        match expected {
            Some(expected) if expected == block => {}
            Some(expected) if self.origins.contains_key(&block) => {
                return Err(OffloadError::OutOfOrder {
                    asked: block,
                    expected,
                });
            }
            _ => return Err(OffloadError::Unknown { block }),
        }
        for _ in 0..left_behind {
            let (slot, mut visited) = self.arrived(block)?;
            self.give_back(slot, &mut visited)?;
        }
        let (slot, visited) = self.arrived(block)?;
        assert_eq!(
            visited.record.block, block,
            "the ring delivers in the itinerary's order"
        );
        Ok((slot, visited))
    }

    /// The next load, when it has landed. `block` is what it is waited for.
    fn arrived(&mut self, block: BlockId) -> Result<(Slot, Visited), OffloadError> {
        let asked_at = Instant::now();
        let ticket = match self.next_ticket() {
            Ok(ticket) => ticket,
            Err((of, failure)) => return Err(self.fail(of.unwrap_or(block), failure)),
        };
        let of = ticket.block;
        while !ticket.mark.landed_within(PATIENCE) {
            if self.cancel.load(Ordering::Relaxed) {
                self.waiting = Some(ticket);
                return Err(OffloadError::Cancelled { block });
            }
        }
        match ticket.redeem(asked_at) {
            Ok(taken) => {
                self.visits += 1;
                Ok(taken)
            }
            Err(source) => Err(self.fail(of, Failure::Link(Box::new(source)))),
        }
    }

    /// Ends the run, and says why.
    fn fail(&mut self, block: BlockId, failure: Failure) -> OffloadError {
        self.join();
        let origin = self.origins.get(&block).cloned();
        let origin = origin.unwrap_or_else(|| "its home".into());
        match failure {
            Failure::Link(source) => OffloadError::Load {
                block,
                origin,
                source,
            },
            Failure::Panicked(message) => OffloadError::PrefetchDied {
                block,
                origin,
                message,
            },
        }
    }

    /// The one that an earlier visit gave up waiting for, or the next from the prefetch thread,
    /// which never waits for bytes and so does not keep a visit waiting either. Of a failure, the
    /// block that failed, where the thread could say.
    fn next_ticket(&mut self) -> Result<Ticket, (Option<BlockId>, Failure)> {
        if let Some(ticket) = self.waiting.take() {
            return Ok(ticket);
        }
        let arrived = self.ends.as_ref().and_then(|ends| {
            if let Some(ask) = &ends.ask {
                // A dead thread shows at `recv`, with its reason.
                let _ = ask.send(());
            }
            ends.ready.recv().ok()
        });
        match arrived {
            Some(arrived) => arrived.map_err(|(block, failure)| (Some(block), failure)),
            None => Err((None, Failure::Panicked(self.join()))),
        }
    }

    /// Releases the slot and notes when, and how long that took. A slot that could not be released
    /// never meets another copy: the run ends with it.
    fn give_back(&mut self, mut slot: Slot, visited: &mut Visited) -> Result<(), OffloadError> {
        let released_at = Instant::now();
        if let Err(source) = visited.release() {
            return Err(self.fail(visited.record.block, Failure::Link(Box::new(source))));
        }
        slot.free_since = released_at;
        if let Some(ends) = &self.ends {
            // A dead thread is the next visit's error; the slot is of no use to anybody then.
            let _ = ends.free.send(slot);
        }
        visited.record.visit_to = released_at;
        visited.record.post = released_at.elapsed();
        Ok(())
    }

    /// Hangs up and waits for the thread; tells what it died of, if it died.
    fn join(&mut self) -> String {
        self.ends = None;
        self.route.end();
        self.touching = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(payload)) => panic_message(payload.as_ref()),
            _ => "it ended early".into(),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.join();
    }
}

//! The ring: slots, the thread that fills them, and who has which.
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

pub mod itinerary;
mod prefetch;
pub mod record;
mod route;
pub mod slot;
pub mod stack;
pub mod ticket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::prefetch::{Ends, Failure};
use crate::block::BlockId;
use crate::error::{OffloadError, panic_message};
use crate::links::Link;
use crate::ring::itinerary::Itinerary;
use crate::ring::route::{Expected, Route};
use crate::ring::slot::{Slot, Touching};
use crate::ring::stack::Prefetch;
use crate::ring::ticket::{Ticket, Visited};

/// How long a wait for a copy goes on before it looks whether anybody still wants it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Ring {
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
    pub fn start(
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

    /// See [`crate::StreamedStack::follow`].
    pub fn follow(&mut self, next: Itinerary) -> Result<(), OffloadError> {
        if let Some(block) = next.blocks().find(|it| !self.origins.contains_key(it)) {
            return Err(OffloadError::Unknown { block });
        }
        self.unit_blocks = next.len();
        self.route.follow(self.visits, next);
        Ok(())
    }

    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.cancel = flag;
    }

    /// Of the itinerary that was given last.
    pub fn unit_blocks(&self) -> usize {
        self.unit_blocks
    }

    /// What is still to be visited of the unit of work under way; `None` where one begins.
    pub fn next_of_unit(&self) -> Option<BlockId> {
        match self.route.begins_unit(self.visits) {
            true => None,
            false => self.route.expected(self.visits).block,
        }
    }

    /// A failure beside an error of the visit's own work: the next visit tells it.
    pub fn say_later(&mut self, failure: Option<OffloadError>) {
        self.unsaid = failure;
    }

    pub fn take(&mut self, block: BlockId) -> Result<(Slot, Visited), OffloadError> {
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
    pub fn fail(&mut self, block: BlockId, failure: Failure) -> OffloadError {
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
    pub fn give_back(&mut self, mut slot: Slot, visited: &mut Visited) -> Result<(), OffloadError> {
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

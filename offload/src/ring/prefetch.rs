//! The background prefetch thread: takes free slots, starts the route's next copy into each and
//! sends the ticket on. It never waits for bytes, so as many copies are in flight as there are
//! slots, and after the last block of one unit of work it goes on with the first of the next.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::links::Link;
use crate::ring::route::Route;
use crate::ring::slot::Slot;
use crate::ring::ticket::Ticket;

/// The longest that waking up may take before it is called late.
const WAKE_UP_MAX: Duration = Duration::from_millis(20);

/// The thread's ends of the ring's channels. All are bounded by the number of slots, and there
/// are never more slots than that: no send in the ring ever blocks.
pub(crate) struct Ends {
    pub free: Receiver<Slot>,
    /// With prefetch off, one word per visit: load now. `None`: load as soon as a slot is free.
    pub asked: Option<Receiver<()>>,
    pub ready: Sender<Result<Ticket, (BlockId, Failure)>>,
}

/// Why there is no ticket. The ring knows where the block comes from.
#[derive(Debug)]
pub(crate) enum Failure {
    Link(Box<LinkError>),
    Panicked(String),
}

/// Starts the thread. It ends when the stack drops its ends, or after the first error.
pub(crate) fn spawn(
    link: Box<dyn Link>,
    route: Arc<Route>,
    ends: Ends,
) -> Result<JoinHandle<()>, OffloadError> {
    thread::Builder::new()
        .name("prefetch".into())
        .spawn(move || {
            let Ends { free, asked, ready } = ends;
            let mut link = link;
            let ran = catch_unwind(AssertUnwindSafe(|| {
                run(link.as_mut(), &route, &free, asked.as_ref(), &ready);
            }));
            // Whoever visits learns that nothing more comes after what is in the channel. Those
            // copies are still on their way: the link must carry them until the stack hangs up.
            drop(ready);
            while free.recv().is_ok() {}
            let ended = catch_unwind(AssertUnwindSafe(|| drop(link)));
            // The first panic is the cause.
            ran.and(ended).unwrap_or_else(|panic| resume_unwind(panic));
        })
        .map_err(|source| OffloadError::refused("prefetch", source))
}

fn run(
    link: &mut dyn Link,
    route: &Route,
    free: &Receiver<Slot>,
    asked: Option<&Receiver<()>>,
    ready: &Sender<Result<Ticket, (BlockId, Failure)>>,
) {
    loop {
        let Ok(mut slot) = free.recv() else { return };
        if let Some(asked) = asked
            && asked.recv().is_err()
        {
            return;
        }
        let Some((block, known_since)) = route.begin_load() else {
            return;
        };
        // A slot that was free before it was known what comes next ordered nothing.
        slot.free_since = slot.free_since.max(known_since);
        let ticket = issue(link, block, slot, asked.is_none()).map_err(|failure| (block, failure));
        let failed = ticket.is_err();
        if ready.send(ticket).is_err() || failed {
            return;
        }
    }
}

/// When a load ahead of need counts as issued. Giving a slot to the ring *is* the order for the
/// next load, and waking this thread up takes microseconds that decide nothing; but if it comes
/// late, or issuing takes long, the load counts from when it was issued in fact: a prefetch that is
/// starved, or stuck, shows as `SYNC`.
fn ordered_at(free_since: Instant) -> Instant {
    let now = Instant::now();
    if now.duration_since(free_since) <= WAKE_UP_MAX {
        free_since
    } else {
        now
    }
}

fn issue(link: &mut dyn Link, block: BlockId, slot: Slot, ahead: bool) -> Result<Ticket, Failure> {
    let came_at = Instant::now();
    // A panic in a link is this run's error; the slot goes with the run.
    let started = catch_unwind(AssertUnwindSafe(|| {
        let bytes = link.bytes(block);
        #[cfg(feature = "profiling")]
        let _span = tracing::info_span!(
            target: "offload",
            "copy",
            layer = block.layer.as_usize(),
            bytes
        )
        .entered();
        let started = link.start(block, &slot);
        (bytes, started)
    }));
    let issued_at = match ahead {
        true => ordered_at(slot.free_since),
        false => came_at,
    };
    match started {
        Ok((bytes, Ok(mark))) => Ok(Ticket {
            block,
            slot,
            issued_at,
            bytes,
            mark,
        }),
        Ok((_, Err(error))) => Err(Failure::Link(Box::new(error))),
        Err(payload) => Err(Failure::Panicked(panic_message(payload.as_ref()))),
    }
}

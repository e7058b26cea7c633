//! A load in flight. A ticket owns its slot, so nobody can read the slot before the ticket is
//! redeemed, and redeeming waits for the copy's mark: that wait is the only way to the bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block::BlockId;
use crate::error::{LinkError, panic_message};
use crate::links::{Arrival, Mark};
use crate::ring::record::{LoadKind, LoadRecord};
use crate::ring::slot::Slot;

#[must_use = "a ticket owns a slot: redeem it"]
#[derive(Debug)]
pub struct Ticket {
    pub(crate) block: BlockId,
    pub(crate) slot: Slot,
    pub(crate) issued_at: Instant,
    pub(crate) bytes: u64,
    pub(crate) mark: Arc<dyn Mark>,
}

impl Ticket {
    /// Waits until the bytes have landed. A failed copy ends the run, and its slot with it. What
    /// the mark and the rest of the visit will tell is not in the record yet.
    pub(crate) fn redeem(self, asked_at: Instant) -> Result<(Slot, Visited), LinkError> {
        caught(|| self.mark.wait())?;
        let kind = if self.issued_at <= asked_at {
            LoadKind::Async
        } else {
            LoadKind::Sync
        };
        let record = LoadRecord {
            block: self.block,
            slot: self.slot.index,
            kind,
            bytes: self.bytes,
            issued_at: self.issued_at,
            copy_from: self.issued_at,
            copy_to: self.issued_at,
            asked_at,
            visit_to: asked_at,
            pre: asked_at.elapsed(),
            post: Duration::ZERO,
            verify: self.mark.verified(),
        };
        let mark = self.mark;
        Ok((self.slot, Visited { record, mark }))
    }
}

/// A visit whose record waits for what its mark knows.
#[derive(Debug)]
pub(crate) struct Visited {
    pub record: LoadRecord,
    pub mark: Arc<dyn Mark>,
}

impl Visited {
    /// Tells the link that the visit has issued its last read.
    pub fn release(&self) -> Result<(), LinkError> {
        caught(|| self.mark.release())
    }

    /// The whole record, once the unit of work is over.
    pub fn complete(self) -> Result<LoadRecord, LinkError> {
        let Arrival {
            copy_from,
            copy_to,
            visit,
        } = caught(|| self.mark.arrival())?;
        let mut record = LoadRecord {
            copy_from,
            copy_to,
            ..self.record
        };
        if let Some(visit) = visit {
            record.asked_at = visit.asked_at;
            record.pre = visit.pre;
            record.visit_to = visit.visit_to;
        }
        Ok(record)
    }
}

/// A mark that panics is a failed load like any other: told with its block, and the end.
fn caught<T>(ask: impl FnOnce() -> Result<T, LinkError>) -> Result<T, LinkError> {
    catch_unwind(AssertUnwindSafe(ask))
        .unwrap_or_else(|panic| Err(LinkError::Panicked(panic_message(panic.as_ref()))))
}

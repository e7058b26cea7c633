//! A load in flight. A ticket owns its slot, so nobody can read the slot before the ticket is
//! redeemed, and redeeming waits for the copy's mark: that wait is the only way to the bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block::BlockId;
use crate::error::LinkError;
use crate::link::Mark;
use crate::record::{LoadKind, LoadRecord};
use crate::slot::Slot;

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
    /// Waits until the bytes have landed. A failed copy ends the run, and its slot with it. The
    /// record's `visit_to` and `post` are not known yet.
    pub(crate) fn redeem(self, asked_at: Instant) -> Result<(Slot, LoadRecord), Box<LinkError>> {
        let arrival = self.mark.wait()?;
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
            copy_from: arrival.copy_from,
            copy_to: arrival.copy_to,
            asked_at,
            visit_to: asked_at,
            pre: asked_at.elapsed(),
            post: Duration::ZERO,
        };
        Ok((self.slot, record))
    }
}

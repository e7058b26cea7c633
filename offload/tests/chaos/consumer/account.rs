//! What came is held against what had to come: errors, records, and at the end the slots.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use offload::{BlockId, LoadKind, LoadRecord, OffloadError, Prefetch, Visits};

use super::{Consumer, Expected, check};
use crate::schedule::FaultKind;

impl Consumer<'_> {
    /// Says the block, the file and the cause, once; later visits say that it is over.
    pub(super) fn judge(
        &mut self,
        block: BlockId,
        error: &OffloadError,
        expected: Expected,
    ) -> Result<(), String> {
        let (named, origin) = match (expected, error) {
            (Expected::Stopped, OffloadError::Stopped { block }) => (*block, None),
            (Expected::Fault(kind), OffloadError::Load { block, origin, .. })
                if !kind.kills_thread() =>
            {
                (*block, Some(origin))
            }
            (Expected::Fault(kind), OffloadError::PrefetchDied { block, origin, .. })
                if kind.kills_thread() =>
            {
                (*block, Some(origin))
            }
            _ => return Err(format!("{expected:?} surfaced as {error:?}")),
        };
        check(named == block, || format!("{block} was asked for: {error}"))?;
        if let (Expected::Fault(kind), Some(origin)) = (expected, origin) {
            let told = error.to_string().contains(kind.cause());
            check(told, || format!("{kind:?} without its cause: {error}"))?;
            let known = kind != FaultKind::StartFailsNameless;
            let named = !known || *origin == self.player.homes.origin(block);
            check(named, || format!("{block} is not of {origin}: {error}"))?;
        }
        self.failed = true;
        self.unsaid = None;
        Ok(())
    }

    pub(super) fn take_records(&mut self) -> Result<(), String> {
        let mut records: Vec<LoadRecord> = Vec::new();
        let mut aside = Visits::default();
        self.stack.set_aside(&mut aside);
        let taken = self.stack.read(&mut aside, &mut records);
        let mut unseen = std::mem::take(&mut self.unseen);
        let fault = self.schedule.link.first_fault();
        let fault = fault.filter(|fault| fault.kind.is_at_arrival());
        let missed = unseen
            .iter()
            .position(|(copy, _)| Some(*copy) == fault.map(|fault| fault.copy));
        match (taken, missed, fault) {
            (Ok(()), None, _) => {}
            (Err(error), Some(place), Some(fault)) => {
                self.judge(unseen[place].1, &error, Expected::Fault(fault.kind))?;
                unseen.truncate(place);
            }
            (taken, missed, _) => {
                return Err(format!("records came to {taken:?}, missed was {missed:?}"));
            }
        }
        check(records.len() == unseen.len(), || {
            format!("{} visits left {} records", unseen.len(), records.len())
        })?;
        for (record, (copy, block)) in records.iter().zip(unseen) {
            let fits = record.block == block
                && u64::from(record.slot) == copy % self.schedule.slots as u64
                && record.bytes == self.player.homes.of(block).len() as u64
                && record.copy_from <= record.copy_to
                && (self.schedule.prefetch == Prefetch::Ahead || record.kind == LoadKind::Sync);
            check(fits, || format!("copy {copy} of {block} left {record:?}"))?;
        }
        Ok(())
    }

    /// With every slot back in the ring, the prefetch thread has asked for exactly as many copies
    /// as were taken and as there are slots for, or stopped where it failed. A slot that was lost
    /// is one copy that never comes.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.take_records()?;
        if self.failed || self.unsaid.is_some() {
            return Ok(());
        }
        let ahead = match self.schedule.prefetch {
            Prefetch::Ahead => self.schedule.slots as u64,
            Prefetch::AtNeed => 0,
        };
        let asked_for = self.taken + ahead;
        let asked_for = match self.route.ends_after() {
            // Of what was left behind, and of what follows, less is known.
            _ if self.route.is_to_turn() => return Ok(()),
            Some(_) if !self.began => return Ok(()),
            Some(all) => asked_for.min(self.taken + (all - self.route.done) as u64),
            None => asked_for,
        };
        let comes_to = match self.schedule.link.thread_ends_at() {
            Some(copy) => asked_for.min(copy + 1),
            None => asked_for,
        };
        // For ever, if a slot is lost: the watchdog's case.
        while self.watch.started.load(SeqCst) < comes_to {
            thread::yield_now();
        }
        let started = self.watch.started.load(SeqCst);
        check(started == comes_to, || {
            format!("{started} copies were started where there are slots for {comes_to}")
        })
    }
}

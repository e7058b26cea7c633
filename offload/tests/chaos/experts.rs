//! The cache of experts under the same link: calls that ask for any blocks, some twice, fail,
//! panic, are given up or ask for strangers; each holds what it visits against the bytes, and what
//! was counted and recorded against the copies.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use candle_core::Device;
use loader::DType;
use offload::{
    BlockId, Experts, LayerIndex, Link, LoadKind, LoadRecord, OffloadError, Slab, Slot, StackId,
    VerifyingLink,
};

use crate::bad_link::{BadLink, Watch, message};
use crate::consumer::{Player, WorkError, check};
use crate::dice::{Dice, Pace, Place};
use crate::home;
use crate::schedule::{EXPERTS_MAX, FaultKind, SLOTS_MAX, Trouble};

const CALLS_MAX: u64 = 12;

/// What happens in one schedule, all of it decided by its seed.
pub struct Calls {
    seed: u64,
    slots: usize,
    /// Experts that there are.
    experts: u16,
    link: Arc<Trouble>,
    pace: Pace,
    calls: u64,
}

/// What one call asks for, and how it goes on.
#[derive(Debug)]
struct Call {
    blocks: Vec<BlockId>,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Proper,
    /// At the visit of that number.
    WorkFails(usize),
    WorkPanics(usize),
    /// Asks for a stranger as well.
    AsksWrongly,
    /// Waits for nothing.
    Cancelled,
}

const STRANGER: BlockId = BlockId::new(StackId(99), LayerIndex(0));

impl Calls {
    pub fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, Place::Call, 0);
        let (slots, calls) = (dice.up_to(SLOTS_MAX), dice.up_to(CALLS_MAX));
        let link = Trouble {
            in_turn: false,
            // Of two it would not be known which comes first.
            ..Trouble::new(seed, dice, [0, 0, 0, 1, 1, 1], 2 * calls + 1)
        };
        Self {
            seed,
            slots: slots as usize,
            experts: dice.up_to(u64::from(EXPERTS_MAX)) as u16,
            link: Arc::new(link),
            pace: Pace::chosen(dice),
            calls,
        }
    }

    fn call(&self, number: u64) -> Call {
        let dice = &mut Dice::new(self.seed, Place::Call, 1 + number);
        let trunk = BlockId::new(StackId(0), LayerIndex(0));
        let most = 2 * self.slots as u64;
        let mut blocks: Vec<BlockId> = (0..dice.up_to(most))
            .map(|_| trunk.part(1 + dice.below(u64::from(self.experts)) as u16))
            .collect();
        let at = dice.below(blocks.len() as u64) as usize;
        let manner = match dice.below(16) {
            0 => Manner::WorkFails(at),
            1 => Manner::WorkPanics(at),
            2 => Manner::AsksWrongly,
            3 | 4 => Manner::Cancelled,
            _ => Manner::Proper,
        };
        if manner == Manner::AsksWrongly {
            blocks.insert(at, STRANGER);
        }
        Call { blocks, manner }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots,
            experts,
            link,
            pace,
            ..
        } = self;
        write!(
            f,
            "{slots} slots, {experts} experts, {link:?}, visits {pace:?}"
        )?;
        (0..self.calls).try_for_each(|number| {
            let Call { blocks, manner } = self.call(number);
            let parts: Vec<u16> = blocks.iter().map(|block| block.part).collect();
            write!(f, "\n{parts:?} {manner:?}")
        })
    }
}

impl Player {
    /// Plays it through; the error says which promise was broken.
    pub fn play_calls(&self, calls: &Calls) -> Result<(), String> {
        let slab = || Slab::new(self.layout.slab_bytes(), DType::Bf16, &Device::Cpu);
        let slabs: Result<Vec<Slab>, _> = (0..calls.slots).map(|_| slab()).collect();
        let slabs = slabs.map_err(|error| error.to_string())?;
        let watch = Arc::new(Watch::new(slabs.iter().map(|slab| slab.bytes().clone())));
        let mut link: Box<dyn Link> = Box::new(BadLink::new(
            Arc::clone(&calls.link),
            self.homes.clone(),
            Arc::clone(&watch),
            self.carriers.clone(),
        ));
        let blocks: Vec<BlockId> = home::experts(calls.experts).collect();
        if calls.link.verifies {
            let verifying = VerifyingLink::new(link, self.homes.expectations(&blocks));
            link = Box::new(verifying.map_err(|error| error.to_string())?);
        }
        let slots = slabs.into_iter().map(Slot::new).collect();
        let mut caller = Caller {
            player: self,
            calls,
            watch: &watch,
            experts: Experts::new(slots, &blocks, link),
            failed: false,
            whole: Some(Vec::new()),
            seen: BTreeSet::new(),
            unseen: Vec::new(),
        };
        for number in 0..calls.calls {
            caller.call(number)?;
            if let Some(breach) = watch.first_breach() {
                return Err(breach);
            }
        }
        caller.take_records()?;
        drop(caller);
        let left = watch.slabs().filter(|slab| slab.holders() > 1).count();
        check(left == 0, || {
            format!("{left} slabs are left after the cache")
        })?;
        let gone = watch.link_is_gone.load(SeqCst);
        check(gone, || "the link outlives the cache".into())?;
        watch.first_breach().map_or(Ok(()), Err)
    }
}

struct Caller<'a> {
    player: &'a Player,
    calls: &'a Calls,
    watch: &'a Watch,
    experts: Experts,
    /// The fault was reported.
    failed: bool,
    /// What each call asked for, while all of them were visited: copies of one that was cut short
    /// may be in the way of others.
    whole: Option<Vec<BTreeSet<BlockId>>>,
    /// Copies that were visited.
    seen: BTreeSet<usize>,
    /// Of those, the ones whose records were not taken yet.
    unseen: Vec<usize>,
}

/// What a call came to.
#[derive(Debug)]
enum Came {
    Fine,
    WorkFailed,
    WorkPanicked,
    Failed(OffloadError),
}

impl Caller<'_> {
    fn call(&mut self, number: u64) -> Result<(), String> {
        let Call { blocks, manner } = self.calls.call(number);
        let asked: BTreeSet<BlockId> = blocks.iter().copied().collect();
        let (before, started) = (self.experts.counts(), self.watch.copies().len());
        let flag = Arc::new(AtomicBool::new(manner == Manner::Cancelled));
        self.experts.cancel_with(flag);
        let mut visited = BTreeSet::new();
        let came = self.visit(&blocks, manner, number, &mut visited);
        let fits = match (&came, manner) {
            (Came::Failed(OffloadError::Unknown { block }), Manner::AsksWrongly) => {
                *block == STRANGER && visited.is_empty()
            }
            (_, Manner::AsksWrongly) => false,
            (Came::Failed(OffloadError::Stopped { block }), _) => {
                self.failed && asked.contains(block) && visited.is_empty()
            }
            (Came::Failed(OffloadError::Cancelled { .. }), Manner::Cancelled) => !self.failed,
            (Came::Failed(error), _) => !self.failed && self.judge(error)?,
            // It may have come to less visits than that.
            (Came::Fine, Manner::WorkFails(at) | Manner::WorkPanics(at)) => {
                !self.failed && visited == asked && visited.len() <= at
            }
            (Came::Fine, _) => !self.failed && visited == asked,
            (Came::WorkFailed, Manner::WorkFails(at))
            | (Came::WorkPanicked, Manner::WorkPanics(at)) => {
                !self.failed && visited.len() == at + 1
            }
            _ => false,
        };
        check(fits, || {
            format!("call {number} came to {came:?} after visits of {visited:?}")
        })?;
        // Whoever waits inside the verifier tells nobody.
        let told = self.watch.told.load(SeqCst) > 0 && !self.calls.link.verifies;
        check(!told || self.failed, || {
            format!("call {number} has swallowed what the link told")
        })?;
        let after = self.experts.counts();
        let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
        let copies = (self.watch.copies().len() - started) as u64;
        let refused = matches!(
            came,
            Came::Failed(OffloadError::Unknown { .. } | OffloadError::Stopped { .. })
        );
        let counted = match refused {
            true => hits + misses == 0 && copies == 0,
            false => {
                let kept = self.recent().intersection(&asked).count() as u64;
                hits + misses == asked.len() as u64 && copies <= misses && hits >= kept
            }
        };
        check(counted, || {
            format!("call {number}: {hits} hits, {misses} misses and {copies} copies; {came:?}")
        })?;
        match (came, &mut self.whole) {
            (Came::Fine, Some(whole)) => whole.push(asked),
            _ if refused => {}
            _ => self.whole = None,
        }
        match number % 3 {
            0 => self.take_records(),
            _ => Ok(()),
        }
    }

    /// The blocks of the last calls for which there were slots enough together: they are there.
    fn recent(&self) -> BTreeSet<BlockId> {
        let mut recent = BTreeSet::new();
        for asked in self.whole.iter().flatten().rev() {
            let more: BTreeSet<BlockId> = recent.union(asked).copied().collect();
            if more.len() > self.calls.slots {
                break;
            }
            recent = more;
        }
        recent
    }

    fn visit(
        &mut self,
        blocks: &[BlockId],
        manner: Manner,
        number: u64,
        visited: &mut BTreeSet<BlockId>,
    ) -> Came {
        let Self {
            player,
            calls,
            watch,
            experts,
            seen,
            unseen,
            ..
        } = self;
        let mut dice = Dice::new(calls.seed, Place::Work, number);
        let mut work = |block: BlockId, slab: &Slab| {
            let at = visited.len();
            if !visited.insert(block) {
                watch.breach(format!("{block} is visited twice in call {number}"));
            }
            let copies = watch.copies();
            match copies.iter().rposition(|(of, _)| *of == block) {
                Some(copy) if seen.insert(copy) => unseen.push(copy),
                Some(_) => {}
                None => watch.breach(format!("{block} is visited and was never copied")),
            }
            let home = player.homes.of(block);
            watch.read(block, slab, || {
                if !slab.bytes().read(|bytes| bytes[..home.len()] == *home)? {
                    watch.breach(format!("{block} was visited with other bytes than its own"));
                }
                dice.pause(calls.pace);
                match manner {
                    Manner::WorkFails(it) if it == at => Err(WorkError::Own),
                    Manner::WorkPanics(it) if it == at => panic!("chaos: the kernel fell over"),
                    _ => Ok(()),
                }
            })
        };
        let called = catch_unwind(AssertUnwindSafe(|| experts.visit_each(blocks, &mut work)));
        match called {
            Ok(Ok(())) => Came::Fine,
            Ok(Err(WorkError::Own)) => Came::WorkFailed,
            Ok(Err(WorkError::Offload(error))) => Came::Failed(error),
            Err(panic) if message(panic.as_ref()) == "chaos: the kernel fell over" => {
                Came::WorkPanicked
            }
            // The cache's own: a failure of this test.
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Says the block, the file and the cause, once.
    fn judge(&mut self, error: &OffloadError) -> Result<bool, String> {
        let fault = self.calls.link.first_fault();
        let fault = fault.ok_or_else(|| format!("nothing was wrong, and it is {error}"))?;
        let copies = self.watch.copies();
        let of = copies.get(fault.copy as usize).map(|(block, _)| *block);
        let OffloadError::Load { block, origin, .. } = error else {
            return Ok(false);
        };
        self.failed = true;
        let cause = match fault.kind {
            FaultKind::ThreadDies => "it did not say why",
            kind => kind.cause(),
        };
        Ok(of == Some(*block)
            && *origin == self.player.homes.origin(*block)
            && error.to_string().contains(cause))
    }

    fn take_records(&mut self) -> Result<(), String> {
        let mut records: Vec<LoadRecord> = Vec::new();
        let taken = self.experts.records(&mut records);
        let mut unseen = std::mem::take(&mut self.unseen);
        let fault = self.calls.link.first_fault();
        let late = fault.filter(|fault| fault.kind.is_at_arrival());
        let missed = late.and_then(|it| unseen.iter().position(|&copy| copy as u64 == it.copy));
        match (&taken, missed) {
            (Ok(()), None) => {}
            (Err(error), Some(place)) if self.judge(error)? => unseen.truncate(place),
            _ => return Err(format!("records came to {taken:?}, missed was {missed:?}")),
        }
        check(records.len() == unseen.len(), || {
            format!(
                "{} visited loads left {} records",
                unseen.len(),
                records.len()
            )
        })?;
        let copies = self.watch.copies();
        for (record, copy) in records.iter().zip(unseen) {
            let fits = (record.block, Some(usize::from(record.slot))) == copies[copy]
                && record.bytes == self.player.homes.of(record.block).len() as u64
                && record.copy_from <= record.copy_to
                && record.kind == LoadKind::Sync;
            check(fits, || format!("copy {copy} left {record:?}"))?;
        }
        Ok(())
    }
}

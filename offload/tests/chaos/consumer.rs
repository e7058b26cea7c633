//! One schedule, played: a consumer with manners of its own visits the stack, knows at each visit
//! what has to come, and accounts for every slot at the end.

mod account;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use candle_core::Device;
use loader::{BlockLayout, DType};
use offload::{
    BlockId, Itinerary, LayerIndex, Link, OffloadError, Slab, SlabBytes, Slot, StackId,
    StreamedStack, VerifyingLink,
};

use crate::bad_link::{BadLink, Carriers, Watch, message};
use crate::dice::{Dice, Place};
use crate::home::Homes;
use crate::schedule::{FaultKind, Manner, Schedule};

const READS: u64 = 3;

/// What a player keeps from one schedule to the next.
#[derive(Debug)]
pub struct Player {
    pub layout: BlockLayout,
    pub homes: Homes,
    pub carriers: Carriers,
}

/// What a visit came to.
#[derive(Debug)]
enum Visit {
    Fine,
    WorkFailed,
    WorkPanicked,
    Failed(OffloadError),
}

/// What the work of a visit may end in: an error of its own, or the stack's.
enum WorkError {
    Own,
    Offload(OffloadError),
}

impl From<OffloadError> for WorkError {
    fn from(error: OffloadError) -> Self {
        Self::Offload(error)
    }
}

impl Player {
    /// Plays it through; the error says which promise was broken.
    pub fn play(&self, schedule: &Arc<Schedule>) -> Result<(), String> {
        let mut kept = Vec::new();
        let watch = self.consume(schedule, &mut kept)?;
        if let Some(breach) = watch.first_breach() {
            return Err(breach);
        }
        let slabs = watch.slabs().chain(&kept);
        let left = slabs.filter(|slab| slab.holders() > 1).count();
        check(left == 0, || {
            format!("{left} slabs are left after the stack")
        })?;
        let gone = watch.link_is_gone.load(SeqCst);
        check(gone, || "the link outlives the stack".into())
    }

    fn consume(
        &self,
        schedule: &Arc<Schedule>,
        kept: &mut Vec<SlabBytes>,
    ) -> Result<Arc<Watch>, String> {
        let bytes = self.layout.slab_bytes();
        let slab =
            || Slab::new(bytes, DType::Bf16, &Device::Cpu).map_err(|error| error.to_string());
        let slabs = (0..schedule.slots)
            .map(|_| slab())
            .collect::<Result<Vec<_>, _>>()?;
        let watch = Arc::new(Watch::new(slabs.iter().map(|slab| slab.bytes().clone())));
        let mut link: Box<dyn Link> = Box::new(BadLink::new(
            Arc::clone(schedule),
            self.homes.clone(),
            Arc::clone(&watch),
            self.carriers.clone(),
        ));
        if schedule.verifies {
            let expectations = self.homes.expectations(&schedule.streamed);
            let verifying = VerifyingLink::new(link, expectations);
            link = Box::new(verifying.map_err(|error| error.to_string())?);
        }
        let mut stack = StreamedStack::streaming(
            slabs.into_iter().map(Slot::new).collect(),
            Itinerary::new(schedule.streamed.clone()),
            &[],
            link,
            schedule.prefetch,
        )
        .map_err(|error| error.to_string())?;
        for &block in schedule
            .order
            .iter()
            .filter(|block| !schedule.streamed.contains(block))
        {
            let (slab, home) = (slab()?, self.homes.of(block));
            slab.bytes()
                .write(|to| to[..home.len()].copy_from_slice(&home))
                .map_err(|error| error.to_string())?;
            kept.push(slab.bytes().clone());
            stack.keep(block, slab);
        }
        let mut consumer = Consumer {
            player: self,
            schedule,
            watch: &watch,
            stack,
            taken: 0,
            visits: 0,
            failed: false,
            unsaid: None,
            unseen: Vec::new(),
        };
        consumer.visit_all()?;
        if schedule.settles {
            consumer.settle()?;
        }
        drop(consumer);
        Ok(watch)
    }
}

struct Consumer<'a> {
    player: &'a Player,
    schedule: &'a Schedule,
    watch: &'a Watch,
    stack: StreamedStack,
    /// Copies that the stack has used, or given back unused.
    taken: u64,
    visits: usize,
    /// The first fault was reported.
    failed: bool,
    /// A failure of this block's release that stood back behind the work's own error.
    unsaid: Option<(BlockId, FaultKind)>,
    /// Blocks whose records were not taken yet, with the copies that brought them.
    unseen: Vec<(u64, BlockId)>,
}

impl Consumer<'_> {
    fn visit_all(&mut self) -> Result<(), String> {
        'units: loop {
            for place in 0..self.schedule.order.len() {
                if self.visits == self.schedule.visits {
                    return Ok(());
                }
                let manner = self.schedule.manner(self.visits);
                self.visits += 1;
                if manner == Manner::AbandonsUnit {
                    self.abandon()?;
                    continue 'units;
                }
                let block = self.schedule.order[place];
                if manner == Manner::AsksWrongly {
                    self.ask_wrongly(block)?;
                }
                self.visit(block, manner)?;
                if let Some(breach) = self.watch.first_breach() {
                    return Err(breach);
                }
            }
            self.take_records()?;
        }
    }

    fn visit(&mut self, block: BlockId, manner: Manner) -> Result<(), String> {
        let streamed = self.schedule.streamed.contains(&block);
        let expected = self.expected_failure(block, streamed);
        let came = self.look_at(block, manner, streamed);
        let as_done = match manner {
            Manner::WorkFails => matches!(came, Visit::WorkFailed),
            Manner::WorkPanics => matches!(came, Visit::WorkPanicked),
            _ => matches!(came, Visit::Fine),
        };
        match (came, expected) {
            (Visit::Failed(error), Some((of, expected))) => {
                if expected.is_at_release() && self.unsaid.is_none() {
                    self.count(block);
                }
                self.judge(of, &error, expected)
            }
            // The work's own error is told first, the ring's at the next visit.
            (_, Some((of, expected @ Expected::Fault(kind))))
                if as_done
                    && manner.spoils()
                    && expected.is_at_release()
                    && self.unsaid.is_none() =>
            {
                self.count(block);
                self.unsaid = Some((of, kind));
                Ok(())
            }
            (came, None) if as_done => {
                if streamed {
                    self.count(block);
                }
                check(!matches!(came, Visit::Failed(_)), || format!("{came:?}"))
            }
            (came, expected) => Err(format!(
                "{block}: {manner:?} came to {came:?}, expected was {expected:?}"
            )),
        }
    }

    fn count(&mut self, block: BlockId) {
        self.unseen.push((self.taken, block));
        self.taken += 1;
    }

    /// What has to go wrong at the next visit of a streamed block, if anything, and the block that
    /// the error is about.
    fn expected_failure(&self, block: BlockId, streamed: bool) -> Option<(BlockId, Expected)> {
        match (self.schedule.first_fault(), self.unsaid) {
            _ if !streamed => None,
            _ if self.failed => Some((block, Expected::Stopped)),
            (_, Some((block, kind))) => Some((block, Expected::Fault(kind))),
            (Some(fault), None) if fault.copy == self.taken && !fault.kind.is_at_arrival() => {
                Some((block, Expected::Fault(fault.kind)))
            }
            _ => None,
        }
    }

    fn look_at(&mut self, block: BlockId, manner: Manner, streamed: bool) -> Visit {
        let home = self.player.homes.of(block);
        let (watch, schedule) = (self.watch, self.schedule);
        let mut dice = Dice::new(schedule.seed, Place::Work, self.visits as u64);
        let mut work = |slab: &Slab| {
            for _ in 0..dice.up_to(READS) {
                let same = slab.bytes().read(|bytes| bytes[..home.len()] == *home)?;
                if !same {
                    watch.breach(format!("{block} was visited with other bytes than its own"));
                }
                dice.pause(schedule.visit_pace);
            }
            match manner {
                Manner::WorkFails => Err(WorkError::Own),
                Manner::WorkPanics => panic!("chaos: the kernel fell over"),
                _ => Ok(()),
            }
        };
        let stack = &mut self.stack;
        let visit = catch_unwind(AssertUnwindSafe(|| {
            stack.visit(block, |slab| match streamed {
                true => watch.read(block, slab, || work(slab)),
                false => work(slab),
            })
        }));
        match visit {
            Ok(Ok(())) => Visit::Fine,
            Ok(Err(WorkError::Own)) => Visit::WorkFailed,
            Ok(Err(WorkError::Offload(error))) => Visit::Failed(error),
            Err(panic) if message(panic.as_ref()) == "chaos: the kernel fell over" => {
                Visit::WorkPanicked
            }
            // The stack's own: a failure of this test.
            Err(panic) => resume_unwind(panic),
        }
    }

    fn ask_wrongly(&mut self, block: BlockId) -> Result<(), String> {
        if self.unsaid.is_some() {
            return Ok(());
        }
        let stranger = BlockId::new(StackId(2), LayerIndex(0));
        let later = self.schedule.streamed.iter().find(|&&it| it != block);
        for wrong in later.into_iter().chain([&stranger]) {
            let next = self.next_streamed();
            if Some(*wrong) == next {
                continue;
            }
            let refused = self.stack.visit(*wrong, |_| Ok::<_, OffloadError>(()));
            let fine = match refused {
                Err(OffloadError::OutOfOrder { asked, expected }) => {
                    asked == *wrong && Some(expected) == next
                }
                Err(OffloadError::Unknown { block }) => block == stranger,
                Err(OffloadError::Stopped { .. }) => self.failed,
                _ => false,
            };
            check(fine, || {
                format!("{wrong} was asked for in place of {next:?}: {refused:?}")
            })?;
        }
        Ok(())
    }

    fn next_streamed(&self) -> Option<BlockId> {
        let len = self.schedule.streamed.len() as u64;
        let place = self.taken.checked_rem(len)?;
        self.schedule.streamed.get(place as usize).copied()
    }

    fn abandon(&mut self) -> Result<(), String> {
        self.take_records()?;
        let len = self.schedule.streamed.len() as u64;
        let mut to_go = (0..).take_while(|n| !(self.taken + n).is_multiple_of(len.max(1)));
        let to_go = to_go.by_ref().count() as u64;
        let finished = self.stack.finish_unit();
        let fault = self.schedule.first_fault();
        let fault = fault.filter(|it| (self.taken..self.taken + to_go).contains(&it.copy));
        let expected = match (fault, self.next_streamed(), self.unsaid) {
            _ if to_go == 0 => None,
            (_, Some(block), _) if self.failed => Some((block, Expected::Stopped)),
            (_, _, Some((block, kind))) => Some((block, Expected::Fault(kind))),
            (Some(fault), _, None) if !fault.kind.is_at_arrival() => {
                self.taken = fault.copy;
                let block = self.next_streamed();
                self.taken += u64::from(fault.kind.is_at_release());
                block.map(|block| (block, Expected::Fault(fault.kind)))
            }
            _ => None,
        };
        match (finished, expected) {
            (Ok(()), None) => {
                self.taken += to_go;
                Ok(())
            }
            (Err(error), Some((block, expected))) => self.judge(block, &error, expected),
            (finished, expected) => Err(format!(
                "finishing came to {finished:?}, expected was {expected:?}"
            )),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Fault(FaultKind),
    Stopped,
}

impl Expected {
    fn is_at_release(self) -> bool {
        matches!(self, Self::Fault(kind) if kind.is_at_release())
    }
}

impl Manner {
    /// Whether the visit's own work ends badly.
    fn spoils(self) -> bool {
        matches!(self, Self::WorkFails | Self::WorkPanics)
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

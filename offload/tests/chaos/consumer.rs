//! One schedule, played: a consumer with manners of its own visits the stack, knows at each visit
//! what has to come, and accounts for every slot at the end.

mod account;
mod route;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use candle_core::Device;
use loader::{BlockLayout, DType};
use offload::{
    BlockId, Itinerary, LayerIndex, Link, OffloadError, Prefetch, Slab, SlabBytes, Slot, StackId,
    StreamedStack, VerifyingLink,
};

use self::route::Route;
use crate::bad_link::{BadLink, Carriers, Watch, message};
use crate::dice::{Dice, Place};
use crate::home::Homes;
use crate::schedule::{FaultKind, Leg, Manner, Schedule, leg_of};

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
pub enum WorkError {
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
            Arc::clone(&schedule.link),
            self.homes.clone(),
            Arc::clone(&watch),
            self.carriers.clone(),
        ));
        if schedule.link.verifies {
            let expectations = self.homes.expectations(&schedule.streamed);
            let verifying = VerifyingLink::new(link, expectations);
            link = Box::new(verifying.map_err(|error| error.to_string())?);
        }
        let later: Vec<BlockId> = schedule.streamed.iter().copied().collect();
        let mut stack = StreamedStack::streaming(
            slabs.into_iter().map(Slot::new).collect(),
            itinerary(schedule, 0),
            &later,
            link,
            schedule.prefetch,
        )
        .map_err(|error| error.to_string())?;
        let all: BTreeSet<BlockId> = schedule.legs.iter().flat_map(Leg::blocks).collect();
        for &block in all.difference(&schedule.streamed) {
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
            route: Route::new(schedule),
            taken: 0,
            began: true,
            lead_is_over: false,
            turns_at_most: 0,
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
    route: Route,
    /// Copies that the stack has used, or given back unused.
    taken: u64,
    /// Whether a block of the leg under way was visited: until then it is not known how many copies
    /// the one before it left behind.
    began: bool,
    /// Of the leg under way.
    lead_is_over: bool,
    /// The last copy that the leg under way, or the one that follows, may begin with: more would
    /// have been left behind than was under way.
    turns_at_most: u64,
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
            if self.route.turn() {
                (self.began, self.lead_is_over) = (false, false);
            }
            let leg = &self.schedule.legs[self.route.leg];
            let order = match self.lead_is_over {
                true => &leg.cycle,
                false => &leg.lead,
            };
            // Nothing is visited, and another leg may follow.
            let idle = order.is_empty() && self.lead_is_over;
            let blocks = order.iter().copied().map(Some);
            for block in blocks.chain(idle.then_some(None)) {
                if self.visits == self.schedule.visits {
                    return Ok(());
                }
                let manner = self.schedule.manner(self.visits);
                self.visits += 1;
                match manner {
                    Manner::AbandonsUnit => {
                        self.abandon()?;
                        self.lead_is_over |= self.route.done >= self.route.lead_len();
                        continue 'units;
                    }
                    Manner::Follows => {
                        self.follow()?;
                        if self.route.left_of_unit().is_empty() && self.route.is_to_turn() {
                            continue 'units;
                        }
                    }
                    Manner::AsksWrongly => self.ask_wrongly(block)?,
                    _ => {}
                }
                if let Some(block) = block {
                    self.visit(block, manner)?;
                }
                if let Some(breach) = self.watch.first_breach() {
                    return Err(breach);
                }
            }
            self.lead_is_over = true;
            self.take_records()?;
        }
    }

    /// Another leg follows, if there is one.
    fn follow(&mut self) -> Result<(), String> {
        let Some(next) = self.route.follow() else {
            return Ok(());
        };
        let followed = self.stack.follow(itinerary(self.schedule, next));
        followed.map_err(|error| error.to_string())?;
        // It cannot be known of one copy more whether it was under way.
        let under_way = self.watch.started.load(SeqCst) + 1;
        let at = self.taken + self.route.left_of_unit().len() as u64;
        self.turns_at_most = at.max(match self.schedule.prefetch {
            Prefetch::Ahead => under_way,
            Prefetch::AtNeed => 0,
        });
        Ok(())
    }

    fn visit(&mut self, block: BlockId, manner: Manner) -> Result<(), String> {
        let streamed = self.schedule.streamed.contains(&block);
        let came = self.look_at(block, manner, streamed);
        let copies = self.watch.copies();
        let expected = self.expected_failure(block, streamed, &copies);
        let first = self.first_copy(&copies);
        let as_done = match manner {
            Manner::WorkFails => matches!(came, Visit::WorkFailed),
            Manner::WorkPanics => matches!(came, Visit::WorkPanicked),
            _ => matches!(came, Visit::Fine),
        };
        match (came, expected) {
            (Visit::Failed(error), Some(failure)) => {
                if failure.expected.is_at_release() && self.unsaid.is_none() {
                    match failure.copy {
                        copy if copy == first => self.count(block, first)?,
                        // One that was left behind.
                        copy => self.taken = copy.map_or(self.taken, |copy| copy + 1),
                    }
                }
                self.judge(failure.of, &error, failure.expected)
            }
            // The work's own error is told first, the ring's at the next visit.
            (
                _,
                Some(Failure {
                    of,
                    expected: expected @ Expected::Fault(kind),
                    copy,
                }),
            ) if as_done
                && manner.spoils()
                && expected.is_at_release()
                && self.unsaid.is_none()
                && copy == first =>
            {
                self.count(block, first)?;
                self.unsaid = Some((of, kind));
                Ok(())
            }
            (came, None) if as_done => {
                if streamed {
                    self.count(block, first)?;
                }
                check(!matches!(came, Visit::Failed(_)), || format!("{came:?}"))
            }
            (came, expected) => Err(format!(
                "{block}: {manner:?} came to {came:?}, expected was {expected:?}"
            )),
        }
    }

    /// The block was visited, in what this copy brought.
    fn count(&mut self, block: BlockId, copy: Option<u64>) -> Result<(), String> {
        let copy = copy.ok_or_else(|| format!("{block} was visited and never copied"))?;
        check(self.route.next() == Some(block), || {
            format!("{block} was visited, not {:?}", self.route.next())
        })?;
        if !self.began {
            let (most, slots) = (self.turns_at_most, self.schedule.slots as u64);
            check(copy <= most && copy <= self.taken + slots, || {
                format!(
                    "copies {}..{copy} were left behind, not up to {most}",
                    self.taken
                )
            })?;
        }
        self.began = true;
        self.unseen.push((copy, block));
        self.taken = copy + 1;
        self.route.done += 1;
        Ok(())
    }

    /// The copy of the next visit: where a leg begins, the first of that leg.
    fn first_copy(&self, copies: &[(BlockId, Option<usize>)]) -> Option<u64> {
        let taken = self.taken as usize;
        let of_leg = |(block, _): &(BlockId, _)| leg_of(*block) == self.route.leg;
        let left_behind = match self.began {
            true => 0,
            false => copies.get(taken..)?.iter().position(of_leg)?,
        };
        Some((taken + left_behind) as u64)
    }

    /// What had to go wrong at a visit of a block that begins now, if anything, and the block that
    /// the error is about.
    fn expected_failure(
        &self,
        block: BlockId,
        streamed: bool,
        copies: &[(BlockId, Option<usize>)],
    ) -> Option<Failure> {
        let expected = |of, expected, copy| Some(Failure { of, expected, copy });
        if !streamed {
            return None;
        }
        if self.failed {
            return expected(block, Expected::Stopped, None);
        }
        if let Some((block, kind)) = self.unsaid {
            return expected(block, Expected::Fault(kind), None);
        }
        let fault = self.schedule.link.first_fault()?;
        let first = self.first_copy(copies);
        let is_here = fault.copy >= self.taken && first.is_none_or(|first| fault.copy <= first);
        let (of, _) = copies.get(fault.copy as usize)?;
        // A thread that is gone cannot say whose copy it was at.
        let of = match fault.kind {
            FaultKind::ThreadDies => block,
            _ => *of,
        };
        match is_here && !fault.kind.is_at_arrival() {
            true => expected(of, Expected::Fault(fault.kind), Some(fault.copy)),
            false => None,
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

    fn ask_wrongly(&mut self, block: Option<BlockId>) -> Result<(), String> {
        if self.unsaid.is_some() {
            return Ok(());
        }
        let stranger = BlockId::new(StackId(99), LayerIndex(0));
        let mut others = self.schedule.streamed.iter();
        let other = others.find(|&&it| Some(it) != block);
        for &wrong in other.into_iter().chain([&stranger]) {
            let next = self.route.next();
            if Some(wrong) == next {
                continue;
            }
            let refused = self.stack.visit(wrong, |_| Ok::<_, OffloadError>(()));
            let fine = match refused {
                Err(OffloadError::OutOfOrder { asked, expected }) => {
                    asked == wrong && Some(expected) == next
                }
                Err(OffloadError::Unknown { block }) => {
                    block == wrong && (wrong == stranger || next.is_none())
                }
                Err(OffloadError::Stopped { .. }) => self.failed,
                _ => false,
            };
            check(fine, || {
                format!("{wrong} was asked for in place of {next:?}: {refused:?}")
            })?;
        }
        Ok(())
    }

    fn abandon(&mut self) -> Result<(), String> {
        self.take_records()?;
        let left = self.route.left_of_unit();
        let finished = self.stack.finish_unit();
        let to_go = left.len() as u64;
        let fault = self.schedule.link.first_fault();
        let fault = fault.filter(|it| (self.taken..self.taken + to_go).contains(&it.copy));
        let expected = match (fault, left.first(), self.unsaid) {
            (_, None, _) => None,
            (_, Some(&block), _) if self.failed => Some((block, Expected::Stopped)),
            (_, _, Some((block, kind))) => Some((block, Expected::Fault(kind))),
            (Some(fault), _, None) if !fault.kind.is_at_arrival() => {
                let before = (fault.copy - self.taken) as usize;
                self.pass_by(before + usize::from(fault.kind.is_at_release()));
                Some((left[before], Expected::Fault(fault.kind)))
            }
            _ => None,
        };
        match (finished, expected) {
            (Ok(()), None) => {
                self.pass_by(left.len());
                Ok(())
            }
            (Err(error), Some((block, expected))) => self.judge(block, &error, expected),
            (finished, expected) => Err(format!(
                "finishing came to {finished:?}, expected was {expected:?}"
            )),
        }
    }

    /// So many copies of the leg under way were given back unseen.
    fn pass_by(&mut self, copies: usize) {
        self.taken += copies as u64;
        self.route.done += copies;
    }
}

/// What has to go wrong.
#[derive(Debug, Clone, Copy)]
struct Failure {
    /// The block that the error is about.
    of: BlockId,
    expected: Expected,
    /// Whose fault it is, where it was not met before.
    copy: Option<u64>,
}

fn itinerary(schedule: &Schedule, leg: usize) -> Itinerary {
    let (lead, cycle) = schedule.streamed_of(leg);
    Itinerary::new(cycle).with_lead(lead)
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

pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

//! What happens in one schedule, all of it decided by its seed: the itineraries, the ring, where it
//! fails, and when the consumer stops.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use offload::{BlockId, LayerIndex, Prefetch, StackId};

use crate::dice::{Dice, Pace, Place};

pub const LAYERS_MAX: u64 = 64;
pub const LEGS_MAX: u16 = 4;
pub const EXPERTS_MAX: u16 = 24;
pub const SLOTS_MAX: u64 = 8;
const VISITS_MAX: u64 = 32;

/// An itinerary's units of work, with the blocks that stay resident.
pub struct Leg {
    pub lead: Vec<BlockId>,
    pub cycle: Vec<BlockId>,
}

pub struct Schedule {
    pub seed: u64,
    /// One after the other, each of stacks of its own: one or two.
    pub legs: Vec<Leg>,
    /// The blocks that the ring brings.
    pub streamed: BTreeSet<BlockId>,
    pub slots: usize,
    pub prefetch: Prefetch,
    pub link: Arc<Trouble>,
    pub visit_pace: Pace,
    /// Visits by the consumer; then it drops the stack, wherever it is.
    pub visits: usize,
    /// Whether it waits, before that, until the ring has come to rest.
    pub settles: bool,
}

/// What the link does.
#[derive(Debug)]
pub struct Trouble {
    pub seed: u64,
    pub pace: Pace,
    pub faults: Vec<Fault>,
    /// Every copy is held against its checksums before a visit has it.
    pub verifies: bool,
    /// The link's own `drop` panics.
    pub drop_panics: bool,
    /// Slots take turns.
    pub in_turn: bool,
}

/// Where a link goes wrong, counted in copies started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub copy: u64,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// `start` returns an error; the second one cannot even say where the block came from.
    StartFails,
    StartFailsNameless,
    StartPanics,
    BytesPanics,
    /// The thread dies and leaves no message in the channel: what it panics with panics, too.
    ThreadDies,
    /// The copy was started and does not land: an error, or a worker that panics.
    PartFails,
    PartPanics,
    /// It lands, and one bit of it is wrong. Only where somebody looks.
    BitFlips,
    /// The mark's own moments: the wait, the release after the visit, and the times at the end.
    MarkFails,
    MarkPanics,
    ReleaseFails,
    ReleasePanics,
    ArrivalFails,
    ArrivalPanics,
}

impl FaultKind {
    const ALL: [Self; 14] = [
        Self::StartFails,
        Self::StartFailsNameless,
        Self::StartPanics,
        Self::BytesPanics,
        Self::ThreadDies,
        Self::PartFails,
        Self::PartPanics,
        Self::BitFlips,
        Self::MarkFails,
        Self::MarkPanics,
        Self::ReleaseFails,
        Self::ReleasePanics,
        Self::ArrivalFails,
        Self::ArrivalPanics,
    ];

    /// Whether the prefetch thread itself learns of it, and ends.
    pub fn is_at_start(self) -> bool {
        matches!(self, Self::StartFails | Self::StartFailsNameless) || self.kills_thread()
    }

    /// Whether it is told as the thread's death.
    pub fn kills_thread(self) -> bool {
        matches!(
            self,
            Self::StartPanics | Self::BytesPanics | Self::ThreadDies
        )
    }

    /// Whether the visit's work is done before it comes.
    pub fn is_at_release(self) -> bool {
        matches!(self, Self::ReleaseFails | Self::ReleasePanics)
    }

    /// Whether it comes only when the records are taken.
    pub fn is_at_arrival(self) -> bool {
        matches!(self, Self::ArrivalFails | Self::ArrivalPanics)
    }

    /// What the error says of its cause.
    pub fn cause(self) -> &'static str {
        match self {
            Self::StartFails | Self::StartFailsNameless => "chaos: the port is closed",
            Self::StartPanics => "chaos: the driver fell over",
            Self::BytesPanics => "chaos: nobody counted",
            Self::ThreadDies => "chaos: the thread is gone",
            Self::PartFails => "chaos: the cable came off",
            Self::PartPanics => "chaos: the worker fell over",
            Self::BitFlips => "a weight is not what checksums.json says",
            Self::MarkFails => "chaos: the event is not ready",
            Self::MarkPanics => "chaos: the event is lost",
            Self::ReleaseFails => "chaos: the release is refused",
            Self::ReleasePanics => "chaos: the release fell over",
            Self::ArrivalFails => "chaos: the clock is wrong",
            Self::ArrivalPanics => "chaos: the clock fell over",
        }
    }
}

/// What the consumer does at one visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Proper,
    WorkFails,
    WorkPanics,
    /// Asks for another block first, is refused, and then for the right one.
    AsksWrongly,
    /// Gives the unit of work up and begins the next.
    AbandonsUnit,
    /// Says that another itinerary follows, if there is one.
    Follows,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, Place::Plan, 0);
        let legs: Vec<Leg> = (0..[1, 1, 2, 4][dice.below(4) as usize])
            .map(|leg| Leg::new(dice, leg))
            .collect();
        let all = legs.iter().flat_map(Leg::blocks);
        let streamed = streamed(dice, &all.collect());
        let slots = dice.up_to(SLOTS_MAX) as usize;
        // Some more than a unit's blocks can be visited, but not every schedule has to be long.
        let longest = legs.iter().map(|leg| leg.blocks().count()).max();
        let visits = VISITS_MAX.min(4 * longest.unwrap_or(0) as u64);
        let visits = dice.below(visits + 1) as usize;
        let reach = (visits + slots + 1) as u64;
        Self {
            seed,
            slots,
            prefetch: match dice.one_in(4) {
                true => Prefetch::AtNeed,
                false => Prefetch::Ahead,
            },
            link: Arc::new(Trouble::new(seed, dice, [0, 0, 1, 1, 1, 2], reach)),
            visit_pace: Pace::chosen(dice),
            visits,
            settles: dice.one_in(2),
            legs,
            streamed,
        }
    }

    pub fn manner(&self, visit: usize) -> Manner {
        match Dice::new(self.seed, Place::Visit, visit as u64).below(32) {
            0..2 => Manner::WorkFails,
            2 => Manner::WorkPanics,
            3..5 => Manner::AsksWrongly,
            5 => Manner::AbandonsUnit,
            6..9 => Manner::Follows,
            _ => Manner::Proper,
        }
    }

    /// Those of a leg that the ring brings: its lead's and its cycle's.
    pub fn streamed_of(&self, leg: usize) -> (Vec<BlockId>, Vec<BlockId>) {
        let of = |blocks: &[BlockId]| {
            let streamed = blocks.iter().filter(|it| self.streamed.contains(it));
            streamed.copied().collect()
        };
        let Leg { lead, cycle } = &self.legs[leg];
        (of(lead), of(cycle))
    }
}

impl Leg {
    fn new(dice: &mut Dice, leg: u16) -> Self {
        let order = visiting_order(dice, 2 * leg);
        let lead = match dice.below(4) {
            0 => (order.iter().copied())
                .filter(|_| dice.one_in(2))
                .collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let cycle = match dice.below(8) {
            // It ends with its lead, or is nothing at all.
            0 => Vec::new(),
            _ => order,
        };
        Self { lead, cycle }
    }

    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.lead.iter().chain(&self.cycle).copied()
    }
}

/// Which leg a block is of.
pub fn leg_of(block: BlockId) -> usize {
    usize::from(block.stack.0 / 2)
}

impl Trouble {
    /// `faults`: how many, each as likely; among so many copies.
    pub fn new(seed: u64, dice: &mut Dice, faults: [u64; 6], reach: u64) -> Self {
        let mut faults: Vec<Fault> = (0..faults[dice.below(6) as usize])
            .map(|_| Fault {
                copy: dice.below(reach),
                kind: FaultKind::ALL[dice.below(FaultKind::ALL.len() as u64) as usize],
            })
            .collect();
        let verifies = dice.one_in(4);
        faults.retain(|fault| verifies || fault.kind != FaultKind::BitFlips);
        // It would come after later ones.
        if let Some(&late) = faults.iter().find(|fault| fault.kind.is_at_arrival()) {
            faults = vec![late];
        }
        Self {
            seed,
            pace: Pace::chosen(dice),
            faults,
            verifies,
            drop_panics: dice.one_in(16),
            in_turn: true,
        }
    }

    /// What goes wrong with a copy. A link that fails at the start never gets to the parts.
    pub fn fault(&self, copy: u64) -> Option<FaultKind> {
        let here = self.faults.iter().filter(|fault| fault.copy == copy);
        here.map(|fault| fault.kind)
            .min_by_key(|kind| (!kind.is_at_start(), *kind as usize))
    }

    /// The first copy that does not become a visit: visits take the copies in order.
    pub fn first_fault(&self) -> Option<Fault> {
        let copy = self.faults.iter().map(|fault| fault.copy).min()?;
        let kind = self.fault(copy)?;
        Some(Fault { copy, kind })
    }

    /// The copy at which the prefetch thread ends by itself.
    pub fn thread_ends_at(&self) -> Option<u64> {
        let mut copies: Vec<_> = self.faults.iter().map(|fault| fault.copy).collect();
        copies.sort_unstable();
        let mut copies = copies.into_iter();
        copies.find(|&copy| self.fault(copy).is_some_and(FaultKind::is_at_start))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots,
            prefetch,
            link,
            visit_pace,
            visits,
            settles,
            ..
        } = self;
        write!(
            f,
            "{slots} slots, {prefetch:?}, {link:?}, visits {visit_pace:?}, "
        )?;
        write!(f, "{visits} visits, settles {settles}; (* is streamed)")?;
        for Leg { lead, cycle } in &self.legs {
            for (unit, blocks) in [("lead", lead), ("cycle", cycle)] {
                write!(f, "\n{unit}:")?;
                for block in blocks {
                    let star = match self.streamed.contains(block) {
                        true => "*",
                        false => "",
                    };
                    write!(f, " {}.{}{star}", block.stack.0, block.layer)?;
                }
            }
        }
        Ok(())
    }
}

/// One stack, or two: one after the other, or in turns.
fn visiting_order(dice: &mut Dice, first: u16) -> Vec<BlockId> {
    let stack = |id: u16, layers: u64| {
        LayerIndex::first(layers as usize).map(move |layer| BlockId::new(StackId(id), layer))
    };
    let layers = dice.up_to(LAYERS_MAX);
    if !dice.one_in(3) {
        return stack(first, layers).collect();
    }
    let others = dice.up_to(LAYERS_MAX);
    if dice.one_in(2) {
        return stack(first, layers)
            .chain(stack(first + 1, others))
            .collect();
    }
    let (mut first, mut second) = (stack(first, layers), stack(first + 1, others));
    let mut order = Vec::new();
    while order.len() < (layers + others) as usize {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

fn streamed(dice: &mut Dice, all: &BTreeSet<BlockId>) -> BTreeSet<BlockId> {
    // All, none, or some.
    match dice.below(16) {
        0..6 => all.clone(),
        6 => BTreeSet::new(),
        _ => {
            let of_eight = 1 + dice.below(7);
            let is_streamed = |_: &&BlockId| dice.below(8) < of_eight;
            all.iter().filter(is_streamed).copied().collect()
        }
    }
}

//! What happens in one schedule, all of it decided by its seed: the stacks, the ring, where it
//! fails, and when the consumer stops.

use std::fmt;

use offload::{BlockId, LayerIndex, Prefetch, StackId};

use crate::dice::{Dice, Pace, Place};

pub const LAYERS_MAX: u64 = 64;
const SLOTS_MAX: u64 = 8;
const VISITS_MAX: u64 = 32;

pub struct Schedule {
    pub seed: u64,
    /// Every block of one unit of work, in visiting order; of one stack or of two.
    pub order: Vec<BlockId>,
    /// Of those, the ones that the ring brings.
    pub streamed: Vec<BlockId>,
    pub slots: usize,
    pub prefetch: Prefetch,
    /// Of the copies, and of the visits.
    pub link_pace: Pace,
    pub visit_pace: Pace,
    pub faults: Vec<Fault>,
    /// Every copy is held against its checksums before a visit has it.
    pub verifies: bool,
    /// The link's own `drop` panics.
    pub drop_panics: bool,
    /// Visits by the consumer; then it drops the stack, wherever it is.
    pub visits: usize,
    /// Whether it waits, before that, until the ring has come to rest.
    pub settles: bool,
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
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, Place::Plan, 0);
        let order = visiting_order(dice);
        let streamed = streamed(dice, &order);
        let slots = dice.up_to(SLOTS_MAX) as usize;
        // Some more than a unit's blocks can be visited, but not every schedule has to be long.
        let visits = dice.below(VISITS_MAX.min(4 * order.len() as u64) + 1) as usize;
        let reach = (visits + slots + 1) as u64;
        let mut faults: Vec<Fault> = (0..[0, 0, 1, 1, 1, 2][dice.below(6) as usize])
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
            slots,
            prefetch: match dice.one_in(4) {
                true => Prefetch::AtNeed,
                false => Prefetch::Ahead,
            },
            link_pace: Pace::chosen(dice),
            visit_pace: Pace::chosen(dice),
            faults,
            verifies,
            drop_panics: dice.one_in(16),
            visits,
            settles: dice.one_in(2),
            order,
            streamed,
        }
    }

    pub fn manner(&self, visit: usize) -> Manner {
        match Dice::new(self.seed, Place::Visit, visit as u64).below(32) {
            0..2 => Manner::WorkFails,
            2 => Manner::WorkPanics,
            3..5 => Manner::AsksWrongly,
            5 => Manner::AbandonsUnit,
            _ => Manner::Proper,
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
            link_pace,
            visit_pace,
            faults,
            drop_panics,
            ..
        } = self;
        write!(
            f,
            "{slots} slots, {prefetch:?}, link {link_pace:?}, visits {visit_pace:?}, "
        )?;
        write!(
            f,
            "{} visits, settles {}, {faults:?}, ",
            self.visits, self.settles
        )?;
        write!(f, "verifies {}, ", self.verifies)?;
        write!(f, "drop panics {drop_panics}; a unit (* is streamed):")?;
        for block in &self.order {
            let star = if self.streamed.contains(block) {
                "*"
            } else {
                ""
            };
            write!(f, " {}.{}{star}", block.stack.0, block.layer)?;
        }
        Ok(())
    }
}

/// One stack, or two: one after the other, or in turns.
fn visiting_order(dice: &mut Dice) -> Vec<BlockId> {
    let stack = |id: u16, layers: u64| {
        LayerIndex::first(layers as usize).map(move |layer| BlockId::new(StackId(id), layer))
    };
    let layers = dice.up_to(LAYERS_MAX);
    if !dice.one_in(3) {
        return stack(0, layers).collect();
    }
    let others = dice.up_to(LAYERS_MAX);
    if dice.one_in(2) {
        return stack(0, layers).chain(stack(1, others)).collect();
    }
    let (mut first, mut second) = (stack(0, layers), stack(1, others));
    let mut order = Vec::new();
    while order.len() < (layers + others) as usize {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

fn streamed(dice: &mut Dice, order: &[BlockId]) -> Vec<BlockId> {
    // All, none, or some.
    match dice.below(16) {
        0..6 => order.to_vec(),
        6 => Vec::new(),
        _ => {
            let of_eight = 1 + dice.below(7);
            let is_streamed = |_: &&BlockId| dice.below(8) < of_eight;
            order.iter().filter(is_streamed).copied().collect()
        }
    }
}

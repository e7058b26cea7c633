//! A link with the worst manners that the trait allows, and the seats that watch the slots. A slot
//! is poisoned the moment a refill may start; its bytes land in parts, on two workers, at any time
//! and in any order; and what can fail, fails, where the schedule says so.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use offload::{Arrival, BlockId, Latch, Link, LinkError, Mark, Slab, SlabBytes, Slot};

use crate::dice::{Dice, Place};
use crate::home::Homes;
use crate::schedule::{FaultKind, Trouble};

const PARTS_MAX: u64 = 3;

/// What is known of one slot from outside the ring: who writes it, and who reads it.
#[derive(Debug, Default)]
pub struct Seat {
    /// Parts of a copy that are still to land.
    writing: AtomicUsize,
    reading: AtomicBool,
    /// Its last copy was not released yet.
    held: AtomicBool,
}

/// All seats, what was broken, and how far the link is.
#[derive(Debug)]
pub struct Watch {
    seats: Vec<(SlabBytes, Seat)>,
    broken: Mutex<Vec<String>>,
    /// Copies that were asked for, the failed ones included.
    pub started: AtomicU64,
    /// Of each of them the block, and the seat if it came to one.
    copies: Mutex<Vec<(BlockId, Option<usize>)>>,
    /// Failures that were told to whoever asked the link or a mark.
    pub told: AtomicU64,
    pub link_is_gone: AtomicBool,
}

impl Watch {
    pub fn new(slabs: impl Iterator<Item = SlabBytes>) -> Self {
        Self {
            seats: slabs.map(|bytes| (bytes, Seat::default())).collect(),
            broken: Mutex::default(),
            started: AtomicU64::new(0),
            copies: Mutex::default(),
            told: AtomicU64::new(0),
            link_is_gone: AtomicBool::new(false),
        }
    }

    /// Those of the slots.
    pub fn slabs(&self) -> impl Iterator<Item = &SlabBytes> {
        self.seats.iter().map(|(slab, _)| slab)
    }

    pub fn breach(&self, what: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.push(what);
    }

    pub fn first_breach(&self) -> Option<String> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.first().cloned()
    }

    /// All copies so far.
    pub fn copies(&self) -> Vec<(BlockId, Option<usize>)> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.clone()
    }

    fn copy(&self, block: BlockId, seat: Option<usize>) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.push((block, seat));
        self.started.store(copies.len() as u64, SeqCst);
    }

    fn seat(&self, slab: &SlabBytes) -> Option<usize> {
        self.seats.iter().position(|(it, _)| it.is_same(slab))
    }

    /// Stands around every read of a visit.
    pub fn read<R>(&self, block: BlockId, slab: &Slab, read: impl FnOnce() -> R) -> R {
        let Some(place) = self.seat(slab.bytes()) else {
            self.breach(format!("{block} is visited in memory that is no slot"));
            return read();
        };
        let seat = &self.seats[place].1;
        if seat.reading.swap(true, SeqCst) {
            self.breach(format!(
                "{block} is visited in slot {place}, which is being read"
            ));
        }
        if seat.writing.load(SeqCst) != 0 {
            self.breach(format!(
                "{block} is visited in slot {place}, which is being written"
            ));
        }
        let result = catch_unwind(AssertUnwindSafe(read));
        if seat.writing.load(SeqCst) != 0 {
            self.breach(format!(
                "slot {place} was written while {block} was read from it"
            ));
        }
        seat.reading.store(false, SeqCst);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Workers that carry parts, for one schedule after another.
#[derive(Debug, Clone)]
pub struct Carriers(Sender<Part>);

struct Part {
    dice: Dice,
    trouble: Arc<Trouble>,
    home: Arc<[u8]>,
    from: usize,
    to: usize,
    slab: SlabBytes,
    latch: Arc<Latch>,
    watch: Arc<Watch>,
    seat: usize,
    fault: Option<FaultKind>,
    ending: Arc<AtomicBool>,
    /// Hangs up when the part is done with.
    _under_way: Sender<()>,
}

impl Carriers {
    pub fn new() -> Self {
        let (parts, queue) = unbounded::<Part>();
        for _ in 0..2 {
            let queue = queue.clone();
            // They end with the last sender.
            thread::spawn(move || queue.iter().for_each(Part::carry));
        }
        Self(parts)
    }
}

impl Part {
    fn carry(mut self) {
        self.dice.pause(self.trouble.pace);
        if self.ending.load(SeqCst) {
            self.latch.part(Err(LinkError::WorkersGone));
        } else {
            self.latch.begin();
            let carried = catch_unwind(AssertUnwindSafe(|| self.land()))
                .unwrap_or_else(|panic| Err(LinkError::Panicked(message(panic.as_ref()))));
            self.watch.seats[self.seat].1.writing.fetch_sub(1, SeqCst);
            self.latch.part(carried);
        }
    }

    fn land(&mut self) -> Result<(), LinkError> {
        let half = usize::midpoint(self.from, self.to);
        for (from, to) in [(self.from, half), (half, self.to)] {
            if self.watch.seats[self.seat].1.reading.load(SeqCst) {
                let seat = self.seat;
                self.watch
                    .breach(format!("slot {seat} is written while it is read"));
            }
            self.slab
                .write(|slab| slab[from..to].copy_from_slice(&self.home[from..to]))
                .map_err(|error| LinkError::Slab(error.to_string()))?;
            self.dice.pause(self.trouble.pace);
        }
        match self.fault {
            Some(FaultKind::BitFlips) => self
                .slab
                .write(|slab| slab[self.from] ^= 1)
                .map_err(|error| LinkError::Slab(error.to_string())),
            Some(kind @ FaultKind::PartFails) => Err(LinkError::Slab(kind.cause().into())),
            Some(kind @ FaultKind::PartPanics) => panic!("{}", kind.cause()),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub struct BadLink {
    trouble: Arc<Trouble>,
    homes: Homes,
    watch: Arc<Watch>,
    carriers: Carriers,
    ending: Arc<AtomicBool>,
    /// Parts under way hold the sender; nobody ever sends.
    under_way: Option<(Sender<()>, Receiver<()>)>,
}

impl BadLink {
    pub fn new(trouble: Arc<Trouble>, homes: Homes, watch: Arc<Watch>, carriers: Carriers) -> Self {
        Self {
            trouble,
            homes,
            watch,
            carriers,
            ending: Arc::default(),
            under_way: Some(bounded(0)),
        }
    }

    fn fault_now(&self) -> Option<FaultKind> {
        self.trouble.fault(self.watch.started.load(SeqCst))
    }

    /// The slots' turns follow each other, because slots travel through queues. One that was lost
    /// on the way, or came back twice, is missed here.
    fn take_seat(&self, copy: u64, block: BlockId, slab: &SlabBytes) -> usize {
        let Some(place) = self.watch.seat(slab) else {
            panic!("chaos: {block} is to fill memory that is no slot");
        };
        let turn = copy as usize % self.watch.seats.len();
        if self.trouble.in_turn && place != turn {
            self.watch.breach(format!(
                "copy {copy} goes to slot {place}, and it is the turn of {turn}: a slot was lost"
            ));
        }
        let seat = &self.watch.seats[place].1;
        if seat.reading.load(SeqCst) {
            self.watch.breach(format!(
                "{block} is started into slot {place}, which is being read"
            ));
        }
        if seat.writing.load(SeqCst) != 0 {
            self.watch.breach(format!(
                "{block} is started into slot {place}, which is being filled"
            ));
        }
        if seat.held.swap(true, SeqCst) {
            self.watch.breach(format!(
                "{block} is started into slot {place}, which was not released"
            ));
        }
        place
    }
}

impl Link for BadLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let slab = slot.slab().bytes();
        let copy = self.watch.started.load(SeqCst);
        let fault = self.fault_now();
        let mut dice = Dice::new(self.trouble.seed, Place::Start, copy);
        dice.pause(self.trouble.pace);
        let seat = self.take_seat(copy, block, slab);
        self.watch.copy(block, Some(seat));
        if fault.is_some_and(FaultKind::is_at_start) {
            self.watch.told.fetch_add(1, SeqCst);
        }
        match fault {
            Some(kind @ (FaultKind::StartFails | FaultKind::StartFailsNameless)) => {
                return Err(LinkError::Slab(kind.cause().into()));
            }
            Some(kind @ FaultKind::StartPanics) => panic!("{}", kind.cause()),
            Some(FaultKind::ThreadDies) => panic_any(PanicsAgain),
            _ => {}
        }
        let home = self.homes.of(block);
        let parts = dice.up_to(PARTS_MAX) as usize;
        self.watch.seats[seat].1.writing.store(parts, SeqCst);
        slab.write(|slab| slab.fill(0xff))
            .map_err(|error| LinkError::Slab(error.to_string()))?;
        let latch = Arc::new(Latch::new(parts));
        let failing = dice.below(parts as u64) as usize;
        for part in 0..parts {
            let (Some((under_way, _)), at) = (&self.under_way, |part| home.len() * part / parts)
            else {
                return Err(LinkError::WorkersGone);
            };
            let part = Part {
                dice: Dice::new(
                    self.trouble.seed,
                    Place::Part,
                    copy * PARTS_MAX + part as u64,
                ),
                trouble: Arc::clone(&self.trouble),
                home: Arc::clone(&home),
                from: at(part),
                to: at(part + 1),
                slab: slab.clone(),
                latch: Arc::clone(&latch),
                watch: Arc::clone(&self.watch),
                seat,
                fault: fault.filter(|_| part == failing),
                ending: Arc::clone(&self.ending),
                _under_way: under_way.clone(),
            };
            self.carriers
                .0
                .send(part)
                .map_err(|_| LinkError::WorkersGone)?;
        }
        Ok(Arc::new(BadMark {
            latch,
            dice: Mutex::new(Dice::new(self.trouble.seed, Place::Mark, copy)),
            trouble: Arc::clone(&self.trouble),
            watch: Arc::clone(&self.watch),
            seat,
            fault,
        }))
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        let copies = self.watch.started.load(SeqCst);
        // Asked for by the stack before there is any copy, by the thread after a failed one.
        let nameless =
            copies > 0 && self.trouble.fault(copies - 1) == Some(FaultKind::StartFailsNameless);
        assert!(!nameless, "chaos: no name");
        self.homes.origin(block)
    }

    fn bytes(&self, block: BlockId) -> u64 {
        if let Some(kind @ FaultKind::BytesPanics) = self.fault_now() {
            self.watch.copy(block, None);
            self.watch.told.fetch_add(1, SeqCst);
            panic!("{}", kind.cause());
        }
        self.homes.of(block).len() as u64
    }
}

impl Drop for BadLink {
    /// As real links do: what is queued is skipped, what is being written is waited for.
    fn drop(&mut self) {
        self.ending.store(true, SeqCst);
        if let Some((under_way, all_done)) = self.under_way.take() {
            drop(under_way);
            let _hung_up = all_done.recv();
        }
        self.watch.link_is_gone.store(true, SeqCst);
        assert!(
            !self.trouble.drop_panics || thread::panicking(),
            "chaos: the link does not want to go"
        );
    }
}

struct BadMark {
    latch: Arc<Latch>,
    dice: Mutex<Dice>,
    trouble: Arc<Trouble>,
    watch: Arc<Watch>,
    seat: usize,
    fault: Option<FaultKind>,
}

impl BadMark {
    fn pause(&self) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.pause(self.trouble.pace);
    }

    /// Where it is told to: an error, or a panic.
    fn fail_if(&self, fails: FaultKind, panics: FaultKind) -> Result<(), LinkError> {
        if [fails, panics].map(Some).contains(&self.fault) {
            self.watch.told.fetch_add(1, SeqCst);
        }
        assert!(self.fault != Some(panics), "{}", panics.cause());
        match self.fault == Some(fails) {
            true => Err(LinkError::Slab(fails.cause().into())),
            false => Ok(()),
        }
    }
}

impl Mark for BadMark {
    fn wait(&self) -> Result<(), LinkError> {
        self.pause();
        self.fail_if(FaultKind::MarkFails, FaultKind::MarkPanics)?;
        let landed = self.latch.wait();
        if landed.is_err() {
            self.watch.told.fetch_add(1, SeqCst);
        }
        self.pause();
        landed
    }

    fn release(&self) -> Result<(), LinkError> {
        let seat = &self.watch.seats[self.seat].1;
        if seat.reading.load(SeqCst) || !seat.held.swap(false, SeqCst) {
            let seat = self.seat;
            self.watch.breach(format!(
                "slot {seat} is released twice, or while it is read"
            ));
        }
        self.pause();
        self.fail_if(FaultKind::ReleaseFails, FaultKind::ReleasePanics)
    }

    fn arrival(&self) -> Result<Arrival, LinkError> {
        self.fail_if(FaultKind::ArrivalFails, FaultKind::ArrivalPanics)?;
        self.latch.arrival()
    }
}

/// A panic's payload that panics when whoever caught it lets go of it.
pub struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("{}", FaultKind::ThreadDies.cause());
        }
    }
}

pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

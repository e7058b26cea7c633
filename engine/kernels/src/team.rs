//! A fixed team of threads that runs a region together: phases one after another, each cut into
//! steps that the workers take. Knows nothing of what it runs.
//!
//! Protocol. The caller is worker 0. [`Team::run`] publishes the region and opens its first phase.
//! A worker that sees an open phase takes steps: those of its own contiguous share and, when that is
//! done, of the others' shares, each in the order of memory. When nothing is left to take it adds what it
//! did to `done`; the worker that completes the phase opens the next one, and after the last one
//! closes the region. So a phase is over when its steps are done, not when all workers have come: a
//! worker whose core was taken away is waited for only if it holds a step, and a worker that comes
//! late goes straight to the phase that is open. Where two threads share one core, the one that has
//! it does all the work.
//!
//! A queue is one atomic word: the phase it was last used in, and how many steps were taken then.
//! No one prepares it: the first worker to come in a new phase sees an older number and
//! starts afresh; a worker with an older number than the queue's leaves.
//!
//! Waiting: a few microseconds of spinning, since most phases are short; then the core is offered
//! to others; then the thread sleeps, so that a system that has put two workers on one core, or
//! one behind a neighbour, has a free core to move it to, and an engine that waits for weights
//! leaves its cores to the threads that read them.
//!
//! A step that panics closes the region; the caller re-raises the first panic.
#![expect(unsafe_code, reason = "a borrowed region is handed to other threads")]
// Sound because a worker follows the pointer in `current` only while it holds a step that it has
// not added to `done`: its phase is then not over, so `run` has neither returned nor unwound, and
// `gate` admits one region at a time. The pointer is written only when no phase is open, and read
// after an acquire of the `open` word that was released after it.

mod count;
mod cut;
mod steps;
#[cfg(test)]
mod tests;
mod waiting;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fs;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use self::count::{Apart, Counted, Number};
use self::cut::Dealt;
use super::level::Level;

pub(crate) use self::cut::Cut;
pub(crate) use self::steps::Steps;

/// A region of fewer bytes is run by its caller: two cores that hand a line of memory to each other
/// for every phase take as long (some 20 microseconds) as one takes for this much in its cache, and
/// several times as long where they share no cache.
const SHARED_BYTES_MIN: usize = 512 << 10;

thread_local! {
    static INSIDE_REGION: Cell<bool> = const { Cell::new(false) };
}

/// What a team runs.
pub(crate) trait Region: Sync {
    /// How many phases there are.
    fn phases(&self) -> usize;

    /// Called once for each phase, by the worker that completed the one before: how many steps it
    /// has. A phase without any is passed over.
    fn open(&self, phase: usize) -> usize;

    /// About how many bytes it goes through: too few are not worth sharing.
    fn bytes(&self) -> usize {
        usize::MAX
    }

    /// Runs the steps that `steps` yields, all of them. It yields at least one; together the
    /// workers are given every step of the phase once.
    fn work(&self, phase: usize, steps: &mut Steps<'_>);
}

/// The region whose phases are being run, and the number of its first.
#[derive(Clone, Copy)]
struct OpenRegion {
    region: *const (dyn Region + 'static),
    first: Number,
}

/// What the caller and the workers share.
struct Common {
    threads: usize,
    current: UnsafeCell<Option<OpenRegion>>,
    /// A [`Counted`].
    open: Apart<AtomicU64>,
    /// Steps of the open phase that are done.
    done: Apart<AtomicUsize>,
    queues: Vec<Apart<AtomicU64>>,
    /// Workers that sleep, or are about to.
    sleepers: Apart<AtomicUsize>,
    bed: Mutex<()>,
    bell: Condvar,
    poisoned: AtomicBool,
    stopping: AtomicBool,
    /// Where the system tells of each worker's thread, once it runs.
    places: Vec<OnceLock<Option<PathBuf>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `current` is the only field that is not shareable by itself; see the top of the file.
unsafe impl Sync for Common {}
// SAFETY: as above; the pointer is only followed while its region runs.
unsafe impl Send for Common {}

/// Persistent worker threads; the calling thread is worker 0.
pub struct Team {
    common: Arc<Common>,
    handles: Vec<JoinHandle<()>>,
    /// One region at a time. Holds the phase at which queues were last renewed.
    gate: Mutex<Number>,
    level: Level,
    shared_bytes_min: usize,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Team({} threads, {})", self.threads(), self.level)
    }
}

impl Team {
    /// A team of `threads` (at least one) at the best level of this machine, or what the system
    /// says when it refuses a thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        Team::start_at(threads, Level::detect())
    }

    /// [`Team::start`] for tests and benches.
    ///
    /// # Panics
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> Self {
        Team::with_level(threads, Level::detect())
    }

    /// [`Team::start_at`] for tests and benches: it shares regions of any size.
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[expect(clippy::expect_used, reason = "stated in the docs")]
    pub fn with_level(threads: usize, level: Level) -> Self {
        let mut team = Team::start_at(threads, level).expect("the system refused a compute thread");
        team.shared_bytes_min = 0;
        team
    }

    /// A team that uses `level`, or the best supported one below it.
    pub fn start_at(threads: usize, level: Level) -> io::Result<Self> {
        let threads = threads.max(1);
        let common = Arc::new(Common {
            threads,
            current: UnsafeCell::new(None),
            open: Apart::default(),
            done: Apart::default(),
            queues: (0..threads).map(|_| Apart::default()).collect(),
            sleepers: Apart::default(),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            poisoned: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            places: (1..threads).map(|_| OnceLock::new()).collect(),
            panic: Mutex::new(None),
        });
        let mut team = Team {
            common,
            handles: Vec::with_capacity(threads - 1),
            gate: Mutex::new(Number(0)),
            level: level.or_below(),
            shared_bytes_min: SHARED_BYTES_MIN,
        };
        for index in 1..threads {
            // Dropping the team ends those that did start.
            team.handles.push(spawn(&team.common, index)?);
        }
        Ok(team)
    }

    /// Workers, the caller included.
    pub fn threads(&self) -> usize {
        self.common.threads
    }

    /// The instructions the kernels use on this team.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Where the system tells of each thread of the team: its folder of files. The calling thread
    /// is not one of them.
    pub fn places(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let places = self.common.places.iter();
        places.filter_map(|place| place.get()?.clone())
    }

    /// Runs one phase over the pieces of a cut; `work` is given a piece and the worker's index.
    ///
    /// # Panics
    /// As [`Team::run`].
    pub(crate) fn deal(&self, cut: Cut, work: impl Fn(Range<usize>, usize) + Sync) {
        self.run(&Dealt { cut, work });
    }

    /// Runs the region and returns when all of its phases are over.
    ///
    /// # Panics
    /// With the first panic of a worker, or if called from inside a region.
    pub(crate) fn run(&self, region: &dyn Region) {
        assert!(
            !INSIDE_REGION.get(),
            "a parallel region inside a parallel region"
        );
        let mut renewed = lock(&self.gate);
        let common = &*self.common;
        if common.threads == 1 || region.bytes() < self.shared_bytes_min {
            return common.run_alone(region);
        }
        let pointer: *const (dyn Region + '_) = region;
        // SAFETY: only the lifetime changes; the pointer is not followed after this call.
        let pointer: *const (dyn Region + 'static) = unsafe { std::mem::transmute(pointer) };
        let before = common.open_now().phase;
        if before.since(*renewed) >= Number::STALE {
            common.renew_queues(before);
            *renewed = before;
        }
        let current = OpenRegion {
            region: pointer,
            first: before.next(),
        };
        // SAFETY: no phase is open (`gate`), so no worker looks at the cell.
        unsafe { *common.current.get() = Some(current) };
        INSIDE_REGION.set(true);
        // SAFETY: the region is borrowed for this call.
        unsafe { common.open_after(before, current) };
        loop {
            let open = common.open_now();
            if open.steps == 0 {
                break;
            }
            common.take_part(0, open);
            common.wait(open);
        }
        INSIDE_REGION.set(false);
        let panic = lock(&common.panic).take();
        common.poisoned.store(false, Ordering::Relaxed);
        drop(renewed);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.common.stopping.store(true, Ordering::SeqCst);
        self.common.ring();
        for handle in self.handles.drain(..) {
            // A worker catches every panic of its work, so there is nothing to learn here.
            let _ = handle.join();
        }
    }
}

fn spawn(common: &Arc<Common>, index: usize) -> io::Result<JoinHandle<()>> {
    let common = Arc::clone(common);
    std::thread::Builder::new()
        .name(format!("compute-{index}"))
        .spawn(move || common.serve(index))
}

impl Common {
    fn serve(&self, index: usize) {
        let place = fs::read_link("/proc/thread-self").ok();
        let place = place.map(|place| Path::new("/proc").join(place));
        let _ = self.places[index - 1].set(place);
        INSIDE_REGION.set(true);
        while !self.stopping.load(Ordering::SeqCst) {
            let open = self.open_now();
            if open.steps > 0 {
                self.take_part(index, open);
            }
            self.wait(open);
        }
    }

    fn open_now(&self) -> Counted {
        Counted::from_word(self.open.0.load(Ordering::Acquire))
    }

    /// Does what is left of a phase; opens the next one if that completes it.
    fn take_part(&self, worker: usize, open: Counted) {
        let mut steps = Steps {
            common: self,
            worker,
            open,
            alone: false,
            turn: 0,
            first: None,
            taken: 0,
            range: steps::ALL,
        };
        steps.first = steps.take_step();
        if steps.first.is_none() {
            return;
        }
        // SAFETY: this worker holds a step of an open phase; see the top of the file.
        let Some(current) = (unsafe { *self.current.get() }) else {
            unreachable!("a phase without a region");
        };
        let work = AssertUnwindSafe(|| {
            // SAFETY: as above: the steps are not added to `done` yet.
            let region = unsafe { &*current.region };
            region.work(open.phase.since(current.first) as usize, &mut steps);
            assert!(steps.first.is_none(), "a worker left the step it was given");
        });
        if let Err(panic) = catch_unwind(work) {
            self.poison(panic);
        }
        let done = self.done.0.fetch_add(steps.taken, Ordering::AcqRel) + steps.taken;
        if done == open.steps {
            // SAFETY: no other worker can close the region: its open phase is over.
            unsafe { self.open_after(open.phase, current) };
        }
    }

    fn poison(&self, panic: Box<dyn Any + Send>) {
        lock(&self.panic).get_or_insert(panic);
        self.poisoned.store(true, Ordering::Release);
    }

    /// Opens the phase after `phase`, or closes the region.
    ///
    /// # Safety
    /// The region is alive until this closes it.
    unsafe fn open_after(&self, phase: Number, current: OpenRegion) {
        let mut next = phase;
        let open_next = AssertUnwindSafe(|| {
            // SAFETY: as the caller promises; not used beyond this closure.
            let region = unsafe { &*current.region };
            loop {
                next = next.next();
                let index = next.since(current.first) as usize;
                if index >= region.phases() || self.poisoned.load(Ordering::Acquire) {
                    return 0;
                }
                let steps = region.open(index);
                if steps > 0 {
                    assert!(steps <= Counted::STEPS_MAX, "{steps} steps to deal out");
                    return steps;
                }
            }
        });
        let steps = catch_unwind(open_next).unwrap_or_else(|panic| {
            self.poison(panic);
            0
        });
        self.done.0.store(0, Ordering::Relaxed);
        let open = Counted { phase: next, steps };
        // With the sleepers: either this sees one, or it sees this.
        self.open.0.store(open.word(), Ordering::SeqCst);
        if self.sleepers.0.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
    }

    /// Makes all queues say that nothing is left of `phase`.
    fn renew_queues(&self, phase: Number) {
        let nothing_left = Counted {
            phase,
            steps: Counted::STEPS_MAX,
        };
        for queue in &self.queues {
            queue.0.store(nothing_left.word(), Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

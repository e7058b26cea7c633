//! A fixed team of threads that runs one closure at a time, together, with barriers inside.
//! Knows nothing of what it runs.
//!
//! Protocol. The caller is worker 0. [`Team::run`] publishes the closure and raises `epoch`; each
//! worker sees the new epoch, runs the closure, and lowers `running`; the caller returns when
//! `running` is 0, so the closure may borrow from the caller's stack. Between regions a worker
//! spins for some tens of microseconds and then parks, so that an engine that waits for weights
//! leaves its cores to the threads that read them. A worker that panics poisons the region: the
//! others leave their next barrier by unwinding, and the caller re-raises the first panic.
//!
//! Inside a region, [`Worker::deal`] hands out the items of one phase: each worker takes its own
//! contiguous share from the front and, when that is done, from the back of the others' shares, so
//! that a worker whose core is taken away holds up one step and not half of the phase. A queue is
//! one atomic word: the phase it was last used in, and how many steps were taken from either end.
//! Nobody prepares it: the first to come in a new phase sees an old number and starts afresh. That
//! is why two phases need a barrier between them.
#![expect(unsafe_code, reason = "a borrowed closure is handed to other threads")]
// Sound because `run` does not return, nor unwind, before every worker has left the closure, and
// because `gate` admits one region at a time: the pointer in `job` is written only when no worker
// looks at it (they read it after an acquire of the raised epoch, and the caller writes it after
// an acquire of `running == 0`).

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::level::Level;

/// Turns of the spin loop before a worker parks: 30 to 80 microseconds on current processors.
const SPINS_BEFORE_PARK: u32 = 1500;
/// Turns before a waiter inside a region gives its core to whoever may be holding it up.
const SPINS_BEFORE_YIELD: u32 = 400;

thread_local! {
    static INSIDE_REGION: Cell<bool> = const { Cell::new(false) };
}

type Job<'a> = dyn Fn(&Worker<'_>) + Sync + 'a;

/// Keeps a counter on a cache line of its own (two, for the adjacent-line prefetcher).
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

struct Common {
    threads: usize,
    job: UnsafeCell<Option<*const Job<'static>>>,
    epoch: Apart<AtomicUsize>,
    running: Apart<AtomicUsize>,
    arrived: Apart<AtomicUsize>,
    generation: Apart<AtomicUsize>,
    poisoned: AtomicBool,
    stopping: AtomicBool,
    parked: Vec<Apart<AtomicBool>>,
    queues: Vec<Apart<AtomicU64>>,
    /// The number of the last phase before the region.
    phase: AtomicU32,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not shareable by itself; see the top of the file.
unsafe impl Sync for Common {}
// SAFETY: as above; the pointer is only followed while its region runs.
unsafe impl Send for Common {}

/// What a worker unwinds with when another one has panicked.
struct Poisoned;

/// Persistent worker threads; the calling thread is worker 0.
pub struct Team {
    common: Arc<Common>,
    handles: Vec<JoinHandle<()>>,
    gate: Mutex<()>,
    level: Level,
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

    /// [`Team::start_at`] for tests and benches.
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[expect(clippy::expect_used, reason = "stated in the docs")]
    pub fn with_level(threads: usize, level: Level) -> Self {
        Team::start_at(threads, level).expect("the system refused a compute thread")
    }

    /// A team that uses `level`, or the best supported one below it.
    pub fn start_at(threads: usize, level: Level) -> io::Result<Self> {
        let threads = threads.max(1);
        let common = Arc::new(Common {
            threads,
            job: UnsafeCell::new(None),
            epoch: Apart::default(),
            running: Apart::default(),
            arrived: Apart::default(),
            generation: Apart::default(),
            poisoned: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            parked: (0..threads).map(|_| Apart::default()).collect(),
            queues: (0..threads).map(|_| Apart::default()).collect(),
            phase: AtomicU32::new(0),
            panic: Mutex::new(None),
        });
        let mut team = Team {
            common,
            handles: Vec::with_capacity(threads - 1),
            gate: Mutex::new(()),
            level: level.or_below(),
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

    /// Runs `work` once on every worker and returns when all are done.
    ///
    /// # Panics
    /// With the first panic of a worker, or if called from inside a region.
    pub fn run(&self, work: impl Fn(&Worker<'_>) + Sync) {
        assert!(
            !INSIDE_REGION.get(),
            "a parallel region inside a parallel region"
        );
        let gate = lock(&self.gate);
        let common = &*self.common;
        let job: &Job<'_> = &work;
        // SAFETY: only the lifetime changes; the pointer is not followed after this call.
        let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no region runs (`gate`), so no worker looks at the cell.
        unsafe { *common.job.get() = Some(job) };
        common
            .running
            .0
            .store(common.threads - 1, Ordering::Relaxed);
        common.epoch.0.fetch_add(1, Ordering::SeqCst);
        for (handle, parked) in self.handles.iter().zip(&common.parked[1..]) {
            if parked.0.load(Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
        let phase = common.enter(0, job);
        wait_until(|| common.running.0.load(Ordering::Acquire) == 0);
        // Not before: a worker that starts late reads it when this one has long finished.
        common.phase.store(phase, Ordering::Relaxed);
        let panic = lock(&common.panic).take();
        if common.poisoned.swap(false, Ordering::Relaxed) {
            common.arrived.0.store(0, Ordering::Relaxed);
            // The workers may have left in different phases: no queue may look like a coming one.
            common
                .queues
                .iter()
                .for_each(|queue| queue.0.store(0, Ordering::Relaxed));
            common.phase.store(0, Ordering::Relaxed);
        }
        drop(gate);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.common.stopping.store(true, Ordering::SeqCst);
        self.common.epoch.0.fetch_add(1, Ordering::SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
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
        let mut seen = 0;
        loop {
            seen = self.await_epoch(index, seen);
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch was raised after the cell was written, and the caller does not
            // write it again before this worker lowers `running`.
            if let Some(job) = unsafe { *self.job.get() } {
                self.enter(index, job);
            }
            self.running.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Spins, then parks, until the epoch differs from `seen`; returns it.
    fn await_epoch(&self, index: usize, seen: usize) -> usize {
        for _ in 0..SPINS_BEFORE_PARK {
            let epoch = self.epoch.0.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        self.parked[index].0.store(true, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.epoch.0.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            std::thread::park();
        };
        self.parked[index].0.store(false, Ordering::SeqCst);
        epoch
    }

    /// Runs the closure; returns the number of its last phase.
    fn enter(&self, index: usize, job: *const Job<'static>) -> u32 {
        INSIDE_REGION.set(true);
        let worker = Worker {
            index,
            common: self,
            phase: Cell::new(self.phase.load(Ordering::Relaxed)),
        };
        // SAFETY: the region runs, so the closure is alive; see the top of the file.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(&worker) }));
        INSIDE_REGION.set(false);
        if let Err(panic) = outcome {
            if !panic.is::<Poisoned>() {
                lock(&self.panic).get_or_insert(panic);
            }
            self.poisoned.store(true, Ordering::Release);
        }
        worker.phase.get()
    }
}

/// One worker inside a region.
pub struct Worker<'a> {
    index: usize,
    common: &'a Common,
    phase: Cell<u32>,
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Worker({} of {})", self.index, self.common.threads)
    }
}

impl Worker<'_> {
    /// 0 for the caller.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Workers in the region.
    pub fn threads(&self) -> usize {
        self.common.threads
    }

    /// This worker's contiguous share of `0..items`, cut at multiples of `step`.
    pub fn share(&self, items: usize, step: usize) -> Range<usize> {
        let steps = items.div_ceil(step);
        let cut = |index: usize| (steps * index / self.threads() * step).min(items);
        cut(self.index)..cut(self.index + 1)
    }

    /// A step of `least` items, or of several times as many where there would be too many steps to
    /// deal out.
    pub fn step(&self, items: usize, least: usize) -> usize {
        const STEPS_MAX: usize = 1024;
        let step = items.div_ceil(STEPS_MAX * self.threads());
        step.next_multiple_of(least).max(least)
    }

    /// Runs `work` on the pieces of `0..items`, cut at multiples of `step`, that fall to this
    /// worker; together the workers do every piece once. All call it with the same numbers, and
    /// there is a barrier between two calls.
    pub fn deal(&self, items: usize, step: usize, mut work: impl FnMut(Range<usize>)) {
        let phase = self.phase.get().wrapping_add(1);
        self.phase.set(phase);
        let steps = items.div_ceil(step);
        let threads = self.threads();
        assert!(
            steps / threads < usize::from(u16::MAX),
            "{steps} steps to deal out"
        );
        for turn in 0..threads {
            let owner = (self.index + turn) % threads;
            let share = steps * owner / threads..steps * (owner + 1) / threads;
            let queue = &self.common.queues[owner].0;
            while let Some(at) = take(queue, phase, share.len(), turn == 0) {
                let start = (share.start + at) * step;
                work(start..(start + step).min(items));
            }
        }
    }

    /// Waits until every worker of the region has arrived.
    pub fn barrier(&self) {
        let common = self.common;
        if common.threads == 1 {
            return;
        }
        let generation = common.generation.0.load(Ordering::Acquire);
        if common.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == common.threads {
            common.arrived.0.store(0, Ordering::Relaxed);
            common
                .generation
                .0
                .store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        wait_until(|| {
            if common.poisoned.load(Ordering::Acquire) {
                resume_unwind(Box::new(Poisoned));
            }
            common.generation.0.load(Ordering::Acquire) != generation
        });
    }
}

/// Takes a step of a share of `len` steps: the first that is left, or the last.
fn take(queue: &AtomicU64, phase: u32, len: usize, from_front: bool) -> Option<usize> {
    let mut seen = queue.load(Ordering::Relaxed);
    loop {
        let (front, back) = if (seen >> 32) as u32 == phase {
            ((seen >> 16) as u16, seen as u16)
        } else {
            (0, 0)
        };
        if usize::from(front) + usize::from(back) >= len {
            return None;
        }
        let (at, front, back) = if from_front {
            (usize::from(front), front + 1, back)
        } else {
            (len - 1 - usize::from(back), front, back + 1)
        };
        let next = u64::from(phase) << 32 | u64::from(front) << 16 | u64::from(back);
        // Relaxed: the barriers around a phase order the data; the word only counts.
        match queue.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(at),
            Err(now) => seen = now,
        }
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut turns = 0;
    while !done() {
        if turns < SPINS_BEFORE_YIELD {
            turns += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

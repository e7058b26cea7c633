//! How a worker waits for the next phase: it spins, offers its core to others, then sleeps.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::count::Counted;
use super::{Common, lock};

/// Turns of the spin loop before a waiter offers its core to others: 6 to 20 microseconds on
/// current processors, several times what a phase of a small model takes.
const SPINS: u32 = 400;

/// How long it goes on offering before it sleeps.
const OFFERING: Duration = Duration::from_micros(60);

impl Common {
    /// Until another phase is open than `seen`, or the team ends.
    pub(super) fn wait(&self, seen: Counted) {
        let over = || self.open_now() != seen || self.stopping.load(Ordering::Relaxed);
        for _ in 0..SPINS {
            if over() {
                return;
            }
            std::hint::spin_loop();
        }
        let from = Instant::now();
        while from.elapsed() < OFFERING {
            std::thread::yield_now();
            if over() {
                return;
            }
        }
        self.sleep(seen);
    }

    #[cold]
    fn sleep(&self, seen: Counted) {
        let mut bed = lock(&self.bed);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        while self.open.0.load(Ordering::SeqCst) == seen.word()
            && !self.stopping.load(Ordering::SeqCst)
        {
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes those that sleep.
    #[cold]
    pub(super) fn ring(&self) {
        drop(lock(&self.bed));
        self.bell.notify_all();
    }
}

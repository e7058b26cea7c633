//! Numbers of phases and of steps, as the one word that workers take steps by.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a phase. Each follows the one before; they begin again after so many that a
/// model of microseconds runs for a day.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

impl Number {
    pub(super) const BITS: u32 = 36;
    pub(super) const MASK: u64 = (1 << Self::BITS) - 1;
    /// Queues are renewed after so many phases. One that had nothing to give for half of all numbers
    /// would seem to be ahead.
    pub(super) const STALE: u64 = 1 << 30;

    pub(super) fn next(self) -> Self {
        Number((self.0 + 1) & Self::MASK)
    }

    /// How many phases after `first`.
    pub(super) fn since(self, first: Self) -> u64 {
        self.0.wrapping_sub(first.0) & Self::MASK
    }

    pub(super) fn is_after(self, other: Self) -> bool {
        (1..Self::MASK / 2).contains(&self.since(other))
    }
}

/// A number of steps of a phase, as one word: of the open phase all of them, or none where no region
/// runs; of a queue those that were taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) phase: Number,
    pub(super) steps: usize,
}

impl Counted {
    pub(super) const STEP_BITS: u32 = 64 - Number::BITS;
    pub(super) const STEPS_MAX: usize = (1 << Self::STEP_BITS) - 1;

    pub(super) fn from_word(word: u64) -> Self {
        Counted {
            phase: Number(word >> Self::STEP_BITS),
            steps: word as usize & Self::STEPS_MAX,
        }
    }

    pub(super) fn word(self) -> u64 {
        self.phase.0 << Self::STEP_BITS | self.steps as u64
    }
}

/// Takes a step of a share of `len` steps: the next one.
pub(super) fn take(queue: &AtomicU64, phase: Number, len: usize) -> Option<usize> {
    let mut seen = queue.load(Ordering::Relaxed);
    loop {
        let queued = Counted::from_word(seen);
        let taken = match queued.phase == phase {
            true => queued.steps,
            false if queued.phase.is_after(phase) => return None,
            false => 0,
        };
        if taken >= len {
            return None;
        }
        let next = Counted {
            phase,
            steps: taken + 1,
        };
        // Relaxed: `open` and `done` order the data; the word only counts.
        match queue.compare_exchange_weak(seen, next.word(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(taken),
            Err(now) => seen = now,
        }
    }
}

/// Keeps a word on a cache line of its own (two, for the adjacent-line prefetcher).
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

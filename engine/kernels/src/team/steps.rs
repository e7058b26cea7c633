//! The steps that a worker takes: those of its own share, then of the others'.

use std::ops::Range;

use super::count::{Counted, Number, take};
use super::{Common, INSIDE_REGION, Region};

/// The steps of one phase that fall to one worker.
pub(crate) struct Steps<'a> {
    pub(super) common: &'a Common,
    pub(super) worker: usize,
    pub(super) open: Counted,
    /// All of them are this worker's.
    pub(super) alone: bool,
    /// Whose share is taken from now: the worker's own, then that of the next, and so on.
    pub(super) turn: usize,
    /// Taken, and not yet handed out.
    pub(super) first: Option<usize>,
    pub(super) taken: usize,
    /// Only these are handed out, counted from the first of them.
    pub(super) range: Range<usize>,
}

/// All steps that a phase can have.
pub(super) const ALL: Range<usize> = 0..usize::MAX;

impl Steps<'_> {
    /// The worker's index; 0 for the caller.
    pub fn worker(&self) -> usize {
        self.worker
    }

    pub fn threads(&self) -> usize {
        self.common.threads
    }

    /// The step that is handed out next, of all of the phase.
    pub fn next_of_all(&mut self) -> Option<usize> {
        if self.first.is_none() {
            self.first = self.take_step();
        }
        self.first
    }

    /// Lets `work` have the steps in `range`, counted from its start, until one outside of it is
    /// taken: several things share a phase, each with a range of its steps.
    pub fn within(&mut self, range: Range<usize>, work: impl FnOnce(&mut Self)) {
        self.range = range;
        work(self);
        self.range = ALL;
    }

    pub(super) fn take_step(&mut self) -> Option<usize> {
        let (threads, steps) = (self.threads(), self.open.steps);
        if self.alone {
            let at = self.taken;
            self.taken += 1;
            return (at < steps).then_some(at);
        }
        while self.turn < threads {
            let owner = (self.worker + self.turn) % threads;
            let share = steps * owner / threads..steps * (owner + 1) / threads;
            let queue = &self.common.queues[owner].0;
            if let Some(at) = take(queue, self.open.phase, share.len()) {
                self.taken += 1;
                return Some(share.start + at);
            }
            self.turn += 1;
        }
        None
    }
}

impl Iterator for Steps<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let step = self.first.take().or_else(|| self.take_step())?;
        if self.range.contains(&step) {
            return Some(step - self.range.start);
        }
        self.first = Some(step);
        None
    }
}

impl Common {
    /// The whole region on the calling thread. No other worker takes steps, so there are no queues.
    pub(super) fn run_alone(&self, region: &dyn Region) {
        /// Taken back also when the region panics.
        struct Inside;
        impl Drop for Inside {
            fn drop(&mut self) {
                INSIDE_REGION.set(false);
            }
        }
        INSIDE_REGION.set(true);
        let _inside = Inside;
        for index in 0..region.phases() {
            let open = Counted {
                phase: Number(0),
                steps: region.open(index),
            };
            if open.steps > 0 {
                region.work(
                    index,
                    &mut Steps {
                        common: self,
                        worker: 0,
                        open,
                        alone: true,
                        turn: 0,
                        first: None,
                        taken: 0,
                        range: ALL,
                    },
                );
            }
        }
    }
}

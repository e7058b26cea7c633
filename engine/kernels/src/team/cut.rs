//! How the items of a phase are cut into steps.

use std::ops::Range;

use super::{Region, Steps};

/// `items` cut at multiples of `size`: the steps of a phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub items: usize,
    pub size: usize,
}

impl Cut {
    /// Pieces of `least` items, or of several times as many where there would be too many steps.
    pub fn at_least(least: usize, items: usize, threads: usize) -> Self {
        const STEPS_MAX: usize = 1024;
        let size = items.div_ceil(STEPS_MAX * threads);
        let size = size.next_multiple_of(least).max(least);
        Cut { items, size }
    }

    /// About `each` pieces for each thread.
    pub fn pieces(each: usize, items: usize, threads: usize) -> Self {
        let size = items.div_ceil(each * threads).max(1);
        Cut { items, size }
    }

    pub fn steps(self) -> usize {
        self.items.div_ceil(self.size)
    }

    pub fn piece(self, step: usize) -> Range<usize> {
        let start = step * self.size;
        start..(start + self.size).min(self.items)
    }
}

/// A region of one phase: a cut, and what is done with each piece.
pub(super) struct Dealt<F> {
    pub(super) cut: Cut,
    pub(super) work: F,
}

impl<F: Fn(Range<usize>, usize) + Sync> Region for Dealt<F> {
    fn phases(&self) -> usize {
        1
    }

    fn open(&self, _: usize) -> usize {
        self.cut.steps()
    }

    fn work(&self, _: usize, steps: &mut Steps<'_>) {
        let worker = steps.worker();
        for step in steps {
            (self.work)(self.cut.piece(step), worker);
        }
    }
}

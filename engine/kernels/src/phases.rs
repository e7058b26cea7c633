//! When the phases of a block began and ended, as the first worker to see it. A few readings of the
//! clock a block: cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a block is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Norm,
    /// Everything from the query, key and value projections to the output projection.
    Attention,
    /// Everything from the gate and up projections to the down projection.
    Mlp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseSpan {
    pub phase: Phase,
    pub from: Instant,
    pub to: Instant,
}

/// The order in which a block runs them.
const ORDER: [Phase; 4] = [Phase::Norm, Phase::Attention, Phase::Norm, Phase::Mlp];
/// Places in that order.
pub(super) const INPUT_NORM: usize = 0;
pub(super) const ATTENTION: usize = 1;
pub(super) const POST_NORM: usize = 2;

/// Written by workers inside a region, read by the caller after it.
#[derive(Debug)]
pub(super) struct Phases {
    region_from: Instant,
    /// Nanoseconds from the region's start to the end of each phase but the last; 0 until then.
    ends_ns: [AtomicU64; ORDER.len() - 1],
    /// The spans of the last call, piece by piece; keeps its memory between calls.
    spans: Vec<PhaseSpan>,
}

impl Phases {
    pub fn new() -> Self {
        Self {
            region_from: Instant::now(),
            ends_ns: Default::default(),
            spans: Vec::with_capacity(16 * ORDER.len()),
        }
    }

    pub fn clear(&mut self) {
        self.spans.clear();
    }

    /// A region of one piece begins.
    pub fn begin(&mut self) {
        self.ends_ns = Default::default();
        self.region_from = Instant::now();
    }

    /// The `index`-th phase of the piece has ended. What the first says counts.
    pub fn end(&self, index: usize) {
        let end = &self.ends_ns[index];
        if end.load(Ordering::Relaxed) == 0 {
            let ns = self.region_from.elapsed().as_nanos() as u64;
            let _ = end.compare_exchange(0, ns, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The region has ended, and with it the last phase.
    pub fn finish(&mut self) {
        let mut from = self.region_from;
        for (index, phase) in ORDER.into_iter().enumerate() {
            let to = match self.ends_ns.get(index) {
                Some(ns) => self.region_from + Duration::from_nanos(ns.load(Ordering::Relaxed)),
                None => Instant::now(),
            };
            self.spans.push(PhaseSpan { phase, from, to });
            from = to;
        }
    }

    pub fn spans(&self) -> &[PhaseSpan] {
        &self.spans
    }
}

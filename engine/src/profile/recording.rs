//! A timeline of a run: every stage, every layer and every load with its beginning and end. Kept
//! only where a file was asked for, and bounded: a run of a million tokens keeps its first steps
//! whole, and says how many it left out.

use std::time::Instant;

use offload::{BlockId, LoadRecord};

use super::clock::Clock;
use super::pass::PassTiming;
use super::stage::Stage;
use crate::machine::memory;

/// Spans a recording holds: some hundred megabytes at the most.
const SPANS_MAX: usize = 2_000_000;

/// A stretch of time with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub name: SpanName,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanName {
    Stage(Stage),
    /// The compute of one layer; its norm, attention and mlp are inside.
    Layer(BlockId),
    /// The machine's peaks, before the first pass: no part of the run.
    Measuring,
}

/// How reports call it.
pub const MEASURING: &str = "measuring peaks";

/// One pass on the timeline. The first is the prompt's.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    pub from: Instant,
    pub to: Instant,
    pub timing: PassTiming,
    /// In the order in which they ended.
    pub spans: Vec<Span>,
    pub loads: Vec<LoadRecord>,
    /// Memory that the process held at the end, where the system tells.
    pub memory_bytes: Option<u64>,
}

/// The timeline of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What happened before the first pass: `model_load`, `init`, and what is no
    /// part of the run: the measuring of peaks.
    pub startup: Vec<Span>,
    pub steps: Vec<StepRecord>,
    /// Passes that came after the recording was full.
    pub left_out: usize,
    spans_left: usize,
}

impl Recording {
    pub(crate) fn new(startup: Vec<Span>) -> Self {
        Self {
            startup,
            steps: Vec::new(),
            left_out: 0,
            spans_left: SPANS_MAX,
        }
    }

    /// The pass that the clock measured last, of which all is known.
    pub(crate) fn add(&mut self, clock: &Clock, loads: &[LoadRecord]) {
        let (from, to, spans) = clock.step();
        let count = spans.len() + loads.len();
        if count > self.spans_left {
            self.left_out += 1;
            // Nothing after a gap: a timeline with holes reads as idle time.
            self.spans_left = 0;
            return;
        }
        self.spans_left -= count;
        self.steps.push(StepRecord {
            from,
            to,
            timing: *clock.pass(),
            spans: spans.to_vec(),
            loads: loads.to_vec(),
            memory_bytes: memory::held_bytes(),
        });
    }

    /// The same with another's passes, of the same run, where they were.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self.steps.sort_by_key(|step| step.from);
        self.left_out += other.left_out;
        self
    }

    /// Where the timeline begins: the first thing that was recorded, a copy for the first pass
    /// included.
    pub fn origin(&self) -> Option<Instant> {
        let startup = self.startup.iter().map(|span| span.from);
        let steps = self.steps.iter().map(|step| step.from);
        let loads = self.steps.iter().flat_map(|step| &step.loads);
        let loads = loads.map(|load| load.issued_at.min(load.copy_from));
        startup.chain(steps).chain(loads).min()
    }

    /// All loads in the order of their visits.
    pub fn loads(&self) -> impl Iterator<Item = &LoadRecord> {
        self.steps.iter().flat_map(|step| &step.loads)
    }
}

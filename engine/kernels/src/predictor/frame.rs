//! A frame on its way through a predictor of codes, as one region of the team: its steps one after
//! another, and in each its blocks. Knows nothing of how a code is chosen.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a phase write buffers that no step of the same phase reads, except for
// outputs of their own, because a choice is a phase of one step, and because a phase is over before
// the next one begins. All buffers are borrowed exclusively for the region.

use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

use super::Choose;
use super::parts::{PredictorShape, PredictorWeights};
use super::scratch::ROWS;
use crate::block::{Pass, ReadyPass};
use crate::cache::SharedCache;
use crate::level::Level;
use crate::linear::{Epilogue, Linear, Then};
use crate::norm::rms_norm;
use crate::quant::Octet;
use crate::rope::RopeTable;
use crate::run::{Run, RunKind};
use crate::scratch::Buffers;
use crate::shared::{LINE, Shared, round_up};
use crate::team::{Region, Steps};
use crate::weights::{Matrix, Weights};

/// What the one step of a choice writes, beside the codes.
pub(super) struct Choice<'a> {
    pub choose: &'a mut Choose<'a>,
    pub codes: &'a mut [u32],
    pub sum: &'a mut [f32],
}

pub(super) struct Frame<'a, 'w> {
    pub shape: &'a PredictorShape,
    pub weights: &'a PredictorWeights<'w>,
    pub rope: &'a RopeTable,
    pub level: Level,
    pub threads: usize,
    pub inputs: Shared<'a, f32>,
    pub hidden: Shared<'a, f32>,
    pub logits: Shared<'a, f32>,
    pub rounded: Shared<'a, Octet>,
    pub caches: SmallVec<[SharedCache<'a>; 8]>,
    pub buffers: Buffers<'a>,
    pub choice: Mutex<Choice<'a>>,
    /// Phases of the parts of the first step, and of each later one.
    pub lengths: [Lengths; 2],
}

/// Phases of the parts of a step.
#[derive(Clone, Copy, Default)]
pub(super) struct Lengths {
    project: usize,
    block: usize,
    head: usize,
}

/// A part of a step, and which of the part's phases it is.
enum Part {
    Project(usize),
    /// Of the layer.
    Block(usize, usize),
    Head(usize),
    Choose,
}

impl Lengths {
    fn step(self, layers: usize) -> usize {
        self.project + layers * self.block + self.head + 1
    }

    fn at(self, phase: usize, layers: usize) -> Part {
        let Some(phase) = phase.checked_sub(self.project) else {
            return Part::Project(phase);
        };
        let Some(phase) = phase.checked_sub(layers * self.block) else {
            return Part::Block(phase / self.block, phase % self.block);
        };
        if phase < self.head {
            Part::Head(phase)
        } else {
            Part::Choose
        }
    }
}

/// Rows of a step.
fn rows(step: usize) -> usize {
    if step == 0 { ROWS } else { 1 }
}

/// The position of a step's first row.
fn position(step: usize) -> usize {
    if step == 0 { 0 } else { step + 1 }
}

impl Region for Frame<'_, '_> {
    fn phases(&self) -> usize {
        let [first, later] = self.lengths.map(|lengths| lengths.step(self.shape.layers));
        first + (self.shape.steps - 1) * later
    }

    fn open(&self, phase: usize) -> usize {
        let (step, part) = self.at(phase);
        match part {
            Part::Project(phase) => match self.projection(step) {
                Some(linear) => linear.steps(self.level, phase, self.threads),
                None => 0,
            },
            Part::Block(layer, phase) => self.in_block(layer, step, |pass| pass.open(phase)),
            Part::Head(phase) => {
                let linear = self.head(step, self.hidden);
                linear.steps(self.level, phase, self.threads)
            }
            Part::Choose => 1,
        }
    }

    fn bytes(&self) -> usize {
        self.weights.frame_bytes()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (step, part) = self.at(phase);
        match part {
            Part::Project(phase) => {
                if let Some(linear) = self.projection(step) {
                    // SAFETY: the steps are of this phase, and those before it are over.
                    unsafe { linear.work(self.level, phase, steps) };
                }
            }
            Part::Block(layer, phase) => {
                self.in_block(layer, step, |pass| pass.work(phase, steps));
            }
            // SAFETY: as above.
            Part::Head(phase) => unsafe {
                let x = self.normed(step, steps.worker());
                self.head(step, x).work(self.level, phase, steps);
            },
            // SAFETY: as above, and there is one step.
            Part::Choose => steps.for_each(|_| unsafe { self.choose(step) }),
        }
    }
}

impl<'a> Frame<'a, '_> {
    /// Counts the phases.
    pub fn ready(mut self) -> Self {
        self.lengths = [0, 1].map(|step| {
            let phases = |linear: Linear<'_>| linear.phases(self.level, self.threads);
            Lengths {
                project: self.projection(step).map_or(0, phases),
                block: match self.weights.layers.is_empty() {
                    true => 0,
                    false => self.in_block(0, step, |pass| pass.phases()),
                },
                head: phases(self.head(0, self.hidden)),
            }
        });
        self
    }

    /// The step that a phase belongs to, and the part of it.
    fn at(&self, phase: usize) -> (usize, Part) {
        let layers = self.shape.layers;
        let [first, later] = self.lengths;
        match phase.checked_sub(first.step(layers)) {
            None => (0, first.at(phase, layers)),
            Some(phase) => {
                let each = later.step(layers);
                (1 + phase / each, later.at(phase % each, layers))
            }
        }
    }

    /// From what comes in to the rows of the blocks, where the two are not the same.
    fn projection(&self, step: usize) -> Option<Linear<'_>> {
        let (weights, bias) = self.weights.projection.as_ref()?;
        Some(self.linear(weights, Some(*bias), self.inputs, self.hidden, rows(step)))
    }

    fn head<'s>(&'s self, step: usize, x: Shared<'s, f32>) -> Linear<'s> {
        self.linear(&self.weights.heads[step], None, x, self.logits, 1)
    }

    fn linear<'s>(
        &'s self,
        weights: &'s Matrix<'s>,
        bias: Option<Weights<'s>>,
        x: Shared<'s, f32>,
        out: Shared<'s, f32>,
        rows: usize,
    ) -> Linear<'s> {
        Linear {
            weights,
            x,
            x_stride: weights.cols(),
            rows,
            kind: RunKind::Decode,
            epilogue: Epilogue {
                then: Then::Store,
                bias,
                gain: None,
                out,
                stride: weights.rows(),
            },
            tiles: self.buffers.tiles,
            rounded: self.rounded,
        }
    }

    /// A block of a step, as a part of this region.
    fn in_block<R>(&self, layer: usize, step: usize, work: impl FnOnce(&ReadyPass<'_>) -> R) -> R {
        let block = self.shape.block;
        let run = Run {
            kind: RunKind::Decode,
            position: position(step),
            rows: rows(step),
            cache: self.caches[layer],
            heads: (block.kv_heads, block.head_dim),
        };
        let pass = Pass {
            shape: block,
            weights: &self.weights.layers[layer],
            scales: [None; 2],
            rope: self.rope,
            window: None,
            runs: &[run],
            first: 0,
            rows: rows(step),
            kind: RunKind::Decode,
            level: self.level,
            threads: self.threads,
            hidden: self.hidden,
            buffers: self.buffers,
        };
        work(&pass.ready())
    }

    /// The last row of a step, normalised into this worker's own buffer.
    ///
    /// # Safety
    /// The rows are not written meanwhile.
    unsafe fn normed(&self, step: usize, worker: usize) -> Shared<'a, f32> {
        let width = self.shape.block.hidden;
        let (start, last) = (worker * round_up(width, LINE), rows(step) - 1);
        // SAFETY: a piece that is this worker's; the rest as the caller promises.
        let (own, row) = unsafe {
            (
                self.buffers.own_normed.get_mut(start..start + width),
                self.hidden.get(last * width..(last + 1) * width),
            )
        };
        let eps = self.shape.block.norm_eps;
        rms_norm(self.level, row, self.weights.norm, eps, own);
        Shared::new(own)
    }

    /// Has a code chosen; its embedding is added to the sum, and is what the next step begins with.
    ///
    /// # Safety
    /// The logits are complete, and nothing else uses them or the rows meanwhile.
    unsafe fn choose(&self, step: usize) {
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let Choice { choose, codes, sum } = &mut *choice;
        let first = match self.weights.projection {
            Some(_) => self.inputs,
            None => self.hidden,
        };
        // SAFETY: as the caller promises.
        let (logits, row) = unsafe {
            (
                self.logits.get_mut(0..self.shape.codes),
                first.get_mut(0..self.shape.input),
            )
        };
        let code = choose(step, logits);
        codes[step] = code;
        let (code, count) = (code as usize, self.shape.codes);
        assert!(code < count, "code {code} of {count} was chosen");
        self.weights.embeddings[step].row_into(code, row);
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
    }
}

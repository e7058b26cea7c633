//! A chunk of rows on its way through one block, as a region of the team: its parts, one phase or
//! several each. Knows nothing of whose rows they are beyond their runs.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a phase write buffers that no step of the same phase reads, except for
// elements of the step's own: rows (norms, rotation), outputs (linear layers), or rows and heads
// (attention); and because a phase is over before the next one begins. All buffers are borrowed
// exclusively for the region.

use super::{BlockShape, BlockWeights, parts};
use crate::attention::{Attention, is_cut};
use crate::level::Level;
use crate::linear::{Epilogue, Linear, Then};
use crate::phases::{ATTENTION, INPUT_NORM, POST_NORM};
use crate::rope::RopeTable;
use crate::run::{Run, RunKind};
use crate::scratch::Buffers;
use crate::shared::Shared;
use crate::team::{Region, Steps};
use crate::weights::{Matrix, Weights};

/// One chunk that is to go through one block.
pub(crate) struct Pass<'a> {
    pub shape: BlockShape,
    pub weights: &'a BlockWeights<'a>,
    /// What each output of attention, and of the feed-forward part, is multiplied with before it is
    /// added.
    pub scales: [Option<Weights<'a>>; 2],
    pub rope: &'a RopeTable,
    pub window: Option<usize>,
    pub runs: &'a [Run<'a>],
    /// The first of all rows of the runs that is in this chunk.
    pub first: usize,
    pub rows: usize,
    /// The kind of all of its rows, as far as products go.
    pub kind: RunKind,
    pub level: Level,
    pub threads: usize,
    pub hidden: Shared<'a, f32>,
    pub buffers: Buffers<'a>,
}

/// A chunk on its way: a region, or a part of a larger one.
pub(crate) struct ReadyPass<'a> {
    pass: Pass<'a>,
    /// The phase after each part's last.
    ends: [usize; PARTS.len()],
}

#[derive(Clone, Copy)]
enum Part {
    /// Of several rows. A single one is so cheap that each worker normalises its own before it
    /// multiplies.
    InputNorm,
    Qkv,
    /// Where queries and keys are normalised over all heads.
    HeadNorms,
    Place,
    Attention,
    Out,
    OutNorm,
    PostNorm,
    GateUp,
    Down,
    DownNorm,
}

const PARTS: [Part; 11] = [
    Part::InputNorm,
    Part::Qkv,
    Part::HeadNorms,
    Part::Place,
    Part::Attention,
    Part::Out,
    Part::OutNorm,
    Part::PostNorm,
    Part::GateUp,
    Part::Down,
    Part::DownNorm,
];

impl Region for ReadyPass<'_> {
    fn phases(&self) -> usize {
        self.ends[PARTS.len() - 1]
    }

    fn open(&self, phase: usize) -> usize {
        let (part, phase) = self.at(phase);
        let pass = &self.pass;
        // What is over by now. A single row's norms are over later: see `own_norm`.
        match (part, phase) {
            (Part::Qkv, 0) if pass.own(part).is_none() => pass.buffers.phases.end(INPUT_NORM),
            (Part::GateUp, 0) if pass.own(part).is_none() => pass.buffers.phases.end(POST_NORM),
            (Part::OutNorm | Part::PostNorm, _) | (Part::GateUp, 0) => {
                pass.buffers.phases.end(ATTENTION)
            }
            _ => {}
        }
        match part {
            Part::InputNorm | Part::PostNorm | Part::OutNorm | Part::DownNorm => {
                pass.norm_cut().steps()
            }
            Part::HeadNorms => pass.head_norms_cut().steps(),
            Part::Place => pass.place_cut().steps(),
            Part::Attention => {
                let steps = |one: Attention<'_>| one.steps(phase, pass.threads);
                pass.attentions().map(steps).sum()
            }
            Part::Qkv | Part::Out | Part::GateUp | Part::Down => {
                let linear = pass.linear(part, pass.input(part));
                linear.steps(pass.level, phase, pass.threads)
            }
        }
    }

    fn bytes(&self) -> usize {
        let pass = &self.pass;
        let w = pass.weights;
        let weights = [&w.qkv, &w.out, &w.gate_up, &w.down].map(Matrix::bytes);
        // Keys and values of what a row sees.
        let seen = |run: Run<'_>| {
            let each = 2 * pass.shape.kv_heads * run.cache.stride * run.cache.rows.number_bytes();
            run.rows * each * run.end()
        };
        let seen: usize = pass.parts().map(|(_, run)| seen(run)).sum();
        pass.rows * weights.iter().sum::<usize>() + seen
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (part, phase) = self.at(phase);
        let pass = &self.pass;
        // SAFETY: the steps are of this phase, and the phases before it are over.
        unsafe {
            match part {
                Part::InputNorm => pass.norm(pass.weights.input_norm, steps),
                Part::PostNorm => pass.norm(pass.weights.post_norm, steps),
                Part::OutNorm => pass.norm_and_add(pass.weights.out_norm, steps),
                Part::DownNorm => pass.norm_and_add(pass.weights.down_norm, steps),
                Part::HeadNorms => pass.norm_heads(steps),
                Part::Place => pass.place(steps),
                Part::Attention => pass.attend(phase, steps),
                Part::Qkv | Part::Out | Part::GateUp | Part::Down => {
                    let x = match pass.own(part) {
                        Some((which, weight)) => pass.own_norm(which, weight, steps),
                        None => pass.input(part),
                    };
                    pass.linear(part, x).work(pass.level, phase, steps);
                }
            }
        }
    }
}

impl ReadyPass<'_> {
    /// The part that a phase belongs to, and which of the part's phases it is.
    fn at(&self, phase: usize) -> (Part, usize) {
        let mut start = 0;
        for (part, end) in PARTS.into_iter().zip(self.ends) {
            if phase < end {
                return (part, phase - start);
            }
            start = end;
        }
        unreachable!("phase {phase} of {start}")
    }
}

impl<'a> Pass<'a> {
    /// Counts the phases.
    pub fn ready(self) -> ReadyPass<'a> {
        let mut ends = [0; PARTS.len()];
        let mut end = 0;
        for (part, place) in PARTS.into_iter().zip(&mut ends) {
            end += match part {
                Part::InputNorm => usize::from(self.rows > 1 && self.weights.input_norm.is_some()),
                Part::PostNorm => usize::from(self.rows > 1 && self.weights.post_norm.is_some()),
                Part::OutNorm => usize::from(self.weights.out_norm.is_some()),
                Part::DownNorm => usize::from(self.weights.down_norm.is_some()),
                Part::HeadNorms => usize::from(self.weights.norms_all_heads(&self.shape)),
                Part::Place => 1,
                Part::Attention => Attention::PHASES,
                Part::Qkv | Part::Out | Part::GateUp | Part::Down => {
                    let linear = self.linear(part, self.input(part));
                    linear.phases(self.level, self.threads)
                }
            };
            *place = end;
        }
        ReadyPass { pass: self, ends }
    }

    /// The norm that each worker makes for itself before it multiplies: of a single row.
    fn own(&self, part: Part) -> Option<(usize, Weights<'a>)> {
        let (which, norm) = match part {
            Part::Qkv => (INPUT_NORM, self.weights.input_norm),
            Part::GateUp => (POST_NORM, self.weights.post_norm),
            _ => return None,
        };
        norm.filter(|_| self.rows == 1).map(|norm| (which, norm))
    }

    /// What a projection multiplies, where it is not a worker's own row.
    fn input(&self, part: Part) -> Shared<'a, f32> {
        match part {
            Part::Out => self.buffers.attended,
            Part::Down => self.buffers.inner,
            Part::Qkv if self.weights.input_norm.is_none() => self.hidden,
            Part::GateUp if self.weights.post_norm.is_none() => self.hidden,
            _ => self.buffers.normed,
        }
    }

    /// One of the four projections.
    fn linear(&self, part: Part, x: Shared<'a, f32>) -> Linear<'a> {
        let w = self.weights;
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = self.shape;
        let width = heads * head_dim;
        // What is normalised before it is added waits where the rows were that went in.
        let add = |norm: Option<Weights<'_>>| match (norm, self.shape.residual) {
            (Some(_), _) => (Then::Store, self.buffers.normed),
            (None, 1.0) => (Then::Add, self.hidden),
            (None, scale) => (Then::AddScaled(scale), self.hidden),
        };
        let (weights, bias, x_stride, then, out, stride) = match part {
            Part::Qkv => {
                let rows = self.shape.qkv_rows();
                (
                    &w.qkv,
                    w.qkv_bias,
                    hidden,
                    Then::Store,
                    self.buffers.qkv,
                    rows,
                )
            }
            Part::Out => {
                let (then, to) = add(w.out_norm);
                (&w.out, w.out_bias, width, then, to, hidden)
            }
            Part::GateUp => {
                let bias = w.gate_up_bias;
                (
                    &w.gate_up,
                    bias,
                    hidden,
                    Then::SwiGlu,
                    self.buffers.inner,
                    ffn,
                )
            }
            Part::Down => {
                let (then, to) = add(w.down_norm);
                (&w.down, w.down_bias, ffn, then, to, hidden)
            }
            _ => unreachable!("no projection"),
        };
        let gain = match part {
            Part::Out => self.scales[0],
            Part::Down => self.scales[1],
            _ => None,
        };
        Linear {
            weights,
            x,
            x_stride,
            rows: self.rows,
            kind: self.kind,
            epilogue: Epilogue {
                then,
                bias,
                gain,
                out,
                stride,
            },
            tiles: self.buffers.tiles,
            rounded: self.buffers.rounded,
        }
    }

    /// The runs' rows that are in this chunk, each with its first row in the chunk.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, Run<'a>)> + Clone {
        parts(self.runs, self.first..self.first + self.rows)
    }

    /// Attention of each run: of all its rows, or where contexts of single rows are cut of one row
    /// after the other.
    fn attentions(&self) -> impl Iterator<Item = Attention<'a>> {
        let mut cuts = 0;
        self.parts().flat_map(move |(first_row, run)| {
            let singly = !run.kind.is_long() && is_cut(self.window, run.end() - 1);
            let (count, rows) = match singly {
                true => (run.rows, 1),
                false => (1, run.rows),
            };
            let places = cuts;
            cuts += (0..count)
                .filter(|row| singly && is_cut(self.window, run.position + row))
                .count();
            let uncut = count - (cuts - places);
            (0..count).map(move |row| Attention {
                heads: self.shape.heads,
                kv_heads: self.shape.kv_heads,
                head_dim: self.shape.head_dim,
                window: self.window,
                position: run.position + row,
                rows,
                first_row: first_row + row,
                // What is cut comes last: contexts grow.
                cut: (singly && row >= uncut).then(|| places + row - uncut),
                cache: run.cache,
                q: self.buffers.qkv,
                q_stride: self.shape.qkv_rows(),
                scale: self.shape.score_scale(),
                out: self.buffers.attended,
                partials: self.buffers.partials,
                work: self.buffers.work,
            })
        })
    }

    /// # Safety
    /// The steps are of this phase of attention; queries, keys and values are in their places.
    unsafe fn attend(&self, phase: usize, steps: &mut Steps<'_>) {
        let who = (steps.worker(), steps.threads());
        for step in steps {
            let mut start = 0;
            for attention in self.attentions() {
                let end = start + attention.steps(phase, self.threads);
                if step < end {
                    // SAFETY: passed on from the caller.
                    unsafe { attention.step(self.level, phase, step - start, who) };
                    break;
                }
                start = end;
            }
        }
    }
}

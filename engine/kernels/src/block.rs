//! One transformer block over a chunk of rows, as a region of the team: its parts, one phase or
//! several each. Knows nothing of models, of tokens, or of where the weights live.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a phase write buffers that no step of the same phase reads, except for
// elements of the step's own: rows (norms, rotation), outputs (linear layers), or rows and heads
// (attention); and because a phase is over before the next one begins. All buffers are borrowed
// exclusively for the region.

mod parts;
mod rows;

pub use parts::{BlockShape, BlockWeights};

use std::ops::Range;

use super::attention::{Attention, CUT_ROWS_MAX, is_cut};
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::phases::{ATTENTION, INPUT_NORM, POST_NORM, Phases};
use super::quant::Octet;
use super::rope::RopeTable;
use super::run::{Run, RunKind};
use super::scratch::Scratch;
use super::shared::Shared;
use super::team::{Region, Steps, Team};
use super::weights::Weights;

/// Carries `hidden` (rows of `shape.hidden`, updated in place) through one block. The rows are those
/// of the runs, one after the other; each run's keys and values are written to its cache, and each
/// row sees everything before it in its own run's cache, or the last `window` positions including
/// its own. What a row gives does not depend on the other runs. Runs whose products are of a kind
/// share one reading of the weights where they stand together.
///
/// # Panics
/// If sizes do not agree, a cache or the table is too short, or `scratch` was made for another
/// shape or team.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn forward_block(
    team: &Team,
    shape: &BlockShape,
    weights: &BlockWeights<'_>,
    rope: &RopeTable,
    window: Option<usize>,
    runs: &[Run<'_>],
    hidden: &mut [f32],
    scratch: &mut Scratch,
) {
    weights.check(shape);
    let rows: usize = runs.iter().map(|run| run.rows).sum();
    assert!(
        hidden.len() == rows * shape.hidden,
        "{} floats are not {rows} rows",
        hidden.len()
    );
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    for run in runs {
        let (end, capacity) = (run.end(), run.cache.capacity);
        assert!(run.heads == (shape.kv_heads, shape.head_dim));
        assert!(end <= capacity, "{end} positions in a cache of {capacity}");
        assert!(
            end <= rope.positions(),
            "{end} positions in a table of {}",
            rope.positions()
        );
    }
    assert!(window != Some(0), "a window of nothing");
    scratch.phases.clear();
    let (mut first, mut hidden) = (0, hidden);
    while first < rows {
        let (kind, count) = piece(runs, first, window, scratch.max_rows);
        let (rows_of_piece, rest) = hidden.split_at_mut(count * shape.hidden);
        hidden = rest;
        scratch.phases.begin();
        let pass = Pass {
            shape: *shape,
            weights,
            rope,
            window,
            runs,
            first,
            rows: count,
            kind,
            level: team.level(),
            threads: team.threads(),
            hidden: Shared::new(rows_of_piece),
            normed: Shared::new(&mut scratch.normed),
            own_normed: Shared::new(&mut scratch.own_normed),
            qkv: Shared::new(&mut scratch.qkv),
            attended: Shared::new(&mut scratch.attended),
            inner: Shared::new(&mut scratch.inner),
            partials: Shared::new(&mut scratch.partials),
            work: Shared::new(&mut scratch.work),
            tiles: Shared::new(&mut scratch.tiles),
            rounded: Shared::new(Scratch::rounded(&mut scratch.rounded)),
            phases: &scratch.phases,
            ends: [0; PARTS.len()],
        };
        first += count;
        team.run(&pass.ready());
        scratch.phases.finish();
    }
}

/// The rows from the `first` on that go through the block together: how they are multiplied, and how
/// many they are.
fn piece(
    runs: &[Run<'_>],
    first: usize,
    window: Option<usize>,
    max_rows: usize,
) -> (RunKind, usize) {
    let mut rows = parts(runs, first..usize::MAX).flat_map(|(_, run)| {
        let (kind, position) = (run.kind, run.position);
        (0..run.rows).map(move |row| (kind, position + row))
    });
    let Some((kind, _)) = rows.clone().next() else {
        unreachable!("a piece of no rows")
    };
    let mut cuts = 0;
    let fits = |&(other, position): &(RunKind, usize)| {
        if !kind.is_long() && is_cut(window, position) {
            cuts += 1;
        }
        other.is_long() == kind.is_long() && cuts <= CUT_ROWS_MAX
    };
    (kind, rows.by_ref().take(max_rows).take_while(fits).count())
}

/// What lies in a range of all rows: parts of the runs, each with its first row in the range.
fn parts<'a>(
    runs: &[Run<'a>],
    range: Range<usize>,
) -> impl Iterator<Item = (usize, Run<'a>)> + Clone {
    let mut start = 0;
    runs.iter().filter_map(move |run| {
        let from = start.max(range.start);
        let skipped = from - start;
        start += run.rows;
        let rows = start.min(range.end).saturating_sub(from);
        (rows > 0).then(|| (from - range.start, run.part(skipped, rows)))
    })
}

/// One chunk on its way through one block.
struct Pass<'a> {
    shape: BlockShape,
    weights: &'a BlockWeights<'a>,
    rope: &'a RopeTable,
    window: Option<usize>,
    runs: &'a [Run<'a>],
    /// The first of all rows of the runs that is in this chunk.
    first: usize,
    rows: usize,
    /// The kind of all of its rows, as far as products go.
    kind: RunKind,
    level: Level,
    threads: usize,
    hidden: Shared<'a, f32>,
    normed: Shared<'a, f32>,
    own_normed: Shared<'a, f32>,
    qkv: Shared<'a, f32>,
    attended: Shared<'a, f32>,
    inner: Shared<'a, f32>,
    partials: Shared<'a, f32>,
    work: Shared<'a, f32>,
    tiles: Shared<'a, f32>,
    rounded: Shared<'a, Octet>,
    phases: &'a Phases,
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

impl Region for Pass<'_> {
    fn phases(&self) -> usize {
        self.ends[PARTS.len() - 1]
    }

    fn open(&self, phase: usize) -> usize {
        let (part, phase) = self.at(phase);
        // What is over by now. A single row's norms are over later: see `own_norm`.
        match (part, phase) {
            (Part::Qkv, 0) if self.own(part).is_none() => self.phases.end(INPUT_NORM),
            (Part::GateUp, 0) if self.own(part).is_none() => self.phases.end(POST_NORM),
            (Part::OutNorm | Part::PostNorm, _) | (Part::GateUp, 0) => self.phases.end(ATTENTION),
            _ => {}
        }
        match part {
            Part::InputNorm | Part::PostNorm | Part::OutNorm | Part::DownNorm => {
                self.norm_cut().steps()
            }
            Part::HeadNorms => self.head_norms_cut().steps(),
            Part::Place => self.place_cut().steps(),
            Part::Attention => {
                let steps = |one: Attention<'_>| one.steps(phase, self.threads);
                self.attentions().map(steps).sum()
            }
            Part::Qkv | Part::Out | Part::GateUp | Part::Down => {
                let linear = self.linear(part, self.input(part));
                linear.steps(self.level, phase, self.threads)
            }
        }
    }

    fn bytes(&self) -> usize {
        let w = self.weights;
        let weights = [w.qkv, w.out, w.gate_up, w.down].map(|matrix| matrix.bytes());
        // Keys and values of what a row sees.
        let seen = |run: Run<'_>| {
            let each = 2 * self.shape.kv_heads * run.cache.stride * run.cache.rows.number_bytes();
            run.rows * each * run.end()
        };
        let seen: usize = self.parts().map(|(_, run)| seen(run)).sum();
        self.rows * weights.iter().sum::<usize>() + seen
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (part, phase) = self.at(phase);
        // SAFETY: the steps are of this phase, and the phases before it are over.
        unsafe {
            match part {
                Part::InputNorm => self.norm(self.weights.input_norm, steps),
                Part::PostNorm => self.norm(self.weights.post_norm, steps),
                Part::OutNorm => self.norm_and_add(self.weights.out_norm, steps),
                Part::DownNorm => self.norm_and_add(self.weights.down_norm, steps),
                Part::HeadNorms => self.norm_heads(steps),
                Part::Place => self.place(steps),
                Part::Attention => self.attend(phase, steps),
                Part::Qkv | Part::Out | Part::GateUp | Part::Down => {
                    let x = match self.own(part) {
                        Some((which, weight)) => self.own_norm(which, weight, steps),
                        None => self.input(part),
                    };
                    self.linear(part, x).work(self.level, phase, steps);
                }
            }
        }
    }
}

impl<'a> Pass<'a> {
    /// Counts the phases.
    fn ready(mut self) -> Self {
        let mut end = 0;
        for (index, part) in PARTS.into_iter().enumerate() {
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
            self.ends[index] = end;
        }
        self
    }

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
            Part::Out => self.attended,
            Part::Down => self.inner,
            Part::Qkv if self.weights.input_norm.is_none() => self.hidden,
            Part::GateUp if self.weights.post_norm.is_none() => self.hidden,
            _ => self.normed,
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
            (Some(_), _) => (Then::Store, self.normed),
            (None, 1.0) => (Then::Add, self.hidden),
            (None, scale) => (Then::AddScaled(scale), self.hidden),
        };
        let (weights, bias, x_stride, then, out, stride) = match part {
            Part::Qkv => {
                let rows = self.shape.qkv_rows();
                (w.qkv, w.qkv_bias, hidden, Then::Store, self.qkv, rows)
            }
            Part::Out => {
                let (then, to) = add(w.out_norm);
                (w.out, w.out_bias, width, then, to, hidden)
            }
            Part::GateUp => {
                let bias = w.gate_up_bias;
                (w.gate_up, bias, hidden, Then::SwiGlu, self.inner, ffn)
            }
            Part::Down => {
                let (then, to) = add(w.down_norm);
                (w.down, w.down_bias, ffn, then, to, hidden)
            }
            _ => unreachable!("no projection"),
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
                gain: None,
                out,
                stride,
            },
            tiles: self.tiles,
            rounded: self.rounded,
        }
    }

    /// The runs' rows that are in this chunk, each with its first row in the chunk.
    fn parts(&self) -> impl Iterator<Item = (usize, Run<'a>)> + Clone {
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
                q: self.qkv,
                q_stride: self.shape.qkv_rows(),
                scale: self.shape.score_scale(),
                out: self.attended,
                partials: self.partials,
                work: self.work,
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

#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod tests;

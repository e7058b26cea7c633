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

use super::attention::Attention;
use super::cache::{LayerCache, SharedCache};
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::phases::{ATTENTION, INPUT_NORM, POST_NORM, Phases};
use super::quant::Octet;
use super::rope::RopeTable;
use super::scratch::Scratch;
use super::shared::Shared;
use super::team::{Region, Steps, Team};
use super::weights::Weights;

/// Carries `hidden` (rows of `shape.hidden`, updated in place) through one block. The rows stand at
/// positions `position..`; their keys and values are written to `cache`, and each row sees
/// everything before it, or the last `window` positions including its own.
///
/// # Panics
/// If sizes do not agree, the cache or the table is too short, or `scratch` was made for another
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
    cache: &mut LayerCache,
    position: usize,
    window: Option<usize>,
    hidden: &mut [f32],
    scratch: &mut Scratch,
) {
    weights.check(shape);
    assert!(
        hidden.len().is_multiple_of(shape.hidden),
        "{} floats are not whole rows",
        hidden.len()
    );
    let rows = hidden.len() / shape.hidden;
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    assert!(cache.kv_heads() == shape.kv_heads && cache.head_dim() == shape.head_dim);
    let end = position + rows;
    assert!(
        end <= cache.capacity(),
        "{end} positions in a cache of {}",
        cache.capacity()
    );
    assert!(
        end <= rope.positions(),
        "{end} positions in a table of {}",
        rope.positions()
    );
    assert!(window != Some(0), "a window of nothing");
    let mut at = position;
    scratch.phases.clear();
    for piece in hidden.chunks_mut(scratch.max_rows * shape.hidden) {
        scratch.phases.begin();
        let pass = Pass {
            shape: *shape,
            weights,
            rope,
            position: at,
            window,
            rows: piece.len() / shape.hidden,
            level: team.level(),
            threads: team.threads(),
            cache: cache.share(),
            hidden: Shared::new(piece),
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
        at += pass.rows;
        team.run(&pass.ready());
        scratch.phases.finish();
    }
}

/// One chunk on its way through one block.
struct Pass<'a> {
    shape: BlockShape,
    weights: &'a BlockWeights<'a>,
    rope: &'a RopeTable,
    position: usize,
    window: Option<usize>,
    rows: usize,
    level: Level,
    threads: usize,
    cache: SharedCache<'a>,
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
            Part::Attention => self.attention().steps(phase, self.threads),
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
        let seen = 2 * self.shape.kv_heads * self.cache.stride * (self.position + self.rows);
        self.rows * (weights.iter().sum::<usize>() + seen * self.cache.rows.number_bytes())
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
                Part::Attention => self.attention().work(self.level, phase, steps),
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
            epilogue: Epilogue {
                then,
                bias,
                out,
                stride,
            },
            tiles: self.tiles,
            rounded: self.rounded,
        }
    }

    fn attention(&self) -> Attention<'a> {
        Attention {
            heads: self.shape.heads,
            kv_heads: self.shape.kv_heads,
            head_dim: self.shape.head_dim,
            window: self.window,
            position: self.position,
            rows: self.rows,
            cache: self.cache,
            q: self.qkv,
            q_stride: self.shape.qkv_rows(),
            scale: self.shape.score_scale(),
            out: self.attended,
            partials: self.partials,
            work: self.work,
        }
    }
}

#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod tests;

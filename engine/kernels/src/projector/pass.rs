//! One chunk of positions on its way through a projector, as a region of the team: stages one after
//! another, of one phase or several each, that both halves share. Knows nothing of how many chunks
//! there are.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a stage write buffers that no step of the same stage reads, except for
// elements of the step's own: rows of one half (gathering, norms, adding), or outputs of one linear
// layer; layers of one stage write different buffers, and their tiles are different ones; and
// because a stage is over before the next one begins. The target's cache is read when channels are
// gathered, and written, and read, row by row, in the last stage. All buffers are borrowed
// exclusively for the region.

use smallvec::SmallVec;

use super::parts::{HalfWeights, MlpWeights, ProjectorShape};
pub(super) use super::rows::Kept;
use super::scratch::HalfScratch;
use crate::cache::{LayerCache, SharedCache};
use crate::level::Level;
use crate::linear::{Epilogue, Linear, Then};
use crate::run::RunKind;
use crate::shared::Shared;
use crate::team::{Cut, Region, Steps};
use crate::weights::{Matrix, Weights};

/// What is done for all rows and both halves before the next thing. Blocks are counted from the
/// first; in the second the lane to the gates parts from the one to the residual, and ends.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Gather,
    Input,
    Norm(usize),
    Up(usize),
    Down(usize),
    /// The residual, and the gates.
    Out,
    Add,
}

/// How many stages there are.
pub(super) fn stages(shape: &ProjectorShape) -> usize {
    4 + 3 * blocks(shape)
}

/// Blocks one after the other.
fn blocks(shape: &ProjectorShape) -> usize {
    1 + shape.rest().max(1)
}

impl Stage {
    fn at(index: usize, shape: &ProjectorShape) -> Self {
        let blocks = blocks(shape);
        match index {
            0 => Stage::Gather,
            1 => Stage::Input,
            _ if index < 2 + 3 * blocks => match ((index - 2) / 3, (index - 2) % 3) {
                (block, 0) => Stage::Norm(block),
                (block, 1) => Stage::Up(block),
                (block, _) => Stage::Down(block),
            },
            _ if index == 2 + 3 * blocks => Stage::Out,
            _ => Stage::Add,
        }
    }
}

/// A half whose gate is open.
#[derive(Clone, Copy)]
pub(super) struct Open<'a, 'w> {
    pub of: Kept,
    weights: &'a HalfWeights<'w>,
    pub joined: Shared<'a, f32>,
    pub residual: Shared<'a, f32>,
    pub gates: Shared<'a, f32>,
    pub lanes: [Lane<'a>; 2],
}

/// The way to the residual, or to the gates.
#[derive(Clone, Copy)]
pub(super) struct Lane<'a> {
    pub stream: Shared<'a, f32>,
    pub normed: Shared<'a, f32>,
    inner: Shared<'a, f32>,
    tiles: Shared<'a, f32>,
}

/// Places of the lanes.
pub(super) const RESIDUAL: usize = 0;
pub(super) const GATES: usize = 1;

impl<'a, 'w> Open<'a, 'w> {
    pub fn new(of: Kept, weights: &'a HalfWeights<'w>, scratch: &'a mut HalfScratch) -> Self {
        Open {
            of,
            weights,
            joined: Shared::new(&mut scratch.joined),
            residual: Shared::new(&mut scratch.residual),
            gates: Shared::new(&mut scratch.gates),
            lanes: scratch.lanes.each_mut().map(|lane| Lane {
                stream: Shared::new(&mut lane.stream),
                normed: Shared::new(&mut lane.normed),
                inner: Shared::new(&mut lane.inner),
                tiles: Shared::new(&mut lane.tiles),
            }),
        }
    }

    /// A block of a lane.
    pub fn block(&self, lane: usize, block: usize) -> Option<&'a MlpWeights<'w>> {
        match (lane, block) {
            (RESIDUAL, 0) => Some(&self.weights.first),
            (RESIDUAL, _) => self.weights.rest.get(block - 1),
            (_, 1) => Some(&self.weights.scalar),
            _ => None,
        }
    }
}

/// One chunk.
pub(super) struct Pass<'a, 'w> {
    pub shape: ProjectorShape,
    pub halves: SmallVec<[Open<'a, 'w>; 2]>,
    pub source: &'a LayerCache,
    /// Where the target's channels are; `None`: in the target.
    pub clean: Option<&'a LayerCache>,
    pub target: SharedCache<'a>,
    /// The first position, and how many.
    pub first: usize,
    pub rows: usize,
    pub kind: RunKind,
    pub level: Level,
    pub threads: usize,
    /// The phase after each stage's last.
    pub ends: &'a [usize],
}

impl Region for Pass<'_, '_> {
    fn phases(&self) -> usize {
        self.ends[self.ends.len() - 1]
    }

    fn open(&self, phase: usize) -> usize {
        let (stage, phase) = self.at(phase);
        match stage {
            Stage::Gather | Stage::Norm(_) | Stage::Add => self.rows_cut().steps(),
            Stage::Input | Stage::Up(_) | Stage::Down(_) | Stage::Out => {
                let linears = self.linears(stage);
                linears.map(|linear| self.steps_of(&linear, phase)).sum()
            }
        }
    }

    fn bytes(&self) -> usize {
        let halves = self.halves.iter();
        self.rows * halves.map(|half| half.weights.bytes()).sum::<usize>()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (stage, phase) = self.at(phase);
        let cut = self.rows_cut();
        let rows = |unit: usize| (&self.halves[unit / self.rows], unit % self.rows);
        let units = |steps: &mut Steps<'_>, work: &dyn Fn(&Open<'_, '_>, usize)| {
            for unit in steps.flat_map(|step| cut.piece(step)) {
                let (half, row) = rows(unit);
                work(half, row);
            }
        };
        // SAFETY: the steps are of this phase, the phases before it are over, and a row of a half
        // is in one step.
        unsafe {
            match stage {
                Stage::Gather => units(steps, &|half, row| self.gather(half, row)),
                Stage::Norm(block) => units(steps, &|half, row| self.norm(half, block, row)),
                Stage::Add => units(steps, &|half, row| self.add(half, row)),
                Stage::Input | Stage::Up(_) | Stage::Down(_) | Stage::Out => {
                    self.multiply(stage, phase, steps);
                }
            }
        }
    }
}

impl<'a, 'w: 'a> Pass<'a, 'w> {
    /// Counts the phases.
    pub fn count(&self, ends: &mut [usize]) {
        let mut end = 0;
        for (index, place) in ends.iter_mut().enumerate() {
            let stage = Stage::at(index, &self.shape);
            end += match stage {
                Stage::Gather | Stage::Norm(_) | Stage::Add => 1,
                Stage::Input | Stage::Up(_) | Stage::Down(_) | Stage::Out => {
                    let linears = self.linears(stage);
                    let phases = linears.map(|linear| linear.phases(self.level, self.threads));
                    phases.max().unwrap_or(0)
                }
            };
            *place = end;
        }
    }

    /// The stage that a phase belongs to, and which of the stage's phases it is.
    fn at(&self, phase: usize) -> (Stage, usize) {
        let index = self.ends.partition_point(|end| *end <= phase);
        let before = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        (Stage::at(index, &self.shape), phase - before)
    }

    /// Rows of all halves, those of one after those of the other.
    fn rows_cut(&self) -> Cut {
        Cut::pieces(4, self.halves.len() * self.rows, self.threads)
    }

    /// The linear layers of a stage.
    fn linears(&self, stage: Stage) -> impl Iterator<Item = Linear<'a>> + '_ {
        // The few gates first, so that nothing waits for them.
        let lanes = self.halves.iter().map(|half| (half, GATES));
        let lanes = lanes.chain(self.halves.iter().map(|half| (half, RESIDUAL)));
        lanes.filter_map(move |(half, lane)| self.linear(half, lane, stage))
    }

    fn linear(&self, half: &Open<'a, 'w>, lane: usize, stage: Stage) -> Option<Linear<'a>> {
        let (weights, is_residual) = (half.weights, lane == RESIDUAL);
        let Lane {
            stream,
            normed,
            inner,
            tiles,
        } = half.lanes[lane];
        type Layer<'a> = (&'a Matrix<'a>, Option<Weights<'a>>);
        let layer = |(weights, bias): Layer<'a>, x, then, out| {
            let weights: &'a Matrix<'a> = weights;
            Linear {
                weights,
                x,
                x_stride: weights.cols(),
                rows: self.rows,
                kind: self.kind,
                epilogue: Epilogue {
                    then,
                    bias,
                    gain: None,
                    out,
                    stride: weights.rows(),
                },
                tiles,
                // Nothing is quantised.
                rounded: Shared::new(&mut []),
            }
        };
        match stage {
            Stage::Input => is_residual.then(|| {
                let input = (&weights.input, Some(weights.input_bias));
                layer(input, half.joined, Then::Store, stream)
            }),
            Stage::Up(block) => {
                let block = half.block(lane, block)?;
                Some(layer((&block.up, None), normed, Then::Gelu, inner))
            }
            Stage::Down(block) => {
                let block = half.block(lane, block)?;
                Some(layer((&block.down, None), inner, Then::Add, stream))
            }
            Stage::Out if is_residual => {
                let out = (&weights.out, Some(weights.out_bias));
                Some(layer(out, stream, Then::Store, half.residual))
            }
            Stage::Out => {
                let gates = (&weights.head_gate, Some(weights.head_gate_bias));
                Some(layer(gates, stream, Then::Store, half.gates))
            }
            Stage::Gather | Stage::Norm(_) | Stage::Add => None,
        }
    }

    /// Steps of a layer in a phase of its stage.
    fn steps_of(&self, linear: &Linear<'_>, phase: usize) -> usize {
        match phase < linear.phases(self.level, self.threads) {
            true => linear.steps(self.level, phase, self.threads),
            false => 0,
        }
    }

    /// The layers of a stage, side by side.
    ///
    /// # Safety
    /// The steps are of this phase of the stage; what the layers read is complete.
    unsafe fn multiply(&self, stage: Stage, phase: usize, steps: &mut Steps<'_>) {
        while let Some(step) = steps.next_of_all() {
            let mut start = 0;
            for linear in self.linears(stage) {
                let end = start + self.steps_of(&linear, phase);
                if (start..end).contains(&step) {
                    // SAFETY: passed on from the caller; the steps are the layer's own.
                    steps.within(start..end, |steps| unsafe {
                        linear.work(self.level, phase, steps);
                    });
                    break;
                }
                start = end;
            }
        }
    }
}

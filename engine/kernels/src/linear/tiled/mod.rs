//! Linear layers of bf16 weights over several rows, on the processor's own bf16 products. Weights go
//! in as they are; each f32 activation goes in as one or two bf16 parts; sums are f32. What
//! multiplies is a [`Multiplier`]: tile registers, or vectors. Knows nothing of blocks.
//!
//! Order of the work, for each block of tokens: the workers pack its activations together; then
//! each takes its panels of weights (64 rows), a stretch of columns at a time, short enough for the
//! packed activations of the stretch to stay in the second-level cache for all panels. Weights are
//! read as they lie; only the edges of a matrix are copied, to be padded, and panels of a compact
//! one, to be plain. While one panel is computed the next is asked for from memory.
#![expect(unsafe_code, reason = "shared buffers and vector instructions")]
// Sound because packed activations are written in disjoint tiles in a phase of their own and only
// read after it; each worker has its own packed weights; sums belong to a panel, which one worker
// has in a phase; and sizes are checked against `Plan` on entry.

mod amx;
mod matrix;
mod multiplier;
mod pack;
mod panel;
mod plan;
mod vectors;

use std::marker::PhantomData;

use super::segments::Segments;
use super::{Linear, Then};
use crate::team::{Cut, Steps};
pub(crate) use amx::Tiles;
pub(crate) use amx::is_usable as amx_is_usable;
pub(super) use matrix::Bf16Matrix;
pub(crate) use multiplier::Multiplier;
use panel::{Half, Panel};
use plan::{DEPTH, GROUPS, Plan, SIDE};
pub(super) use vectors::Vectors;

/// Floats that a layer of `rows` by `cols` needs on `M` with any number of tokens up to `tokens`.
pub(super) fn buffer_floats<M: Multiplier>(
    tokens: usize,
    rows: usize,
    cols: usize,
    threads: usize,
) -> usize {
    plan::buffer_floats(M::LIMITS, tokens, rows, cols, threads)
}

/// Phases that the layer takes on `M`.
pub(super) fn phases<M: Multiplier>(linear: &Linear<'_>, threads: usize) -> usize {
    let layer = TiledLayer::<M>::new(linear, threads);
    let block = layer.plan.token_tiles * SIDE;
    linear.rows.div_ceil(block) * layer.phases_a_block()
}

/// Steps of a phase.
pub(super) fn steps<M: Multiplier>(linear: &Linear<'_>, phase: usize, threads: usize) -> usize {
    let layer = TiledLayer::<M>::new(linear, threads);
    let (block, part) = layer.at(phase);
    match part {
        Part::Pack => layer.pack_cut(block.tokens, threads).steps(),
        Part::Multiply(_) => layer.segments.pieces(layer.panel_outputs()),
    }
}

/// Steps of a phase, done.
///
/// # Safety
/// As for [`Linear::work`], at a level that has the instructions of `M`.
pub(super) unsafe fn work<M: Multiplier>(linear: &Linear<'_>, phase: usize, steps: &mut Steps<'_>) {
    let layer = TiledLayer::<M>::new(linear, steps.threads());
    let need = layer.plan.floats(steps.threads());
    assert!(
        linear.tiles.len() >= need,
        "tiles need {need} floats, {}",
        linear.tiles.len()
    );
    let (block, part) = layer.at(phase);
    // SAFETY: passed on; a phase that packs is over before those that read what it packed.
    unsafe {
        match part {
            Part::Pack => layer.pack(block, steps),
            Part::Multiply(stretch) => layer.multiply(block, stretch, steps),
        }
    }
}

/// A linear layer, and how it is cut for `M`.
struct TiledLayer<'a, M> {
    linear: &'a Linear<'a>,
    segments: Segments<'a>,
    plan: Plan,
    multiplier: PhantomData<M>,
}

/// Tokens whose activations are packed together.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    tokens: usize,
}

/// What is done for a block, a phase each: its activations are packed, and multiplied with the
/// panels, one stretch of columns after the other.
#[derive(Clone, Copy)]
enum Part {
    Pack,
    Multiply(usize),
}

impl<'a, M: Multiplier> TiledLayer<'a, M> {
    fn new(linear: &'a Linear<'a>, threads: usize) -> Self {
        let weights = linear.weights;
        TiledLayer {
            linear,
            segments: linear.segments(),
            plan: Plan::new(
                M::LIMITS,
                linear.rows,
                weights.rows(),
                weights.cols(),
                threads,
            ),
            multiplier: PhantomData,
        }
    }

    fn phases_a_block(&self) -> usize {
        1 + self.plan.steps.div_ceil(self.plan.stretch_steps)
    }

    fn at(&self, phase: usize) -> (Block, Part) {
        let phases = self.phases_a_block();
        let tokens = self.plan.token_tiles * SIDE;
        let first = phase / phases * tokens;
        let block = Block {
            first,
            tokens: tokens.min(self.linear.rows - first),
        };
        let part = match phase % phases {
            0 => Part::Pack,
            after => Part::Multiply(after - 1),
        };
        (block, part)
    }

    fn activations(&self) -> *mut u8 {
        self.linear
            .tiles
            .pointer(0..self.plan.activation_floats())
            .cast()
    }

    /// Tiles of tokens times steps of columns.
    fn pack_cut(&self, tokens: usize, threads: usize) -> Cut {
        Cut::pieces(8, tokens.div_ceil(SIDE) * self.plan.steps, threads)
    }

    /// Outputs that one panel of weights gives.
    fn panel_outputs(&self) -> usize {
        match self.linear.epilogue.then {
            Then::SwiGlu => GROUPS * SIDE / 2,
            Then::Store | Then::Add | Then::AddScaled(_) | Then::Gelu => GROUPS * SIDE,
        }
    }

    /// # Safety
    /// As for [`work`].
    unsafe fn pack(&self, block: Block, steps: &mut Steps<'_>) {
        let (linear, plan) = (self.linear, self.plan);
        let Block { first, tokens } = block;
        let cols = linear.weights.cols();
        let to = self.activations();
        let cut = self.pack_cut(tokens, steps.threads());
        for unit in steps.flat_map(|step| cut.piece(step)) {
            let (tile, step) = (unit / plan.steps, unit % plan.steps);
            let token = first + tile * SIDE;
            let rows = SIDE.min(first + tokens - token);
            let count = DEPTH.min(cols - step * DEPTH);
            let start = token * linear.x_stride + step * DEPTH;
            let end = start + (rows - 1) * linear.x_stride + count;
            // SAFETY: the range covers what is read; each unit has a tile a part of its own.
            unsafe {
                let x = linear.x.get(start..end).as_ptr();
                let to = to.add(unit * plan.step_bytes());
                let two_parts = plan.parts == 2;
                pack::pack_activations(x, linear.x_stride, rows, count, two_parts, to);
            }
        }
    }

    /// # Safety
    /// As for [`work`]; the block is packed.
    unsafe fn multiply(&self, block: Block, stretch: usize, steps: &mut Steps<'_>) {
        let (linear, plan) = (self.linear, self.plan);
        let worker = steps.worker();
        let start = plan.floats(worker);
        // SAFETY: this worker's own piece.
        let edge = unsafe { linear.tiles.get_mut(start..start + plan.edge_floats()) };
        // SAFETY: the caller promises the level.
        let multiplier = unsafe { M::ready() };
        let from = stretch * plan.stretch_steps;
        let columns = plan.stretch_steps.min(plan.steps - from);
        for step in steps {
            let (segment, share) = self.segments.piece(self.panel_outputs(), step);
            // Between stretches a panel's sums are kept, and another worker may go on with them.
            let slot = if columns == plan.steps { worker } else { step };
            let start = plan.activation_floats() + slot * plan.panel_floats();
            // SAFETY: the panel, and so its sums, fell to this worker.
            unsafe {
                let sums = linear.tiles.get_mut(start..start + plan.panel_floats());
                let panel = Panel {
                    layer: self,
                    segment,
                    halves: [segment.weights, segment.partner].map(Half::of),
                    first: share.start,
                    end: share.end,
                    step: from,
                    steps: columns,
                };
                panel.multiply(&multiplier, block.tokens.div_ceil(SIDE), edge, sums);
                if from + columns == plan.steps {
                    panel.finish(block.first, block.tokens, sums);
                }
            }
        }
    }
}

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
mod pack;
mod plan;
mod vectors;

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::marker::PhantomData;

use half::bf16;

use super::segments::{Rows, Segment, Segments};
use super::{Linear, Then};
use crate::isa::Avx512;
use crate::team::{Cut, Steps};
pub(crate) use amx::Tiles;
pub(crate) use amx::is_usable as amx_is_usable;
pub(super) use matrix::Bf16Matrix;
use plan::{DEPTH, GROUPS, Limits, Plan, SIDE, TILE_BYTES, TILE_FLOATS};
pub(super) use vectors::Vectors;

/// The instructions that multiply panels of weights with packed activations.
pub(crate) trait Multiplier {
    /// How the work is cut for them.
    const LIMITS: Limits;

    /// Makes this thread ready; dropping the value ends that.
    ///
    /// # Safety
    /// The level has the instructions.
    unsafe fn ready() -> Self;

    /// Adds to the sums of a panel its products over a stretch of columns; what is needed next is
    /// asked for on the way.
    ///
    /// # Safety
    /// The operands are as [`Operands`] says.
    unsafe fn multiply(&self, operands: &Operands, ahead: &mut Ahead);
}

/// A panel of weights over a stretch of columns, the tokens it meets, and their sums.
pub(crate) struct Operands {
    /// Weights and how many steps of them: those that are read as they lie, then those copied.
    /// Every step of every group has 16 readable rows of 64 bytes.
    weights: [(Groups, usize); 2],
    /// The stretch of the first tile of tokens: a tile a step and part.
    activations: *const u8,
    /// Bytes from one tile of tokens to the next.
    tile_bytes: usize,
    token_tiles: usize,
    /// [`GROUPS`] tiles of sums for each tile of tokens.
    sums: *mut f32,
    /// Whether the sums are those of the stretches before; otherwise they hold nothing.
    continues: bool,
}

/// Where the weights of a panel are: as they lie in the matrix, or packed.
#[derive(Clone, Copy)]
struct Groups {
    start: [*const u8; GROUPS],
    /// Bytes from one row of a tile to the next.
    row_bytes: usize,
    /// Bytes from one step to the next.
    step_bytes: usize,
}

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

/// Where a panel's groups find their rows: of a gated layer those of gates here, and those of values
/// there.
#[derive(Clone, Copy)]
struct Half<'a> {
    matrix: Bf16Matrix<'a>,
    first: usize,
}

impl<'a> Half<'a> {
    fn of(rows: Rows<'a>) -> Self {
        let Some(matrix) = Bf16Matrix::of(rows.numbers) else {
            unreachable!("only bf16 is multiplied in tiles");
        };
        Half {
            matrix,
            first: rows.first,
        }
    }
}

/// A panel of weights, for a stretch of columns.
struct Panel<'a, M> {
    layer: &'a TiledLayer<'a, M>,
    segment: &'a Segment<'a>,
    halves: [Half<'a>; 2],
    /// The first output, and where the worker's outputs end; of the segment's.
    first: usize,
    end: usize,
    step: usize,
    steps: usize,
}

impl<'a, M: Multiplier> Panel<'a, M> {
    /// Where a group's weight rows are, the first of them, and how many the group has.
    fn group(&self, group: usize) -> (Bf16Matrix<'a>, usize, usize) {
        let (half, output) = match self.layer.linear.epilogue.then {
            Then::SwiGlu => (self.halves[group / 2], self.first + group % 2 * SIDE),
            Then::Store | Then::Add | Then::AddScaled(_) | Then::Gelu => {
                (self.halves[0], self.first + group * SIDE)
            }
        };
        let rows = self.end.saturating_sub(output).min(SIDE);
        (half.matrix, half.first + output, rows)
    }

    /// Where a group's steps from the panel's first on begin, and from one row to the next.
    fn at(&self, group: usize) -> (*const u8, usize) {
        let (matrix, row, _) = self.group(group);
        matrix.at(row, self.step, self.layer.linear.weights.cols())
    }

    /// # Safety
    /// `edge` and `sums` are the worker's own.
    unsafe fn multiply(
        &self,
        multiplier: &M,
        token_tiles: usize,
        edge: &mut [f32],
        sums: &mut [f32],
    ) {
        let TiledLayer { linear, plan, .. } = self.layer;
        let cols = linear.weights.cols();
        let full_rows = (0..GROUPS).all(|group| self.group(group).2 == SIDE);
        let full_cols = (self.step + self.steps) * DEPTH <= cols;
        let all_plain =
            (self.halves.iter()).all(|half| matches!(half.matrix, Bf16Matrix::Plain(_)));
        // Steps whose weights can be read as they lie; the others are copied.
        let direct = match all_plain && full_rows {
            true => self.steps - usize::from(!full_cols),
            false => 0,
        };
        let lying = Groups {
            start: std::array::from_fn(|group| self.at(group).0),
            row_bytes: self.at(0).1,
            step_bytes: DEPTH * size_of::<bf16>(),
        };
        assert!(sums.len() >= token_tiles * GROUPS * TILE_FLOATS);
        // SAFETY: `edge` is the worker's own, and has room for a whole stretch; the weights are
        // either inside the matrix (full rows and columns) or copied; the activations are packed
        // for every step of every tile.
        unsafe {
            let copied = self.copy_edge(self.step + direct, edge);
            let operands = Operands {
                weights: [(lying, direct), (copied, self.steps - direct)],
                activations: self.layer.activations().add(self.step * plan.step_bytes()),
                tile_bytes: plan.steps * plan.step_bytes(),
                token_tiles,
                sums: sums.as_mut_ptr(),
                continues: self.step > 0,
            };
            multiplier.multiply(&operands, &mut self.ahead());
        }
    }

    /// Copies the panel's weights from `step` to the end of the stretch, padded with zeros.
    ///
    /// # Safety
    /// `edge` is the worker's own.
    unsafe fn copy_edge(&self, step: usize, edge: &mut [f32]) -> Groups {
        let cols = self.layer.linear.weights.cols();
        let end = self.step + self.steps;
        let to: *mut u8 = edge.as_mut_ptr().cast();
        if step < end {
            assert!(size_of_val(edge) >= (end - step) * GROUPS * TILE_BYTES);
            let first = step * DEPTH;
            let count = (end * DEPTH).min(cols) - first;
            for group in 0..GROUPS {
                let (matrix, row, rows) = self.group(group);
                // SAFETY: the group has its own tiles.
                let to = unsafe { to.add(group * TILE_BYTES) };
                match matrix {
                    Bf16Matrix::Plain(data) => {
                        let range = match rows {
                            0 => 0..0,
                            rows => row * cols + first..(row + rows - 1) * cols + first + count,
                        };
                        // SAFETY: the range covers what is read.
                        unsafe { pack::pack_weights(data[range].as_ptr(), cols, rows, count, to) };
                    }
                    Bf16Matrix::Compact(data) => {
                        let rows = match rows {
                            0 => 0..0,
                            rows => row..row + rows,
                        };
                        // SAFETY: the level has more than what is needed; the tiles are whole lines.
                        unsafe { pack::unpack_weights(&data, rows, step..end, to) };
                    }
                }
            }
        }
        Groups {
            start: std::array::from_fn(|group| to.wrapping_add(group * TILE_BYTES).cast_const()),
            row_bytes: DEPTH * size_of::<bf16>(),
            step_bytes: GROUPS * TILE_BYTES,
        }
    }

    /// What to ask for from memory while this panel is computed: the next one.
    fn ahead(&self) -> Ahead {
        let next = Panel {
            first: self.first + self.layer.panel_outputs(),
            ..*self
        };
        Ahead {
            halves: [next.at(0).0, next.at(GROUPS / 2).0],
            row_bytes: self.at(0).1,
            lines: self.halves[0].matrix.lines(self.steps),
            row: 0,
            line: 0,
        }
    }

    /// Turns the sums to rows and hands them on.
    ///
    /// # Safety
    /// The sums are complete, and the panel is this worker's.
    unsafe fn finish(&self, token: usize, tokens: usize, sums: &[f32]) {
        const WIDTH: usize = GROUPS * SIDE;
        let linear = self.layer.linear;
        let outputs = linear.epilogue.outputs(linear.weights.rows());
        let width = self.layer.panel_outputs();
        let first = self.segment.first + self.first;
        let count = width.min(self.end - self.first);
        for tile in 0..tokens.div_ceil(SIDE) {
            let mut rows = [[0.0f32; WIDTH]; SIDE];
            for group in 0..GROUPS {
                let from = &sums[(tile * GROUPS + group) * TILE_FLOATS..][..TILE_FLOATS];
                // SAFETY: a whole tile, into a sixteen-wide part of sixteen rows.
                unsafe {
                    let to = rows.as_mut_ptr().cast::<f32>().add(group * SIDE);
                    pack::unpack_sums(from.as_ptr(), to, WIDTH);
                }
            }
            for (i, row) in rows.iter_mut().enumerate().take(tokens - tile * SIDE) {
                let row_of_x = token + tile * SIDE + i;
                // SAFETY: the outputs are this worker's; the level has the instructions.
                unsafe { finish_row(linear, row_of_x, first, count, row, outputs) };
            }
        }
    }
}

/// # Safety
/// The outputs from `first` on belong to the calling worker.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn finish_row(
    linear: &Linear<'_>,
    row: usize,
    first: usize,
    count: usize,
    sums: &mut [f32; GROUPS * SIDE],
    outputs: usize,
) {
    let (values, partner) = match linear.epilogue.then {
        Then::SwiGlu => {
            let (gates, values) = sums.split_at_mut(GROUPS * SIDE / 2);
            (&mut gates[..count], &mut values[..count])
        }
        Then::Store | Then::Add | Then::AddScaled(_) | Then::Gelu => {
            (&mut sums[..count], &mut [][..])
        }
    };
    // SAFETY: as the caller promises; the instructions are enabled here.
    unsafe {
        linear
            .epilogue
            .finish::<Avx512>(row, first, values, partner, outputs)
    };
}

/// Lines of the next panel, asked for a few at a time.
pub(crate) struct Ahead {
    halves: [*const u8; 2],
    row_bytes: usize,
    lines: usize,
    row: usize,
    line: usize,
}

impl Ahead {
    #[inline(always)]
    fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.row == GROUPS * SIDE {
                return;
            }
            let half = GROUPS * SIDE / 2;
            let start = self.halves[self.row / half].wrapping_add(self.row % half * self.row_bytes);
            // SAFETY: asking for any address is harmless, and every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(self.line * 64).cast()) };
            self.line += 1;
            if self.line == self.lines {
                (self.line, self.row) = (0, self.row + 1);
            }
        }
    }
}

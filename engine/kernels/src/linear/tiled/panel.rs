//! A panel of weights over a stretch of columns: where its rows are, its edges copied, its sums handed on.
#![expect(unsafe_code, reason = "shared buffers and vector instructions")]
// Sound because a panel, its sums and the outputs of its rows belong to one worker in a phase, its copied
// edge to the worker; sizes are checked against `Plan` on entry of the layer.

use half::bf16;

use super::TiledLayer;
use super::matrix::Bf16Matrix;
use super::multiplier::{Ahead, Groups, Multiplier, Operands};
use super::pack;
use super::plan::{DEPTH, GROUPS, SIDE, TILE_BYTES, TILE_FLOATS};
use crate::isa::Avx512;
use crate::linear::segments::{Rows, Segment};
use crate::linear::{Linear, Then};

/// Where a panel's groups find their rows: of a gated layer those of gates here, and those of values
/// there.
#[derive(Clone, Copy)]
pub(super) struct Half<'a> {
    matrix: Bf16Matrix<'a>,
    first: usize,
}

impl<'a> Half<'a> {
    pub(super) fn of(rows: Rows<'a>) -> Self {
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
pub(super) struct Panel<'a, M> {
    pub(super) layer: &'a TiledLayer<'a, M>,
    pub(super) segment: Segment<'a>,
    pub(super) halves: [Half<'a>; 2],
    /// The first output, and where the worker's outputs end; of the segment's.
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) step: usize,
    pub(super) steps: usize,
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
    pub(super) unsafe fn multiply(
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
    pub(super) unsafe fn finish(&self, token: usize, tokens: usize, sums: &[f32]) {
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

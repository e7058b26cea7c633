//! The matrix product of a transposed convolution: weights have a row for each input, so rows of
//! weights are scaled and added up. Knows nothing of how the products overlap.
#![expect(unsafe_code, reason = "shared buffers and vector loads")]
// Sound because each step writes its own columns of its own rows of the products, and vector loads
// lie inside the weights, whose size is checked, or inside padded copies.

use std::ops::Range;

use super::layers::Layer;
use super::pass::Pass;
use crate::ahead::LINE_BYTES;
use crate::isa::{Element, Isa, Kernel, MAX_LANES, dispatch};
use crate::team::Cut;
use crate::weights::Weights;

/// Columns whose sums are made together, at most.
const COLS_MAX: usize = 2048;
/// Rows of a step, at most.
const ROWS_MAX: usize = 64;
/// Rows of weights that are added together.
const DEPTH: usize = 4;
/// How many rows ahead memory is asked for.
const AHEAD: usize = 2 * DEPTH;

impl Pass<'_, '_> {
    fn products_cuts(&self, layer: &Layer) -> [Cut; 2] {
        let cols = layer.products();
        let size = cols.div_ceil(4 * self.threads).next_multiple_of(64);
        let rows = layer.times * self.frames;
        [
            Cut {
                items: cols,
                size: size.min(COLS_MAX),
            },
            Cut {
                items: rows,
                size: ROWS_MAX,
            },
        ]
    }

    pub(super) fn products_steps(&self, at: usize) -> usize {
        if self.layers[at].has_many_rows() {
            return self.products_panels(at).steps(self.threads);
        }
        let [cols, rows] = self.products_cuts(&self.layers[at]);
        cols.steps() * rows.steps()
    }

    /// What some times become before overlapping.
    ///
    /// # Safety
    /// The step is this worker's; the stream is complete.
    pub(super) unsafe fn multiply_products(&self, at: usize, step: usize, worker: usize) {
        let layer = &self.layers[at];
        if layer.has_many_rows() {
            let panels = self.products_panels(at);
            // SAFETY: passed on from the caller.
            return unsafe { panels.work_step(self.level, step, worker, self.threads) };
        }
        let [cols, rows] = self.products_cuts(layer);
        let (cols, rows) = (
            cols.piece(step / rows.steps()),
            rows.piece(step % rows.steps()),
        );
        match self.conv(at).weight_numbers() {
            // SAFETY: passed on from the caller.
            Weights::Bf16(weights) => unsafe { self.multiply_chunk(at, weights, cols, rows) },
            // SAFETY: passed on from the caller.
            Weights::F16(weights) => unsafe { self.multiply_chunk(at, weights, cols, rows) },
            // SAFETY: passed on from the caller.
            Weights::F32(weights) => unsafe { self.multiply_chunk(at, weights, cols, rows) },
        }
    }

    unsafe fn multiply_chunk<E: Element>(
        &self,
        at: usize,
        weights: &[E],
        cols: Range<usize>,
        rows: Range<usize>,
    ) {
        let layer = &self.layers[at];
        let (inputs, width) = (layer.inputs, layer.products());
        assert!(weights.len() == inputs * width);
        for first in rows.clone().step_by(2) {
            let count = (rows.end - first).min(2);
            // SAFETY: the stream is not written meanwhile; these columns of these rows, which stand
            // after those of the time before, are this step's.
            unsafe {
                let x = self
                    .stream(at)
                    .get(first * inputs..(first + count) * inputs);
                let row = |row: usize| (row + 1) * width + cols.start..(row + 1) * width + cols.end;
                let one = self.products.get_mut(row(first));
                if count == 2 {
                    let x = [&x[..inputs], &x[inputs..]];
                    let out = [one, self.products.get_mut(row(first + 1))];
                    let cols = cols.clone();
                    let columns = Columns {
                        x,
                        weights,
                        width,
                        cols,
                        out,
                    };
                    dispatch(self.level, columns);
                } else {
                    let cols = cols.clone();
                    let (x, out) = ([x], [one]);
                    let columns = Columns {
                        x,
                        weights,
                        width,
                        cols,
                        out,
                    };
                    dispatch(self.level, columns);
                }
            }
        }
    }
}

/// Some columns of `N` rows: `out = x * weights`.
struct Columns<'a, E, const N: usize> {
    x: [&'a [f32]; N],
    weights: &'a [E],
    /// Of the weights' rows.
    width: usize,
    cols: Range<usize>,
    out: [&'a mut [f32]; N],
}

impl<E: Element, const N: usize> Kernel for Columns<'_, E, N> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let (cols, width) = (self.cols, self.width);
        let inputs = self.weights.len() / width;
        let count = cols.len();
        assert!(count <= COLS_MAX && cols.end <= width);
        assert!(self.x.iter().all(|x| x.len() == inputs));
        let whole = count / I::LANES * I::LANES;
        let mut sums = [[0.0f32; COLS_MAX + MAX_LANES]; N];
        let mut input = 0;
        while input < inputs {
            // SAFETY: the rows from `input` on are there, and of each a vector at each place.
            unsafe {
                let rows = self.weights.as_ptr().add(input * width + cols.start);
                if input + DEPTH <= inputs {
                    let x = |n: usize| std::array::from_fn(|k| self.x[n][input + k]);
                    let x: [[f32; DEPTH]; N] = std::array::from_fn(x);
                    add_rows::<I, E, DEPTH, N>(rows, width, x, (whole, count), &mut sums);
                    input += DEPTH;
                } else {
                    let x = std::array::from_fn(|n| [self.x[n][input]]);
                    add_rows::<I, E, 1, N>(rows, width, x, (whole, count), &mut sums);
                    input += 1;
                }
            }
        }
        for (out, sums) in self.out.into_iter().zip(&sums) {
            out.copy_from_slice(&sums[..count]);
        }
    }
}

/// Adds `D` rows of weights, scaled, to the sums of `N` rows.
///
/// # Safety
/// Each row has `count` readable numbers; the instructions of `I` are supported.
#[inline(always)]
unsafe fn add_rows<I: Isa, E: Element, const D: usize, const N: usize>(
    rows: *const E,
    width: usize,
    x: [[f32; D]; N],
    (whole, count): (usize, usize),
    sums: &mut [[f32; COLS_MAX + MAX_LANES]; N],
) {
    // SAFETY: as the caller promises; the sums have a vector more than columns.
    unsafe {
        let x = x.map(|x| x.map(|x| I::splat(x)));
        for at in (0..whole).step_by(I::LANES) {
            // Rows are far apart, so the processor does not find those that follow.
            if (at * size_of::<E>()).is_multiple_of(LINE_BYTES) {
                for k in 0..D {
                    I::prefetch(rows.wrapping_add((AHEAD + k) * width + at).cast());
                }
            }
            let weights: [I::V; D] =
                std::array::from_fn(|k| E::load::<I>(rows.add(k * width + at)));
            for n in 0..N {
                let place = sums[n].as_mut_ptr().add(at);
                let mut sum = I::load(place);
                for k in 0..D {
                    sum = I::fma(x[n][k], weights[k], sum);
                }
                I::store(place, sum);
            }
        }
        if whole < count {
            for k in 0..D {
                let by = x.map(|of_row| of_row[k]);
                let mut padded = [E::ZERO; MAX_LANES];
                let from = rows.add(k * width + whole);
                std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count - whole);
                let weights = E::load::<I>(padded.as_ptr());
                for (by, sums) in by.into_iter().zip(sums.iter_mut()) {
                    let place = sums.as_mut_ptr().add(whole);
                    I::store(place, I::fma(by, weights, I::load(place)));
                }
            }
        }
    }
}

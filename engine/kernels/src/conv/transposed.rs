//! The matrix product of a transposed convolution: weights have a row for each input, so rows of
//! weights are scaled and added up. Knows nothing of how the products overlap.
#![expect(unsafe_code, reason = "shared buffers and vector loads")]
// Sound because each step writes its own columns of its own rows of the products, and vector loads
// lie inside the weights, whose size is checked, or inside padded copies.

use std::ops::Range;

use super::numbers;
use crate::ahead::LINE_BYTES;
use crate::isa::{Element, Isa, Kernel, MAX_LANES, dispatch};
use crate::level::Level;
use crate::linear::{Epilogue, Linear, PanelLinear, Taps, Then};
use crate::run::RunKind;
use crate::shared::Shared;
use crate::team::Cut;
use crate::weights::{Matrix, Weights};

/// Columns whose sums are made together, at most.
const COLS_MAX: usize = 2048;
/// Rows that meet the weights together, at most: with half as many columns, so that their sums stay
/// in a first-level cache.
const TOGETHER: usize = 4;
/// Rows of a step, at most.
const ROWS_MAX: usize = 64;
/// Rows of weights that are added together.
const DEPTH: usize = 4;
/// How many rows ahead memory is asked for.
const AHEAD: usize = 2 * DEPTH;

/// The products of some times, each of which becomes several.
#[derive(Clone, Copy)]
pub(crate) struct Transposed<'a> {
    /// A row for each input: of each output its taps.
    pub weights: &'a Matrix<'a>,
    /// Rows of inputs that follow one another.
    pub x: Shared<'a, f32>,
    pub rows: usize,
    /// Rows of products that follow one another.
    pub out: Shared<'a, f32>,
    /// So many floats of each worker's, where the rows are multiplied in panels.
    pub panels: Option<(Shared<'a, f32>, usize)>,
    pub threads: usize,
}

impl<'a> Transposed<'a> {
    fn cuts(&self) -> [Cut; 2] {
        let cols = self.weights.cols();
        let size = cols.div_ceil(4 * self.threads).next_multiple_of(64);
        let most = match self.rows {
            TOGETHER.. => COLS_MAX / 2,
            _ => COLS_MAX,
        };
        [
            Cut {
                items: cols,
                size: size.min(most),
            },
            Cut {
                items: self.rows,
                size: ROWS_MAX,
            },
        ]
    }

    /// The same as a linear layer over many rows, where it is one.
    fn in_panels(&self) -> Option<PanelLinear<'a>> {
        Some(PanelLinear {
            linear: Linear {
                weights: self.weights,
                x: self.x,
                x_stride: self.weights.rows(),
                rows: self.rows,
                kind: RunKind::Decode,
                epilogue: Epilogue {
                    then: Then::Store,
                    bias: None,
                    gain: None,
                    out: self.out,
                    stride: self.weights.cols(),
                },
                tiles: Shared::new(&mut []),
                rounded: Shared::new(&mut []),
            },
            by_input: true,
            taps: Taps::NONE,
            own: self.panels?,
        })
    }

    pub fn steps(&self) -> usize {
        if let Some(panels) = self.in_panels() {
            return panels.steps(self.threads);
        }
        let [cols, rows] = self.cuts();
        cols.steps() * rows.steps()
    }

    /// One step: some products of some times.
    ///
    /// # Safety
    /// The step is this worker's; the rows of inputs are complete.
    pub unsafe fn work_step(&self, level: Level, step: usize, worker: usize) {
        if let Some(panels) = self.in_panels() {
            // SAFETY: passed on from the caller.
            return unsafe { panels.work_step(level, step, worker, self.threads) };
        }
        let [cols, rows] = self.cuts();
        let (cols, rows) = (
            cols.piece(step / rows.steps()),
            rows.piece(step % rows.steps()),
        );
        match numbers(self.weights) {
            // SAFETY: passed on from the caller.
            Weights::Bf16(weights) => unsafe { self.chunk(level, weights, cols, rows) },
            // SAFETY: passed on from the caller.
            Weights::F16(weights) => unsafe { self.chunk(level, weights, cols, rows) },
            // SAFETY: passed on from the caller.
            Weights::F32(weights) => unsafe { self.chunk(level, weights, cols, rows) },
        }
    }

    unsafe fn chunk<E: Element>(
        &self,
        level: Level,
        weights: &[E],
        cols: Range<usize>,
        rows: Range<usize>,
    ) {
        let (inputs, width) = (self.weights.rows(), self.weights.cols());
        assert!(weights.len() == inputs * width);
        let mut row = rows.start;
        while row < rows.end {
            // SAFETY: passed on from the caller.
            row += unsafe {
                match rows.end - row {
                    TOGETHER.. => self.some_rows::<E, TOGETHER>(level, weights, cols.clone(), row),
                    2.. => self.some_rows::<E, 2>(level, weights, cols.clone(), row),
                    _ => self.some_rows::<E, 1>(level, weights, cols.clone(), row),
                }
            };
        }
    }

    unsafe fn some_rows<E: Element, const N: usize>(
        &self,
        level: Level,
        weights: &[E],
        cols: Range<usize>,
        first: usize,
    ) -> usize {
        let (inputs, width) = (self.weights.rows(), self.weights.cols());
        // SAFETY: the inputs are not written meanwhile; these columns of these rows are this
        // step's.
        unsafe {
            let x = self.x.get(first * inputs..(first + N) * inputs);
            let columns = Columns::<E, N> {
                x: std::array::from_fn(|n| &x[n * inputs..(n + 1) * inputs]),
                weights,
                width,
                out: std::array::from_fn(|n| {
                    let row = (first + n) * width;
                    self.out.get_mut(row + cols.start..row + cols.end)
                }),
                cols,
            };
            dispatch(level, columns);
        }
        N
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

//! Linear layers as dot products of weight rows and activation rows, on any instruction set: the
//! form for one row (decode, bound by memory) and for every format and level without tiles.
//! Weights are widened in registers, so their values are used exactly.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because every row and column index is below the sizes that `Linear::run` has checked, and
// the last columns, where a whole vector would read past the row, go through padded copies.

use super::{Linear, Then};
use crate::ahead::{Ahead, LINE_BYTES};
use crate::isa::{Element, Isa, Kernel, MAX_LANES};

/// Weight rows whose outputs are finished together, and dealt out together: at most, and when there
/// are few.
pub(super) const BLOCK_ROWS_MAX: usize = 128;
pub(super) const BLOCK_ROWS_MIN: usize = 16;
/// Activation rows that one pass over the weights serves.
pub(super) const BLOCK_TOKENS: usize = 4;
/// The dot products of `R` weight rows with `N` activation rows. The sums depend on the vector's
/// width, not on `R` or `N`: several rows at once give what each gives alone. With `AHEAD` the rows
/// are taken to follow one another in memory, and what follows them is asked for.
///
/// # Safety
/// All rows have `cols` readable numbers; the instructions of `I` are supported.
#[inline(always)]
pub(crate) unsafe fn dot_tile<
    I: Isa,
    E: Element,
    const R: usize,
    const N: usize,
    const AHEAD: bool,
>(
    weights: [*const E; R],
    x: [*const f32; N],
    cols: usize,
) -> [[f32; N]; R] {
    let mut sums = [[I::splat(0.0); N]; R];
    let mut ahead = Ahead::of::<I>(weights[0].wrapping_add(R * cols).cast());
    let near_cols = Ahead::near_bytes::<I>() / size_of::<E>();
    let pair_cols = 2 * I::LANES;
    // Of each row in turn: whole lines, and whole pairs of vectors.
    let turn_cols = pair_cols.max(LINE_BYTES / size_of::<E>());
    let turn_bytes = turn_cols * size_of::<E>();
    let mut col = 0;
    // Near the end of the rows, what is near is the start of the next rows.
    for (end, near_cols) in [
        (cols.saturating_sub(near_cols), near_cols),
        (cols, near_cols + (R - 1) * cols),
    ] {
        while col + turn_cols <= end {
            for at in (col..col + turn_cols).step_by(pair_cols) {
                let xs: [[I::V; 2]; N] = std::array::from_fn(|n| {
                    let x = x[n].add(at);
                    E::order::<I>([I::load(x), I::load(x.add(I::LANES))])
                });
                for r in 0..R {
                    // Asking row by row between the loads is 5 % faster than for all rows before them.
                    if AHEAD && at == col {
                        let near = weights[r].wrapping_add(col + near_cols).cast::<u8>();
                        for line in (0..turn_bytes).step_by(LINE_BYTES) {
                            ahead.line::<I>(near.wrapping_add(line));
                        }
                    }
                    let w = E::load_pair::<I>(weights[r].add(at));
                    for n in 0..N {
                        sums[r][n] = I::fma(w[0], xs[n][0], sums[r][n]);
                        sums[r][n] = I::fma(w[1], xs[n][1], sums[r][n]);
                    }
                }
            }
            col += turn_cols;
        }
    }
    while col + I::LANES <= cols {
        let xs: [I::V; N] = std::array::from_fn(|n| I::load(x[n].add(col)));
        for r in 0..R {
            let w = E::load::<I>(weights[r].add(col));
            for n in 0..N {
                sums[r][n] = I::fma(w, xs[n], sums[r][n]);
            }
        }
        col += I::LANES;
    }
    if col < cols {
        let count = cols - col;
        let mut padded_x = [[0.0f32; MAX_LANES]; N];
        for n in 0..N {
            std::ptr::copy_nonoverlapping(x[n].add(col), padded_x[n].as_mut_ptr(), count);
        }
        for r in 0..R {
            let mut padded = [E::ZERO; MAX_LANES];
            std::ptr::copy_nonoverlapping(weights[r].add(col), padded.as_mut_ptr(), count);
            let w = E::load::<I>(padded.as_ptr());
            for n in 0..N {
                sums[r][n] = I::fma(w, I::load(padded_x[n].as_ptr()), sums[r][n]);
            }
        }
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] = I::sum(sums[r][n]);
        }
    }
    out
}

/// The rows of a matrix, in whatever form.
pub(super) trait Rows {
    /// Whether they are read as they lie. Others are unpacked, which is better not done twice.
    const LIE_PLAIN: bool;

    /// The dot products of `R` rows from `first` on with `N` activation rows, as [`dot_tile`] makes
    /// them; what follows the rows is asked for.
    ///
    /// # Safety
    /// All activation rows have `cols` readable numbers; the instructions of `I` are supported.
    unsafe fn tile<I: Isa, const R: usize, const N: usize>(
        &self,
        first: usize,
        x: [*const f32; N],
        cols: usize,
    ) -> [[f32; N]; R];
}

impl<E: Element> Rows for [E] {
    const LIE_PLAIN: bool = true;

    #[inline(always)]
    unsafe fn tile<I: Isa, const R: usize, const N: usize>(
        &self,
        first: usize,
        x: [*const f32; N],
        cols: usize,
    ) -> [[f32; N]; R] {
        let rows = &self[first * cols..(first + R) * cols];
        let rows = std::array::from_fn(|r| rows.as_ptr().add(r * cols));
        dot_tile::<I, E, R, N, true>(rows, x, cols)
    }
}

/// Up to [`BLOCK_ROWS_MAX`] outputs of a linear layer.
///
/// # Safety
/// To build and dispatch it: as for [`Linear::work`], with rows that are there and no more outputs than
/// a block has.
pub(super) struct Dot<'a, W: ?Sized> {
    pub linear: &'a Linear<'a>,
    /// The rows for these outputs, from one on; and of a gated layer the values'.
    pub weights: (&'a W, usize),
    pub partner: (&'a W, usize),
    /// The first output, counted in the layer's.
    pub first: usize,
    pub count: usize,
}

impl<W: Rows + ?Sized> Kernel for Dot<'_, W> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let linear = self.linear;
        let outputs = linear.epilogue.outputs(linear.weights.rows());
        let (first, count) = (self.first, self.count);
        let mut token = 0;
        while token < linear.rows {
            let tokens = (linear.rows - token).min(BLOCK_TOKENS);
            let mut sums = [[[0.0; BLOCK_ROWS_MAX]; BLOCK_TOKENS]; 2];
            let gated = linear.epilogue.then == Then::SwiGlu;
            // One after the other in a loop: the code of a block is large, and is there once.
            for (weights, sums) in [self.weights, self.partner]
                .into_iter()
                .take(1 + usize::from(gated))
                .zip(&mut sums)
            {
                self.block::<I>(weights, token, tokens, sums);
            }
            let [values, partner] = &mut sums;
            for t in 0..tokens {
                let (values, partner) = (&mut values[t][..count], &mut partner[t][..count]);
                linear
                    .epilogue
                    .finish::<I>(token + t, first, values, partner, outputs);
            }
            token += tokens;
        }
    }
}

impl<W: Rows + ?Sized> Dot<'_, W> {
    #[inline(always)]
    unsafe fn block<I: Isa>(
        &self,
        weights: (&W, usize),
        token: usize,
        tokens: usize,
        out: &mut [[f32; BLOCK_ROWS_MAX]; BLOCK_TOKENS],
    ) {
        match tokens {
            1 => self.rows::<I, 1>(weights, token, out),
            2 => self.rows::<I, 2>(weights, token, out),
            3 => self.rows::<I, 3>(weights, token, out),
            _ => self.rows::<I, 4>(weights, token, out),
        }
    }

    #[inline(always)]
    unsafe fn rows<I: Isa, const N: usize>(
        &self,
        (weights, first): (&W, usize),
        token: usize,
        out: &mut [[f32; BLOCK_ROWS_MAX]; BLOCK_TOKENS],
    ) {
        let count = self.count;
        let cols = self.linear.weights.cols();
        let stride = self.linear.x_stride;
        // SAFETY of the reads: `Linear::run` checked that all rows of `x` lie inside it.
        let x = self
            .linear
            .x
            .get(token * stride..(token + N - 1) * stride + cols);
        let x: [*const f32; N] = std::array::from_fn(|n| x.as_ptr().add(n * stride));
        let mut done = 0;
        while done + 4 <= count {
            if W::LIE_PLAIN && N == 4 && I::SUMS < 4 * N {
                // More sums than registers would go through memory at each step: with AVX2 prompts
                // took 1.6 times as long. The second two find the weights in the first-level cache.
                for n in [0, 2] {
                    let two = [x[n], x[n + 1]];
                    let sums = weights.tile::<I, 4, 2>(first + done, two, cols);
                    for (r, [one, other]) in sums.into_iter().enumerate() {
                        (out[n][done + r], out[n + 1][done + r]) = (one, other);
                    }
                }
            } else {
                let sums = weights.tile::<I, 4, N>(first + done, x, cols);
                for (r, sums) in sums.iter().enumerate() {
                    for (n, sum) in sums.iter().enumerate() {
                        out[n][done + r] = *sum;
                    }
                }
            }
            done += 4;
        }
        while done < count {
            let [sums] = weights.tile::<I, 1, N>(first + done, x, cols);
            for (n, sum) in sums.iter().enumerate() {
                out[n][done] = *sum;
            }
            done += 1;
        }
    }
}

//! Layers with quantised weights, whose rows meet rows of activations rounded to 8 bits. Each row is
//! rounded once: a single one by each worker for itself, several by all workers together, in a phase
//! before the products. A layer may have plain rows as well, which meet the activations as they are.
//! What a row gives depends neither on the other rows nor on the number of threads.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because each worker's own row, and each step's rows, are written by that worker alone, and
// read by others only in a later phase.

use std::ops::Range;

use super::dot::{BLOCK_ROWS_MAX, BLOCK_TOKENS, Dot};
use super::segments::{Rows, Segment};
use super::{Epilogue, Linear, Then};
use crate::isa::{Isa, Kernel, dispatch};
use crate::level::Level;
use crate::quant::{MAX_IN_PANEL, Octet, dot_rows, octets, round_row};
use crate::shared::Shared;
use crate::team::{Cut, Steps};
use crate::weights::{Numbers, Weights};

/// Outputs that are dealt out together at least: memory is read a seventh faster than with half as
/// many. Fewer where some worker would have none otherwise; still as many as the products take
/// together where there are several rows of activations.
pub(super) fn piece_rows_min(outputs: usize, threads: usize) -> usize {
    const MANY: usize = 64;
    const FEW: usize = 32;
    match outputs >= 2 * threads * MANY {
        true => MANY,
        false => FEW,
    }
}

impl Linear<'_> {
    /// Whether a phase of its own rounds the activations.
    pub(super) fn rounds_together(&self) -> bool {
        self.rows > 1 && self.weights.is_quantised()
    }

    /// Rows of activations.
    pub(super) fn rounding_cut(&self, threads: usize) -> Cut {
        Cut::pieces(8, self.rows, threads)
    }

    /// # Safety
    /// The steps are of `rounding_cut`; `x` is not written meanwhile; the level is supported.
    pub(super) unsafe fn round_together(&self, level: Level, steps: &mut Steps<'_>) {
        let cut = self.rounding_cut(steps.threads());
        for row in steps.flat_map(|step| cut.piece(step)) {
            // SAFETY: the row is in one step.
            unsafe { self.round(level, row, row) };
        }
    }

    /// What the products of this worker read: no octets where no weights are quantised.
    ///
    /// # Safety
    /// `x` is not written meanwhile; where rows are rounded together, that is over.
    pub(super) unsafe fn rounded_rows(&self, level: Level, worker: usize) -> &[Octet] {
        if !self.weights.is_quantised() {
            return &[];
        }
        let octets = octets(self.weights.cols());
        let first = match self.rows {
            1 => worker,
            _ => 0,
        };
        // SAFETY: the row is this worker's, or all rows are complete and only read.
        unsafe {
            if self.rows == 1 {
                self.round(level, 0, worker);
            }
            self.rounded
                .get(first * octets..(first + self.rows) * octets)
        }
    }

    /// Rounds a row of `x`, to one of the rounded rows.
    ///
    /// # Safety
    /// `x` is not written meanwhile, and the rounded row is the caller's own.
    unsafe fn round(&self, level: Level, row: usize, to: usize) {
        let (cols, octets) = (self.weights.cols(), octets(self.weights.cols()));
        let start = row * self.x_stride;
        // SAFETY: as the caller promises.
        let (x, to) = unsafe {
            (
                self.x.get(start..start + cols),
                self.rounded.get_mut(to * octets..(to + 1) * octets),
            )
        };
        round_row(level, x, to);
    }

    /// Outputs of a segment with quantised rows, or with gates in one format and values in another,
    /// for all rows of activations.
    ///
    /// # Safety
    /// As for [`Dot`]; `rounded` has the rows of `x`.
    // Its memory on the stack is asked for, page by page, where it is inlined: by layers without
    // quantised rows, too.
    #[inline(never)]
    pub(super) unsafe fn dot_rounded(
        &self,
        level: Level,
        rounded: &[Octet],
        segment: &Segment<'_>,
        share: Range<usize>,
    ) {
        // The memory for a few rows costs less to clear.
        // SAFETY: passed on from the caller.
        unsafe {
            if self.rows <= BLOCK_TOKENS {
                self.in_chunks::<BLOCK_TOKENS>(level, rounded, segment, share);
            } else {
                self.in_chunks::<MAX_IN_PANEL>(level, rounded, segment, share);
            }
        }
    }

    /// The same, `T` rows of activations at a time.
    ///
    /// # Safety
    /// As for [`Linear::dot_rounded`].
    unsafe fn in_chunks<const T: usize>(
        &self,
        level: Level,
        rounded: &[Octet],
        segment: &Segment<'_>,
        share: Range<usize>,
    ) {
        let is_gated = self.epilogue.then == Then::SwiGlu;
        let mut values = [[0.0; BLOCK_ROWS_MAX]; T];
        let mut partner = [[0.0; BLOCK_ROWS_MAX]; T];
        let mut first = 0;
        while first < self.rows {
            let tokens = (self.rows - first).min(T);
            let half = Half {
                linear: self,
                level,
                rounded,
                share: share.clone(),
                tokens: first..first + tokens,
            };
            // SAFETY: the outputs are of this share, as the caller promises.
            unsafe {
                half.multiply(segment.weights, &mut values);
                if is_gated {
                    half.multiply(segment.partner, &mut partner);
                }
                let finish = Finish {
                    linear: self,
                    first_output: segment.first + share.start,
                    outputs: share.len(),
                    first_token: first,
                    values: &mut values[..tokens],
                    partner: &mut partner[..tokens],
                };
                dispatch(level, finish);
            }
            first += tokens;
        }
    }
}

/// The products of some rows of weights with some rows of activations.
struct Half<'a> {
    linear: &'a Linear<'a>,
    level: Level,
    rounded: &'a [Octet],
    /// A share of the segment's outputs.
    share: Range<usize>,
    tokens: Range<usize>,
}

impl Half<'_> {
    /// # Safety
    /// As for [`Dot`].
    unsafe fn multiply<const T: usize>(
        &self,
        rows: Rows<'_>,
        out: &mut [[f32; BLOCK_ROWS_MAX]; T],
    ) {
        use Numbers::{Compact, Plain, Quantised};
        let (tokens, count) = (self.tokens.len(), self.share.len());
        // SAFETY: passed on from the caller.
        unsafe {
            match &rows.numbers {
                Quantised(weights) => {
                    let octets = octets(weights.cols());
                    let mut x: [&[Octet]; T] = [&[]; T];
                    let rounded = self.rounded.chunks_exact(octets);
                    for (x, rounded) in x.iter_mut().zip(rounded.skip(self.tokens.start)) {
                        *x = rounded;
                    }
                    let mut out = out.each_mut().map(|row| &mut row[..count]);
                    let first = rows.first + self.share.start;
                    dot_rows(
                        self.level,
                        weights,
                        first..first + count,
                        &x[..tokens],
                        &mut out[..tokens],
                    );
                }
                Plain(Weights::Bf16(data)) => self.plainly(*data, rows.first, out),
                Plain(Weights::F16(data)) => self.plainly(*data, rows.first, out),
                Plain(Weights::F32(data)) => self.plainly(*data, rows.first, out),
                Compact(data) => self.plainly(data, rows.first, out),
            }
        }
    }

    /// The products of plain rows with the activations as they are: a layer of its own stores them.
    ///
    /// # Safety
    /// As for [`Dot`].
    unsafe fn plainly<W: super::dot::Rows + ?Sized>(
        &self,
        weights: &W,
        first: usize,
        out: &mut [[f32; BLOCK_ROWS_MAX]],
    ) {
        let x = self.linear.x;
        let linear = Linear {
            x: x.part(self.tokens.start * self.linear.x_stride..x.len()),
            rows: self.tokens.len(),
            epilogue: Epilogue {
                then: Then::Store,
                bias: None,
                gain: None,
                out: Shared::new(out.as_flattened_mut()),
                stride: BLOCK_ROWS_MAX,
            },
            ..*self.linear
        };
        let weights = (weights, first + self.share.start);
        let kernel = Dot {
            linear: &linear,
            weights,
            partner: weights,
            first: 0,
            count: self.share.len(),
        };
        // SAFETY: passed on from the caller; the output is this call's own.
        unsafe { dispatch(self.level, kernel) };
    }
}

/// What follows the products, for each row of activations.
struct Finish<'a> {
    linear: &'a Linear<'a>,
    first_output: usize,
    outputs: usize,
    first_token: usize,
    values: &'a mut [[f32; BLOCK_ROWS_MAX]],
    partner: &'a mut [[f32; BLOCK_ROWS_MAX]],
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let Linear {
            epilogue, weights, ..
        } = self.linear;
        let all = epilogue.outputs(weights.rows());
        let rows = self.values.iter_mut().zip(self.partner);
        for (t, (values, partner)) in rows.enumerate() {
            let (values, partner) = (&mut values[..self.outputs], &mut partner[..self.outputs]);
            // SAFETY: the outputs are this worker's, as the code that built this promises.
            unsafe {
                epilogue.finish::<I>(
                    self.first_token + t,
                    self.first_output,
                    values,
                    partner,
                    all,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Dot products of quantised weight rows with rounded activation rows: what is computed, to the bit,
//! in plain Rust, and the choice of the level. Knows no instruction set.
//!
//! A row is taken as octets of eight groups of 32 numbers, the last one filled up with groups of
//! zeros. For a group, with `q` the weights' integers and `x` the activations':
//!
//! ```text
//! t = sum over the two halves h of  factor[h] * (sum of q * x over the half)      exact, i32
//! m = sum over the two halves h of  minus[h] * (sum of x over the half)           exact, i32
//! v = round(d * t)                                      where nothing is taken off
//! v = fma(d, t, -round(least * m))                      else
//! lane[g % 8] = fma(scale_x, v, lane[g % 8])            from zero, groups in order
//! ```
//!
//! `t` and `m` are below 2^24 in every encoding, so that they are exact as f32 too. In the end
//! `((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))`. Nothing depends on the level, on how many
//! rows are done together, or on where the bytes lie.
#![expect(
    unsafe_code,
    reason = "enters functions compiled for more instructions"
)]
// Sound because sizes are checked before, and because the instructions are found on this machine.

use std::ops::Range;

use encoding::Encoding;

use super::formats::{Unpacked, has_least, octet_bytes, unpack};
use super::rounded::{GROUP, Octet, octets};
use super::{Instructions, Quantised};
use crate::level::Level;

/// Activation rows that one unpacking of the weights serves.
pub(super) const MAX_TOGETHER: usize = 8;
/// The same where weight rows are unpacked to a panel.
pub(crate) const MAX_IN_PANEL: usize = 128;

/// Some rows of a matrix, checked.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub encoding: Encoding,
    /// The bytes of these rows alone.
    pub bytes: &'a [u8],
    /// Not zero.
    pub row_bytes: usize,
}

impl Rows<'_> {
    pub fn count(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }
}

/// The products of the weight rows `rows` with all activation rows: `out[n][i]` is that of
/// weight row `rows.start + i` with `x[n]`.
///
/// # Panics
/// If sizes do not agree, or the level is not supported.
pub(crate) fn dot_rows(
    level: Level,
    weights: &Quantised<'_>,
    rows: Range<usize>,
    x: &[&[Octet]],
    out: &mut [&mut [f32]],
) {
    let instructions = Instructions::of(level);
    assert!(x.len() == out.len(), "an output row for each row");
    let octets = octets(weights.cols);
    assert!(
        x.iter().all(|x| x.len() == octets),
        "activation rows as long"
    );
    assert!(
        out.iter().all(|out| out.len() == rows.len()),
        "whole output rows"
    );
    if weights.cols == 0 {
        out.iter_mut().for_each(|out| out.fill(0.0));
        return;
    }
    let row_bytes = weights.row_bytes();
    let rows = Rows {
        encoding: weights.encoding,
        bytes: &weights.bytes[rows.start * row_bytes..rows.end * row_bytes],
        row_bytes,
    };
    let together = match instructions {
        Instructions::Avx512Vnni | Instructions::Avx2 => MAX_IN_PANEL,
        Instructions::Portable => MAX_TOGETHER,
    };
    for (x, out) in x.chunks(together).zip(out.chunks_mut(together)) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level is supported; whole rows, and as many octets of each activation row.
            Instructions::Avx512Vnni => unsafe { super::avx512::dot(rows, x, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { super::avx2::dot(rows, x, out) },
            _ => dot(rows, x, out),
        }
    }
}

/// The matrices here have blocks: `Quantised` is made of no others.
pub(super) fn not_quantised(encoding: Encoding) -> ! {
    unreachable!("{encoding} has no blocks")
}

fn dot(rows: Rows<'_>, x: &[&[Octet]], out: &mut [&mut [f32]]) {
    let mut w = Unpacked::ZERO;
    for (r, row) in rows.bytes.chunks_exact(rows.row_bytes).enumerate() {
        let mut lanes = [[0.0; 8]; MAX_TOGETHER];
        for (i, bytes) in row.chunks(octet_bytes(rows.encoding)).enumerate() {
            unpack(rows.encoding, bytes, &mut w);
            for (lanes, x) in lanes.iter_mut().zip(x) {
                add(has_least(rows.encoding), &w, &x[i], lanes);
            }
        }
        for (out, lanes) in out.iter_mut().zip(&lanes) {
            out[r] = total(lanes);
        }
    }
}

/// Adds the contributions of eight groups: the definition.
fn add(has_least: bool, w: &Unpacked, x: &Octet, lanes: &mut [f32; 8]) {
    for (g, lane) in lanes.iter_mut().enumerate() {
        let (mut t, mut m) = (0i32, 0i32);
        for h in 0..2 {
            let half = g * GROUP + h * 16..g * GROUP + h * 16 + 16;
            let mut sum = 0i32;
            for (q, x) in w.q[half.clone()].iter().zip(&x.q[half]) {
                sum += i32::from(*q) * i32::from(*x);
            }
            t += i32::from(w.factor[g][h]) * sum;
            m += i32::from(w.minus[g][h]) * i32::from(x.sums[g][h]);
        }
        let v = if has_least {
            w.d[g].mul_add(t as f32, -(w.least[g] * m as f32))
        } else {
            w.d[g] * t as f32
        };
        *lane = x.scale[g].mul_add(v, *lane);
    }
}

/// The sum of the lanes.
pub(super) fn total(l: &[f32; 8]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

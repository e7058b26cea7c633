//! Weights laid out in panels, and asking for those that come next. Knows nothing of what they are
//! multiplied with.
#![expect(unsafe_code, reason = "vector loads, and asking for memory")]
// Sound because loads are of slices whose lengths are checked, and asking for any address is
// harmless.

use std::ops::Range;

use bytemuck::Pod;
use half::bf16;

use super::WIDTH;
use crate::ahead::LINE_BYTES;
use crate::compact::Compact;
use crate::isa::{Element, Isa};

/// Weights that can be laid out in panels: number `i` of output `o` at
/// `(o / WIDTH * inputs + i) * WIDTH + o % WIDTH`, and zeros for outputs that are missing.
pub(super) trait Pack {
    type E: Element + Pod;

    /// From a row for each output.
    fn pack(&self, share: Range<usize>, inputs: usize, to: &mut [Self::E]);

    /// From a row for each input.
    fn pack_by_input(&self, outputs: usize, share: Range<usize>, inputs: usize, to: &mut [Self::E]);

    /// Where the weights of some outputs lie, to ask for them in so many turns; with `by_input`
    /// that many outputs have a row for each input.
    fn ahead(
        &self,
        by_input: Option<usize>,
        share: Range<usize>,
        inputs: usize,
        turns: usize,
    ) -> Ahead;
}

impl<E: Element + Pod> Pack for [E] {
    type E = E;

    fn pack(&self, share: Range<usize>, inputs: usize, to: &mut [E]) {
        let panels = to.chunks_exact_mut(inputs * WIDTH);
        for (first, panel) in share.clone().step_by(WIDTH).zip(panels) {
            let count = WIDTH.min(share.end - first);
            let rows = &self[first * inputs..(first + count) * inputs];
            let whole = if count == WIDTH {
                by_eights(rows, inputs, panel)
            } else {
                0
            };
            for (input, to) in panel.chunks_exact_mut(WIDTH).enumerate().skip(whole) {
                to.fill(E::ZERO);
                for (to, row) in to.iter_mut().zip(rows.chunks_exact(inputs)) {
                    *to = row[input];
                }
            }
        }
    }

    fn pack_by_input(&self, outputs: usize, share: Range<usize>, inputs: usize, to: &mut [E]) {
        for (input, row) in self.chunks_exact(outputs).enumerate() {
            for (panel, from) in row[share.clone()].chunks(WIDTH).enumerate() {
                let at = (panel * inputs + input) * WIDTH;
                let to = &mut to[at..at + WIDTH];
                match <&[E; WIDTH]>::try_from(from) {
                    Ok(whole) => to.copy_from_slice(whole),
                    Err(_) => {
                        to.fill(E::ZERO);
                        to[..from.len()].copy_from_slice(from);
                    }
                }
            }
        }
    }

    fn ahead(
        &self,
        by_input: Option<usize>,
        share: Range<usize>,
        inputs: usize,
        turns: usize,
    ) -> Ahead {
        let bytes = share.len() * size_of::<E>();
        let start = self.as_ptr();
        match by_input {
            Some(outputs) => {
                let row = start.wrapping_add(share.start).cast();
                Ahead::new(row, inputs, outputs * size_of::<E>(), bytes, turns)
            }
            None => {
                let row = start.wrapping_add(share.start * inputs).cast();
                Ahead::new(row, 1, 0, bytes * inputs, turns)
            }
        }
    }
}

impl Pack for Compact<'_> {
    type E = bf16;

    fn pack(&self, share: Range<usize>, inputs: usize, to: &mut [bf16]) {
        to.fill(bf16::ZERO);
        for (at, row) in share.enumerate() {
            let panel = &mut to[at / WIDTH * inputs * WIDTH..];
            self.row_into(row, |input, number| {
                panel[input * WIDTH + at % WIDTH] = number
            });
        }
    }

    fn pack_by_input(&self, _: usize, share: Range<usize>, inputs: usize, to: &mut [bf16]) {
        to.fill(bf16::ZERO);
        for input in 0..inputs {
            self.row_into(input, |output, number| {
                if share.contains(&output) {
                    let at = output - share.start;
                    to[(at / WIDTH * inputs + input) * WIDTH + at % WIDTH] = number;
                }
            });
        }
    }

    fn ahead(&self, _: Option<usize>, share: Range<usize>, _: usize, turns: usize) -> Ahead {
        let start = self.groups().as_ptr();
        let row = start.wrapping_add(share.start * self.row_bytes());
        Ahead::new(row, 1, 0, share.len() * self.row_bytes(), turns)
    }
}

/// Packs a panel eight inputs at a time, where numbers have two bytes; tells how many inputs it
/// did.
fn by_eights<E: Element + Pod>(rows: &[E], inputs: usize, panel: &mut [E]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if size_of::<E>() == 2 {
        /// Inputs of a line of memory. Rows are often a multiple of 4 KiB apart, so that a
        /// first-level cache has place for no more lines than eight rows have.
        const LINE: usize = LINE_BYTES / 2;
        let whole = inputs / 8 * 8;
        let rows: &[u16] = bytemuck::cast_slice(rows);
        let panel: &mut [u16] = bytemuck::cast_slice_mut(panel);
        assert!(rows.len() == WIDTH * inputs && panel.len() == WIDTH * inputs);
        for line in (0..whole).step_by(LINE) {
            for half in [0, WIDTH / 2] {
                for input in (line..whole.min(line + LINE)).step_by(8) {
                    // SAFETY: eight inputs from this one on are in each of eight rows, and have
                    // places in the panel.
                    unsafe {
                        let from = rows.as_ptr().add(half * inputs + input);
                        let to = panel.as_mut_ptr().add(input * WIDTH + half);
                        turn(from, inputs, to);
                    }
                }
            }
        }
        return whole;
    }
    let _ = (rows, inputs, panel);
    0
}

/// Eight columns of eight rows, `stride` apart, as rows of a panel.
///
/// # Safety
/// They are readable at `from`, and their places at `to` can be written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn(from: *const u16, stride: usize, to: *mut u16) {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has these instructions; the caller promises the memory.
    unsafe {
        let row = |r: usize| _mm_loadu_si128(from.add(r * stride).cast());
        let pair = |r: usize| {
            let (a, b) = (row(r), row(r + 1));
            [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)]
        };
        let ([a, b], [c, d], [e, f], [g, h]) = (pair(0), pair(2), pair(4), pair(6));
        let four = |a, b| [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)];
        let [[a, c], [b, d], [e, g], [f, h]] = [four(a, c), four(b, d), four(e, g), four(f, h)];
        let all = |a, b| [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)];
        let [[a, b], [c, d], [e, f], [g, h]] = [all(a, e), all(c, g), all(b, f), all(d, h)];
        for (i, column) in [a, b, c, d, e, f, g, h].into_iter().enumerate() {
            _mm_storeu_si128(to.add(i * WIDTH).cast(), column);
        }
    }
}

/// Memory to ask for: so many lines at a time, of rows that are far apart.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    row: *const u8,
    rows: usize,
    /// From one row to the next.
    stride: usize,
    /// Of each row.
    bytes: usize,
    at: usize,
    /// In a turn.
    lines: usize,
}

impl Ahead {
    fn new(row: *const u8, rows: usize, stride: usize, bytes: usize, turns: usize) -> Self {
        let lines = rows * bytes.div_ceil(LINE_BYTES);
        Ahead {
            row,
            rows: if bytes == 0 { 0 } else { rows },
            stride,
            bytes,
            at: 0,
            lines: lines.div_ceil(turns.max(1)),
        }
    }

    /// # Safety
    /// The instructions of `I` are supported.
    #[inline(always)]
    pub unsafe fn ask<I: Isa>(&mut self) {
        for _ in 0..self.lines {
            if self.rows == 0 {
                return;
            }
            // SAFETY: any address will do.
            unsafe { I::prefetch_far(self.row.wrapping_add(self.at)) };
            self.at += LINE_BYTES;
            if self.at >= self.bytes {
                self.at = 0;
                self.row = self.row.wrapping_add(self.stride);
                self.rows -= 1;
            }
        }
    }
}

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

    /// From a row for each output, whose inputs are so many taps of each channel: input `i` becomes
    /// that at [`turned`].
    fn pack(&self, share: Range<usize>, inputs: usize, taps: usize, to: &mut [Self::E]);

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

    fn pack(&self, share: Range<usize>, inputs: usize, taps: usize, to: &mut [E]) {
        let panels = to.chunks_exact_mut(inputs * WIDTH);
        for (first, panel) in share.clone().step_by(WIDTH).zip(panels) {
            let count = WIDTH.min(share.end - first);
            let rows = &self[first * inputs..(first + count) * inputs];
            let whole = if count == WIDTH {
                by_blocks(rows, inputs, taps, panel)
            } else {
                0
            };
            for input in whole..inputs {
                let at = turned(input, inputs, taps) * WIDTH;
                let to = &mut panel[at..at + WIDTH];
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

    fn pack(&self, share: Range<usize>, inputs: usize, taps: usize, to: &mut [bf16]) {
        to.fill(bf16::ZERO);
        for (at, row) in share.enumerate() {
            let panel = &mut to[at / WIDTH * inputs * WIDTH..];
            self.row_into(row, |input, number| {
                panel[turned(input, inputs, taps) * WIDTH + at % WIDTH] = number
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

/// Where an input goes: the taps of a channel, which lie side by side, become as many rows of
/// channels.
fn turned(input: usize, inputs: usize, taps: usize) -> usize {
    input % taps * (inputs / taps) + input / taps
}

/// Packs a panel some inputs at a time, where numbers have two bytes or four; tells how many inputs
/// it did.
fn by_blocks<E: Element + Pod>(rows: &[E], inputs: usize, taps: usize, panel: &mut [E]) -> usize {
    assert!(rows.len() == WIDTH * inputs && panel.len() == WIDTH * inputs);
    #[cfg(target_arch = "x86_64")]
    match size_of::<E>() {
        2 => {
            let (rows, panel): (&[u16], _) =
                (bytemuck::cast_slice(rows), bytemuck::cast_slice_mut(panel));
            return turn_all::<_, 8>(rows, inputs, taps, panel, turn_eights);
        }
        4 => {
            let (rows, panel): (&[u32], _) =
                (bytemuck::cast_slice(rows), bytemuck::cast_slice_mut(panel));
            return turn_all::<_, 4>(rows, inputs, taps, panel, turn_fours);
        }
        _ => {}
    }
    let _ = (rows, inputs, taps, panel);
    0
}

/// Turns blocks of `N` inputs of `N` rows, which follow one another in the panel's rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_all<T, const N: usize>(
    rows: &[T],
    inputs: usize,
    taps: usize,
    panel: &mut [T],
    turn: unsafe fn(*const T, usize, [*mut T; N]),
) -> usize {
    /// Inputs of a line of memory, in numbers of two bytes. Rows are often a multiple of 4 KiB
    /// apart, so that a first-level cache has place for no more lines than eight rows have.
    const LINE: usize = LINE_BYTES / 2;
    let whole = inputs / N * N;
    let channels = inputs / taps;
    for line in (0..whole).step_by(LINE) {
        let end = whole.min(line + LINE);
        // Where the inputs of the line go: no division for each of them.
        let mut places = [0; LINE];
        let (mut channel, mut tap) = (line / taps, line % taps);
        for place in &mut places {
            *place = (tap * channels + channel) * WIDTH;
            tap += 1;
            if tap == taps {
                (channel, tap) = (channel + 1, 0);
            }
        }
        for part in (0..WIDTH).step_by(N) {
            for input in (line..end).step_by(N) {
                // SAFETY: `N` inputs from this one on are in each of `N` rows, and have places in
                // the panel.
                unsafe {
                    let from = rows.as_ptr().add(part * inputs + input);
                    let to = panel.as_mut_ptr().add(part);
                    let to = std::array::from_fn(|i| to.add(places[input - line + i]));
                    turn(from, inputs, to);
                }
            }
        }
    }
    whole
}

/// Eight columns of eight rows, `stride` apart, as rows.
///
/// # Safety
/// They are readable at `from`, and eight numbers can be written at each of `to`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_eights(from: *const u16, stride: usize, to: [*mut u16; 8]) {
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
        for (to, column) in to.into_iter().zip([a, b, c, d, e, f, g, h]) {
            _mm_storeu_si128(to.cast(), column);
        }
    }
}

/// Four columns of four rows, `stride` apart, as rows.
///
/// # Safety
/// They are readable at `from`, and four numbers can be written at each of `to`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_fours(from: *const u32, stride: usize, to: [*mut u32; 4]) {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has these instructions; the caller promises the memory.
    unsafe {
        let row = |r: usize| _mm_loadu_si128(from.add(r * stride).cast());
        let pair = |r: usize| {
            let (a, b) = (row(r), row(r + 1));
            [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)]
        };
        let ([a, b], [c, d]) = (pair(0), pair(2));
        let both = |a, b| [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)];
        let [[a, b], [c, d]] = [both(a, c), both(b, d)];
        for (to, column) in to.into_iter().zip([a, b, c, d]) {
            _mm_storeu_si128(to.cast(), column);
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

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
    ///
    /// # Safety
    /// The instructions of `I` are supported.
    unsafe fn pack<I: Isa>(
        &self,
        share: Range<usize>,
        inputs: usize,
        taps: usize,
        to: &mut [Self::E],
    );

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

    #[inline(always)]
    unsafe fn pack<I: Isa>(&self, share: Range<usize>, inputs: usize, taps: usize, to: &mut [E]) {
        let panels = to.chunks_exact_mut(inputs * WIDTH);
        for (first, panel) in share.clone().step_by(WIDTH).zip(panels) {
            let count = WIDTH.min(share.end - first);
            let rows = &self[first * inputs..(first + count) * inputs];
            let whole = if count == WIDTH {
                // SAFETY: passed on from the caller.
                unsafe { by_blocks::<I, E>(rows, inputs, taps, panel) }
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

    #[inline(always)]
    unsafe fn pack<I: Isa>(
        &self,
        share: Range<usize>,
        inputs: usize,
        taps: usize,
        to: &mut [bf16],
    ) {
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
///
/// # Safety
/// The instructions of `I` are supported.
#[inline(always)]
unsafe fn by_blocks<I: Isa, E: Element + Pod>(
    rows: &[E],
    inputs: usize,
    taps: usize,
    panel: &mut [E],
) -> usize {
    assert!(rows.len() == WIDTH * inputs && panel.len() == WIDTH * inputs);
    #[cfg(target_arch = "x86_64")]
    {
        // Rows that are a multiple of this apart have their lines in one place of a first-level
        // cache, which holds eight.
        const ALIKE_BYTES: usize = 4096;
        let is_wide = I::HAS_AVX2 && !(inputs * size_of::<E>()).is_multiple_of(ALIKE_BYTES);
        match (size_of::<E>(), is_wide) {
            (2, wide) => {
                let (rows, panel): (&[u16], _) =
                    (bytemuck::cast_slice(rows), bytemuck::cast_slice_mut(panel));
                // SAFETY: every x86-64 has the narrow form's instructions, and `I` those of the
                // wide one where it says so.
                return unsafe {
                    if wide {
                        turn_all::<_, 8, 16>(rows, inputs, taps, panel, |from, stride, to| {
                            turn_sixteens(from, stride, to)
                        })
                    } else {
                        turn_all::<_, 8, 8>(rows, inputs, taps, panel, |from, stride, to| {
                            turn_eights(from, stride, to)
                        })
                    }
                };
            }
            (4, _) => {
                let (rows, panel): (&[u32], _) =
                    (bytemuck::cast_slice(rows), bytemuck::cast_slice_mut(panel));
                // SAFETY: every x86-64 has the instructions.
                return unsafe {
                    turn_all::<_, 4, 4>(rows, inputs, taps, panel, |from, stride, to| {
                        turn_fours(from, stride, to)
                    })
                };
            }
            _ => {}
        }
    }
    let _ = (rows, inputs, taps, panel);
    0
}

/// Turns blocks of `N` inputs of `R` rows, which follow one another in the panel's rows.
///
/// # Safety What `turn` asks for: it is given `N` readable inputs of `R` rows and `N` places for
/// `R` numbers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_all<T, const N: usize, const R: usize>(
    rows: &[T],
    inputs: usize,
    taps: usize,
    panel: &mut [T],
    turn: impl Fn(*const T, usize, [*mut T; N]),
) -> usize {
    /// Inputs of a line of memory, in numbers of two bytes.
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
        for part in (0..WIDTH).step_by(R) {
            for input in (line..end).step_by(N) {
                // SAFETY: `N` inputs from this one on are in each of `R` rows, and have places in
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

/// Eight columns of sixteen rows, `stride` apart, as rows.
///
/// # Safety
/// They are readable at `from`, sixteen numbers can be written at each of `to`, and there is AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_sixteens(from: *const u16, stride: usize, to: [*mut u16; 8]) {
    use std::arch::x86_64::*;
    // SAFETY: as the caller promises.
    unsafe {
        // The ninth row beside the first, and so on.
        let row = |r: usize| {
            let low = _mm256_castsi128_si256(_mm_loadu_si128(from.add(r * stride).cast()));
            let high = _mm_loadu_si128(from.add((r + 8) * stride).cast());
            _mm256_inserti128_si256::<1>(low, high)
        };
        let pair = |r: usize| {
            let (a, b) = (row(r), row(r + 1));
            [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
        };
        let ([a, b], [c, d], [e, f], [g, h]) = (pair(0), pair(2), pair(4), pair(6));
        let four = |a, b| [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
        let [[a, c], [b, d], [e, g], [f, h]] = [four(a, c), four(b, d), four(e, g), four(f, h)];
        let all = |a, b| [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
        let [[a, b], [c, d], [e, f], [g, h]] = [all(a, e), all(c, g), all(b, f), all(d, h)];
        for (to, column) in to.into_iter().zip([a, b, c, d, e, f, g, h]) {
            _mm256_storeu_si256(to.cast(), column);
        }
    }
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

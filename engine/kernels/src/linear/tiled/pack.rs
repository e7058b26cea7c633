//! Between plain rows and tiles: activations in bf16 parts with pairs of columns side by side,
//! weights as they are, sums back to rows. Knows nothing of the order of the work.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because every function states how much it reads and writes, and the instructions are those
// of the levels with bf16 products, which the functions are only called at.

use std::arch::x86_64::*;

use std::ops::Range;

use half::bf16;

use crate::compact::{Compact, GROUP, GROUP_BYTES, RowHead};
use crate::isa::Key;

use super::plan::{DEPTH, GROUPS, SIDE, TILE_BYTES};

/// Packs up to 16 rows of `x`, `stride` apart, from column 0 of the pointer, as one step: a tile of
/// the nearest bf16 to each number (the even one of two as near) and, with `two_parts`, a tile of
/// what that left. `cols` up to 32; the rest is zeros.
///
/// # Safety
/// Reads `rows` rows of `cols` floats, writes a tile a part at `to` (aligned to 64 bytes).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn pack_activations(
    x: *const f32,
    stride: usize,
    rows: usize,
    cols: usize,
    two_parts: bool,
    to: *mut u8,
) {
    let zero = _mm512_setzero_si512();
    let (mut high, mut low) = ([zero; SIDE], [zero; SIDE]);
    let lanes = |from: usize| ((1u32 << cols.saturating_sub(from).min(16)) - 1) as u16;
    let (mask_a, mask_b) = (lanes(0), lanes(16));
    for row in 0..rows {
        let from = x.add(row * stride);
        let a = _mm512_maskz_loadu_ps(mask_a, from);
        let b = _mm512_maskz_loadu_ps(mask_b, from.wrapping_add(16));
        let top = bits(_mm512_cvtne2ps_pbh(b, a));
        high[row] = top;
        if two_parts {
            let top_a = widen(_mm512_castsi512_si256(top));
            let top_b = widen(_mm512_extracti64x4_epi64::<1>(top));
            low[row] = bits(_mm512_cvtne2ps_pbh(
                _mm512_sub_ps(b, top_b),
                _mm512_sub_ps(a, top_a),
            ));
        }
    }
    store_tile(transpose(high), to);
    if two_parts {
        store_tile(transpose(low), to.add(TILE_BYTES));
    }
}

/// Packs `rows` rows of weights, `stride` apart, as tiles of one group: row `r` of step `s` at
/// `to + s * GROUPS * TILE_BYTES + r * 64`. Rows and columns that are missing become zeros.
///
/// # Safety
/// Reads `rows` (at most 16) rows of `cols` numbers, writes one tile each `DEPTH` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn pack_weights(
    weights: *const bf16,
    stride: usize,
    rows: usize,
    cols: usize,
    to: *mut u8,
) {
    let whole = cols / DEPTH;
    let rest = cols % DEPTH;
    let mask = ((1u64 << rest) - 1) as u32;
    for row in 0..SIDE {
        let from = weights.wrapping_add(row * stride);
        let to = to.add(row * 64);
        for step in 0..whole {
            let v = if row < rows {
                _mm512_loadu_si512(from.add(step * DEPTH).cast())
            } else {
                _mm512_setzero_si512()
            };
            _mm512_store_si512(to.add(step * GROUPS * TILE_BYTES).cast(), v);
        }
        if rest > 0 {
            let mask = if row < rows { mask } else { 0 };
            let v = _mm512_maskz_loadu_epi16(mask, from.wrapping_add(whole * DEPTH).cast());
            _mm512_store_si512(to.add(whole * GROUPS * TILE_BYTES).cast(), v);
        }
    }
}

/// The same for rows of a compact matrix and steps of their columns.
///
/// # Safety
/// Writes one tile a step at `to` (aligned to 64 bytes).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn unpack_weights(
    weights: &Compact<'_>,
    rows: Range<usize>,
    steps: Range<usize>,
    to: *mut u8,
) {
    let row_bytes = weights.row_bytes();
    let from = &weights.groups()[rows.start * row_bytes..rows.end * row_bytes];
    assert!(rows.len() <= SIDE && steps.end * DEPTH <= weights.cols());
    let mut keys = [Key::of(RowHead::default()); SIDE];
    for (key, row) in keys.iter_mut().zip(rows.clone()) {
        *key = Key::of(weights.head(row));
    }
    // Tile by tile: the lines of a row, a tile or more apart, all want the same place in a cache.
    let tile = |step: usize| to.add((step - steps.start) * GROUPS * TILE_BYTES);
    for step in steps.clone() {
        let groups = from
            .as_ptr()
            .wrapping_add(step * DEPTH / GROUP * GROUP_BYTES);
        let to = tile(step);
        for (r, key) in keys[..rows.len()].iter().enumerate() {
            let v = key.numbers(groups.add(r * row_bytes), step * DEPTH % GROUP);
            _mm512_store_si512(to.add(r * 64).cast(), v);
        }
        for r in rows.len()..SIDE {
            _mm512_store_si512(to.add(r * 64).cast(), _mm512_setzero_si512());
        }
    }
    for (r, row) in rows.enumerate() {
        for stray in weights.strays(row) {
            let step = stray.col() / DEPTH;
            if steps.contains(&step) {
                let to = tile(step)
                    .cast::<u16>()
                    .add(r * DEPTH + stray.col() % DEPTH);
                to.write(stray.bits());
            }
        }
    }
}

/// Turns a tile of sums (outputs by tokens) to rows of outputs, `stride` apart.
///
/// # Safety
/// Reads a tile, writes 16 rows of 16 floats.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn unpack_sums(tile: *const f32, to: *mut f32, stride: usize) {
    let rows = std::array::from_fn(|row| _mm512_loadu_si512(tile.add(row * SIDE).cast()));
    for (row, v) in transpose(rows).into_iter().enumerate() {
        _mm512_storeu_si512(to.add(row * stride).cast(), v);
    }
}

#[inline(always)]
unsafe fn bits(v: __m512bh) -> __m512i {
    std::mem::transmute(v)
}

#[inline(always)]
unsafe fn widen(v: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v)))
}

#[inline(always)]
unsafe fn store_tile(rows: [__m512i; SIDE], to: *mut u8) {
    for (row, v) in rows.into_iter().enumerate() {
        _mm512_store_si512(to.add(row * 64).cast(), v);
    }
}

/// Sixteen rows of sixteen 32-bit numbers, rows and columns exchanged.
#[inline(always)]
unsafe fn transpose(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
    // Within each quarter of 128 bits first: pairs of rows, then fours; then the quarters.
    let zero = _mm512_setzero_si512();
    let mut pairs = [zero; SIDE];
    for i in 0..SIDE / 2 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // fours[4 g + c], quarter q: column 4 q + c of rows 4 g .. 4 g + 4.
    let mut fours = [zero; SIDE];
    for g in 0..SIDE / 4 {
        for half in 0..2 {
            let (a, b) = (pairs[4 * g + half], pairs[4 * g + 2 + half]);
            fours[4 * g + 2 * half] = _mm512_unpacklo_epi64(a, b);
            fours[4 * g + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    let mut out = [zero; SIDE];
    for c in 0..4 {
        let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
        // Quarters 0 and 2, then 1 and 3, of two groups each.
        let (even_ab, odd_ab) = (
            _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
        );
        let (even_de, odd_de) = (
            _mm512_shuffle_i32x4::<0b10_00_10_00>(d, e),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(d, e),
        );
        out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_ab, even_de);
        out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_ab, even_de);
        out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_ab, odd_de);
        out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_ab, odd_de);
    }
    out
}

//! The products of `product.rs` with AVX-512 and its dot products of unsigned with signed bytes.
//! Weights are taken as unsigned: where they are signed, something is added to all of them, and as
//! many times the sum of the activations taken off again, all in exact integers.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Every function needs the instructions, which `dot` promises, and as many readable bytes as the
// form says. What is not `dot` is inlined there.

use std::arch::x86_64::*;

use encoding::Encoding;

use super::panel::{self, Spread};
use super::product::{MAX_TOGETHER, Rows, not_quantised};
use super::rounded::{GROUP, Octet};

mod long;
mod rounding;
mod short;

use long::{Iq4Xs, Q2K, Q3K, Q4K, Q5K, Q6K};
pub(super) use rounding::round;
use short::{Q8_0, Short};

/// How far ahead memory is asked for.
const AHEAD_BYTES: usize = 8 * 1024;
/// Activation rows from which on sixteen weight rows are unpacked together.
const PANEL_FROM: usize = 4;

/// How the octets of an encoding are read.
pub(super) trait Form: Copy {
    /// Whether the halves of a group have factors of their own.
    const HALVES: bool = false;
    /// Whether something is taken off all numbers of a group.
    const LEAST: bool = false;
    /// How much too large the numbers in registers are.
    const BIAS: i16;
    /// An octet in registers.
    type W: Copy;
    /// Bytes of an octet.
    fn bytes(self) -> usize;
    unsafe fn load(self, from: *const u8) -> Self::W;
    /// The contributions of the groups, short of the activations' scales.
    unsafe fn values(self, w: &Self::W, x: *const Octet) -> __m256;
    /// The same for a panel.
    unsafe fn spread(self, w: &Self::W) -> Spread;
}

/// # Safety
/// The instructions are supported, each of `x` has the octets of a row, each of `out` a number for
/// every row, and there are at most [`MAX_TOGETHER`] of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn dot(rows: Rows<'_>, x: &[&[Octet]], out: &mut [&mut [f32]]) {
    match rows.encoding {
        Encoding::Q8_0 => each_row(Q8_0, rows, x, out),
        Encoding::Q4_0 => each_row(Short::<2, false>, rows, x, out),
        Encoding::Q4_1 => each_row(Short::<4, false>, rows, x, out),
        Encoding::Q5_0 => each_row(Short::<6, false>, rows, x, out),
        Encoding::Q5_1 => each_row(Short::<8, false>, rows, x, out),
        Encoding::Iq4Nl => each_row(Short::<2, true>, rows, x, out),
        Encoding::Q2K => each_row(Q2K, rows, x, out),
        Encoding::Q3K => each_row(Q3K, rows, x, out),
        Encoding::Q4K => each_row(Q4K, rows, x, out),
        Encoding::Q5K => each_row(Q5K, rows, x, out),
        Encoding::Q6K => each_row(Q6K, rows, x, out),
        Encoding::Iq4Xs => each_row(Iq4Xs, rows, x, out),
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => not_quantised(rows.encoding),
    }
}

/// A function for each encoding: one of all of them takes the compiler much longer.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn each_row<F: Form>(form: F, rows: Rows<'_>, x: &[&[Octet]], out: &mut [&mut [f32]]) {
    let at = |r: usize| rows.bytes.as_ptr().wrapping_add(r * rows.row_bytes);
    let mut done = 0;
    if x.len() >= PANEL_FROM {
        while done + 2 * panel::ROWS <= rows.count() {
            panel::products::<F, 2>(form, at(done), rows.row_bytes, x, out, done);
            done += 2 * panel::ROWS;
        }
        if done + panel::ROWS <= rows.count() {
            panel::products::<F, 1>(form, at(done), rows.row_bytes, x, out, done);
            done += panel::ROWS;
        }
    }
    for r in done..rows.count() {
        if let ([x], [out]) = (x, &mut *out) {
            out[r] = one(form, at(r), rows.row_bytes, x.as_ptr());
            continue;
        }
        for (x, out) in x.chunks(MAX_TOGETHER).zip(out.chunks_mut(MAX_TOGETHER)) {
            let sums = several(form, at(r), rows.row_bytes, x);
            for (out, sum) in out.iter_mut().zip(sums) {
                out[r] = sum;
            }
        }
    }
}

#[inline(always)]
unsafe fn one<F: Form>(form: F, row: *const u8, row_bytes: usize, x: *const Octet) -> f32 {
    let mut lanes = _mm256_setzero_ps();
    let whole = row_bytes / form.bytes();
    for i in 0..whole {
        let from = row.add(i * form.bytes());
        ask(from, form.bytes());
        let w = form.load(from);
        lanes = add(form, &w, x.add(i), lanes);
    }
    if whole * form.bytes() < row_bytes {
        let w = load_rest(form, row, row_bytes);
        lanes = add(form, &w, x.add(whole), lanes);
    }
    total(lanes)
}

#[inline(always)]
unsafe fn several<F: Form>(
    form: F,
    row: *const u8,
    row_bytes: usize,
    x: &[&[Octet]],
) -> [f32; MAX_TOGETHER] {
    let mut lanes = [_mm256_setzero_ps(); MAX_TOGETHER];
    let whole = row_bytes / form.bytes();
    for i in 0..whole {
        let from = row.add(i * form.bytes());
        ask(from, form.bytes());
        let w = form.load(from);
        for n in 0..x.len() {
            lanes[n] = add(form, &w, x[n].as_ptr().add(i), lanes[n]);
        }
    }
    if whole * form.bytes() < row_bytes {
        let w = load_rest(form, row, row_bytes);
        for n in 0..x.len() {
            lanes[n] = add(form, &w, x[n].as_ptr().add(whole), lanes[n]);
        }
    }
    let mut sums = [0.0; MAX_TOGETHER];
    for n in 0..x.len() {
        sums[n] = total(lanes[n]);
    }
    sums
}

/// The last octet of a row of short blocks, filled up with zeros, whose contributions are none.
#[inline(always)]
pub(super) unsafe fn load_rest<F: Form>(form: F, row: *const u8, row_bytes: usize) -> F::W {
    let mut padded = [0u8; 9 * GROUP];
    let rest = row_bytes % form.bytes();
    std::ptr::copy_nonoverlapping(row.add(row_bytes - rest), padded.as_mut_ptr(), rest);
    form.load(padded.as_ptr())
}

#[inline(always)]
unsafe fn ask(from: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD_BYTES + line * 64).cast());
    }
}

#[inline(always)]
unsafe fn add<F: Form>(form: F, w: &F::W, x: *const Octet, lanes: __m256) -> __m256 {
    let scale = _mm256_load_ps((*x).scale.as_ptr());
    _mm256_fmadd_ps(scale, form.values(w, x), lanes)
}

#[inline(always)]
unsafe fn total(lanes: __m256) -> f32 {
    let four = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// What a [`Spread`] has where an encoding has nothing.
#[inline(always)]
unsafe fn nothing() -> Spread {
    Spread {
        q: [_mm512_setzero_si512(); 4],
        first: _mm256_setzero_ps(),
        second: _mm256_setzero_ps(),
        first_minus: _mm256_setzero_ps(),
        second_minus: _mm256_setzero_ps(),
        d: 0.0,
        least: 0.0,
    }
}

/// Pairs of 16-bit numbers as two vectors.
#[inline(always)]
unsafe fn parted(pairs: __m256i) -> [__m256; 2] {
    let first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs));
    let second = _mm256_srai_epi32::<16>(pairs);
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)]
}

/// Two groups each.
pub(super) type Four = [__m512i; 4];

/// The sums of products over half groups: of the first halves of groups 0, 2, 4, 6, of their second
/// halves, of the first halves of 1, 3, 5, 7, and of their second halves. `BITS` are those of a weight.
#[inline(always)]
unsafe fn halves<const BITS: u32>(w: &Four, x: *const Octet) -> __m512i {
    let x: *const u8 = x.cast();
    let mut p = [_mm512_setzero_si512(); 4];
    for c in 0..4 {
        p[c] = _mm512_dpbusd_epi32(p[c], w[c], _mm512_load_si512(x.add(c * 64).cast()));
    }
    let one = _mm512_set1_epi16(1);
    // Sums of two neighbours, of each two vectors: as 16-bit numbers where these have room for four
    // products of 127.
    let (s, t) = if BITS <= 6 {
        (
            _mm512_madd_epi16(_mm512_packs_epi32(p[0], p[1]), one),
            _mm512_madd_epi16(_mm512_packs_epi32(p[2], p[3]), one),
        )
    } else {
        (neighbours(p[0], p[1]), neighbours(p[2], p[3]))
    };
    // And where they have room for eight.
    if BITS <= 5 {
        _mm512_madd_epi16(_mm512_packs_epi32(s, t), one)
    } else if BITS <= 6 {
        let (s, t) = (_mm512_castsi512_ps(s), _mm512_castsi512_ps(t));
        let even = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(s, t));
        let odd = _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(s, t));
        _mm512_add_epi32(even, odd)
    } else {
        _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t))
    }
}

#[inline(always)]
unsafe fn neighbours(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// The sum of each group's halves, from the order of [`halves`].
#[inline(always)]
unsafe fn wholes(v: __m512i) -> __m256i {
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let v = _mm512_permutexvar_epi32(order, v);
    _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v))
}

#[inline(always)]
unsafe fn sums(x: *const Octet) -> __m256i {
    _mm256_load_si256((*x).sums.as_ptr().cast())
}

/// The same 32 bytes in both halves.
#[inline(always)]
unsafe fn twice(from: *const u8) -> __m512i {
    _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast()))
}

/// A half number to all lanes.
#[inline(always)]
unsafe fn half(from: *const u8) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(from.cast::<i16>().read_unaligned()))
}

#[inline(always)]
unsafe fn low_codes(v: __m512i) -> __m512i {
    _mm512_and_si512(v, _mm512_set1_epi8(15))
}

/// What a vector's bytes are shifted right by so that the first half has its lower codes at the
/// bottom, and the second half its upper ones.
#[inline(always)]
unsafe fn shift_halves() -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4))
}

/// `a | (b & mask)`.
#[inline(always)]
unsafe fn or_masked(a: __m512i, b: __m512i, mask: i8) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1111_1000>(a, b, _mm512_set1_epi8(mask))
}

/// Rotates the 32-bit words of the first half and of the second to the left.
#[inline(always)]
unsafe fn rotate(v: __m512i, first: i32, second: i32) -> __m512i {
    let by = _mm512_inserti64x4::<1>(
        _mm512_set1_epi32(first & 31),
        _mm256_set1_epi32(second & 31),
    );
    _mm512_rolv_epi32(v, by)
}

//! How `avx2` reads the encodings of blocks of 256 numbers. Knows nothing of products.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound as the module above is: what calls these functions promises the instructions and the bytes.

use std::arch::x86_64::*;

use super::super::formats::{scales_of_k, scales_of_q3k};
use super::super::rounded::Octet;
use super::panel::{Panel, Spread};
use super::short::{four_bits, from_table};
use super::{Eight, Form, half, halves, masked, shifted, sums, wholes};

/// Q4_K, or Q5_K if there is a `FIFTH` bit.
#[derive(Clone, Copy)]
pub(super) struct K<const FIFTH: bool>;

#[derive(Clone, Copy)]
pub(super) struct WithLeast {
    q: Eight,
    /// As 32-bit numbers.
    factor: __m256i,
    /// Twice each, as 16-bit numbers.
    minus: __m256i,
    d: __m256,
    least: __m256,
}

impl<const FIFTH: bool> Form for K<FIFTH> {
    type W = WithLeast;
    #[inline(always)]
    fn bytes(self) -> usize {
        if FIFTH { 176 } else { 144 }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> WithLeast {
        let codes = from.add(if FIFTH { 48 } else { 16 });
        let mut q = [_mm256_setzero_si256(); 8];
        for c in 0..4 {
            let codes = _mm256_loadu_si256(codes.add(c * 32).cast());
            q[2 * c] = masked(codes, 15);
            q[2 * c + 1] = masked(_mm256_srli_epi16::<4>(codes), 15);
        }
        if FIFTH {
            // Bit g of a byte belongs to group g.
            let upper = _mm256_loadu_si256(from.add(16).cast());
            for g in 0..8 {
                let bits = masked(shifted(upper, 4 - g as i32), 16);
                q[g] = _mm256_or_si256(q[g], bits);
            }
        }
        let packed = std::slice::from_raw_parts(from.add(4), 12);
        let [factor, minus] = scales_of_k(packed);
        let of = |bytes: [u8; 8]| _mm_cvtsi64_si128(i64::from_le_bytes(bytes));
        let minus = _mm_unpacklo_epi8(of(minus), of(minus));
        WithLeast {
            q,
            factor: _mm256_cvtepu8_epi32(of(factor)),
            minus: _mm256_cvtepu8_epi16(minus),
            d: half(from),
            least: half(from.add(2)),
        }
    }
    #[inline(always)]
    unsafe fn values(self, w: &WithLeast, x: *const Octet) -> __m256 {
        let t = _mm256_mullo_epi32(wholes(halves::<false>(&w.q, x)), w.factor);
        let m = _mm256_madd_epi16(sums(x), w.minus);
        let off = _mm256_mul_ps(w.least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(w.d, _mm256_cvtepi32_ps(t), off)
    }
}

impl<const FIFTH: bool> Panel for K<FIFTH> {
    const HALVES: bool = false;
    const LEAST: bool = true;
    const BIAS: i16 = 0;
    const MOST: i32 = if FIFTH { 31 } else { 15 };
    #[inline(always)]
    unsafe fn spread(self, w: &WithLeast) -> Spread {
        // Each is there twice.
        let minus = _mm256_srli_epi32::<16>(w.minus);
        Spread {
            first_minus: _mm256_mul_ps(w.least, _mm256_cvtepi32_ps(minus)),
            ..Spread::of(w.q, _mm256_mul_ps(w.d, _mm256_cvtepi32_ps(w.factor)))
        }
    }
}

/// The factors of the first halves, and of the second, from pairs of 16-bit numbers.
#[inline(always)]
unsafe fn factors(pairs: __m256i) -> [__m256i; 2] {
    [
        _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)),
        _mm256_srai_epi32::<16>(pairs),
    ]
}

/// The same as f32.
#[inline(always)]
unsafe fn parted(pairs: __m256i) -> [__m256; 2] {
    let [first, second] = factors(pairs);
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)]
}

/// The sums of products of the groups, each half times its factor.
#[inline(always)]
unsafe fn scaled([first, second]: [__m256i; 2], pairs: __m256i) -> __m256i {
    let [a, b] = factors(pairs);
    _mm256_add_epi32(_mm256_mullo_epi32(first, a), _mm256_mullo_epi32(second, b))
}

#[derive(Clone, Copy)]
pub(super) struct Q6K;

impl Form for Q6K {
    /// The weights, the factors in pairs, and `d`.
    type W = (Eight, __m256i, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        210
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let mut q = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            let codes = _mm256_loadu_si256(from.add(g / 4 * 64 + g % 2 * 32).cast());
            let upper = _mm256_loadu_si256(from.add(128 + g / 4 * 32).cast());
            let low = masked(shifted(codes, if g % 4 < 2 { 0 } else { -4 }), 15);
            let high = masked(shifted(upper, 4 - 2 * (g as i32 % 4)), 48);
            q[g] = _mm256_or_si256(low, high);
        }
        let pairs = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(192).cast()));
        (q, pairs, half(from.add(208)))
    }
    #[inline(always)]
    unsafe fn values(self, (q, pairs, d): &Self::W, x: *const Octet) -> __m256 {
        let t = scaled(halves::<false>(q, x), *pairs);
        let off = _mm256_slli_epi32::<5>(_mm256_madd_epi16(sums(x), *pairs));
        _mm256_mul_ps(*d, _mm256_cvtepi32_ps(_mm256_sub_epi32(t, off)))
    }
}

impl Panel for Q6K {
    const HALVES: bool = true;
    const LEAST: bool = false;
    const BIAS: i16 = 32;
    const MOST: i32 = 63;
    #[inline(always)]
    unsafe fn spread(self, (q, pairs, d): &Self::W) -> Spread {
        let [first, second] = parted(*pairs);
        Spread {
            second,
            d: _mm256_cvtss_f32(*d),
            ..Spread::of(*q, first)
        }
    }
}

/// Q2_K, or Q3_K if there is a `THIRD` bit.
#[derive(Clone, Copy)]
pub(super) struct Low<const THIRD: bool>;

#[derive(Clone, Copy)]
pub(super) struct LowW {
    q: Eight,
    pairs: __m256i,
    minus: __m256i,
    d: __m256,
    least: __m256,
}

impl<const THIRD: bool> Form for Low<THIRD> {
    type W = LowW;
    #[inline(always)]
    fn bytes(self) -> usize {
        if THIRD { 110 } else { 84 }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> LowW {
        let mut q = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            let codes = from.add(if THIRD { 32 } else { 16 } + g / 4 * 32);
            let codes = _mm256_loadu_si256(codes.cast());
            q[g] = masked(shifted(codes, -2 * (g as i32 % 4)), 3);
            if THIRD {
                // Bit g of a byte belongs to group g.
                let upper = _mm256_loadu_si256(from.cast());
                let bits = masked(shifted(upper, 2 - g as i32), 4);
                q[g] = _mm256_or_si256(q[g], bits);
            }
        }
        if THIRD {
            let scales = scales_of_q3k(std::slice::from_raw_parts(from.add(96), 12));
            let scales = _mm_loadu_si128(scales.as_ptr().cast());
            return LowW {
                q,
                pairs: _mm256_cvtepi8_epi16(_mm_sub_epi8(scales, _mm_set1_epi8(32))),
                minus: _mm256_setzero_si256(),
                d: half(from.add(108)),
                least: _mm256_setzero_ps(),
            };
        }
        let both = _mm_loadu_si128(from.cast());
        let low = _mm_set1_epi8(15);
        let minus = _mm_and_si128(_mm_srli_epi16::<4>(both), low);
        LowW {
            q,
            pairs: _mm256_cvtepi8_epi16(_mm_and_si128(both, low)),
            minus: _mm256_cvtepi8_epi16(minus),
            d: half(from.add(80)),
            least: half(from.add(82)),
        }
    }
    #[inline(always)]
    unsafe fn values(self, w: &LowW, x: *const Octet) -> __m256 {
        let t = scaled(halves::<false>(&w.q, x), w.pairs);
        if THIRD {
            let off = _mm256_slli_epi32::<2>(_mm256_madd_epi16(sums(x), w.pairs));
            return _mm256_mul_ps(w.d, _mm256_cvtepi32_ps(_mm256_sub_epi32(t, off)));
        }
        let m = _mm256_madd_epi16(sums(x), w.minus);
        let off = _mm256_mul_ps(w.least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(w.d, _mm256_cvtepi32_ps(t), off)
    }
}

impl<const THIRD: bool> Panel for Low<THIRD> {
    const HALVES: bool = true;
    const LEAST: bool = !THIRD;
    const BIAS: i16 = if THIRD { 4 } else { 0 };
    const MOST: i32 = if THIRD { 7 } else { 3 };
    #[inline(always)]
    unsafe fn spread(self, w: &LowW) -> Spread {
        let [first, second] = parted(w.pairs);
        let [first_minus, second_minus] = parted(w.minus);
        Spread {
            second,
            first_minus,
            second_minus,
            d: _mm256_cvtss_f32(w.d),
            least: _mm256_cvtss_f32(w.least),
            ..Spread::of(w.q, first)
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Iq4Xs;

impl Form for Iq4Xs {
    /// The numbers, the factors, and `d`.
    type W = (Eight, __m256i, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        136
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let mut q = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            q[g] = from_table(four_bits(from.add(8 + g * 16)));
        }
        let high = i32::from(from.add(2).cast::<u16>().read_unaligned());
        let low = _mm256_set1_epi32(from.add(4).cast::<i32>().read_unaligned());
        let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_srlv_epi32(
            _mm256_set1_epi32(high << 4),
            _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14),
        );
        let factor = _mm256_or_si256(
            _mm256_and_si256(low, _mm256_set1_epi32(15)),
            _mm256_and_si256(high, _mm256_set1_epi32(48)),
        );
        (
            q,
            _mm256_sub_epi32(factor, _mm256_set1_epi32(32)),
            half(from),
        )
    }
    #[inline(always)]
    unsafe fn values(self, (q, factor, d): &Self::W, x: *const Octet) -> __m256 {
        let t = _mm256_mullo_epi32(wholes(halves::<true>(q, x)), *factor);
        _mm256_mul_ps(*d, _mm256_cvtepi32_ps(t))
    }
}

impl Panel for Iq4Xs {
    const SIGNED: bool = true;
    const HALVES: bool = false;
    const LEAST: bool = false;
    const BIAS: i16 = 0;
    const MOST: i32 = 127;
    #[inline(always)]
    unsafe fn spread(self, (q, factor, d): &Self::W) -> Spread {
        Spread::of(*q, _mm256_mul_ps(*d, _mm256_cvtepi32_ps(*factor)))
    }
}

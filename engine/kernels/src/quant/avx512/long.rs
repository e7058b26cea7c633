//! How `avx512` reads the encodings of blocks of 256 numbers. Knows nothing of products.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound as the module above is: what calls these functions promises the instructions and the bytes.

use std::arch::x86_64::*;

use super::super::formats::scales_of_q3k;
use super::super::rounded::Octet;
use super::short::unsigned_iq4;
use super::{
    Form, Four, Spread, half, halves, low_codes, nothing, or_masked, parted, rotate, shift_halves,
    sums, twice, wholes,
};

/// An octet with a minimum for each group.
#[derive(Clone, Copy)]
pub(super) struct WithLeast {
    q: Four,
    /// As 32-bit numbers.
    factor: __m256i,
    /// Twice each, as 16-bit numbers.
    minus: __m256i,
    d: __m256,
    least: __m256,
}

impl WithLeast {
    /// Reads a block of Q4_K or Q5_K, which start alike.
    #[inline(always)]
    unsafe fn of_k(q: Four, from: *const u8) -> Self {
        let a = from.add(4).cast::<u64>().read_unaligned();
        let c = u64::from(from.add(12).cast::<u32>().read_unaligned());
        // Four scales and four minima each.
        let low = a & 0x3f3f_3f3f_3f3f_3f3f;
        let high = (c | c << 28) & 0x0f0f_0f0f_0f0f_0f0f | (a >> 2) & 0x3030_3030_3030_3030;
        let both = _mm256_broadcastsi128_si256(_mm_set_epi64x(high as i64, low as i64));
        #[rustfmt::skip]
        let factor = _mm256_setr_epi8(
            0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1,
            8, -1, -1, -1, 9, -1, -1, -1, 10, -1, -1, -1, 11, -1, -1, -1,
        );
        #[rustfmt::skip]
        let minus = _mm256_setr_epi8(
            4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1,
            12, -1, 12, -1, 13, -1, 13, -1, 14, -1, 14, -1, 15, -1, 15, -1,
        );
        let two = _mm_cvtph_ps(_mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()));
        WithLeast {
            q,
            factor: _mm256_shuffle_epi8(both, factor),
            minus: _mm256_shuffle_epi8(both, minus),
            d: _mm256_broadcastss_ps(two),
            least: _mm256_broadcastss_ps(_mm_movehdup_ps(two)),
        }
    }

    #[inline(always)]
    unsafe fn values(&self, x: *const Octet) -> __m256 {
        let t = _mm256_mullo_epi32(wholes(halves::<5>(&self.q, x)), self.factor);
        let m = _mm256_madd_epi16(sums(x), self.minus);
        let off = _mm256_mul_ps(self.least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(self.d, _mm256_cvtepi32_ps(t), off)
    }

    #[inline(always)]
    unsafe fn spread(&self) -> Spread {
        let minus = _mm256_srli_epi32::<16>(self.minus);
        Spread {
            q: self.q,
            first: _mm256_mul_ps(self.d, _mm256_cvtepi32_ps(self.factor)),
            first_minus: _mm256_mul_ps(self.least, _mm256_cvtepi32_ps(minus)),
            ..nothing()
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q4K;

impl Form for Q4K {
    const LEAST: bool = true;
    const BIAS: i16 = 0;
    type W = WithLeast;
    #[inline(always)]
    fn bytes(self) -> usize {
        144
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> WithLeast {
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let codes = twice(from.add(16 + c * 32));
            q[c] = low_codes(_mm512_srlv_epi16(codes, shift_halves()));
        }
        WithLeast::of_k(q, from)
    }
    #[inline(always)]
    unsafe fn values(self, w: &WithLeast, x: *const Octet) -> __m256 {
        w.values(x)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &WithLeast) -> Spread {
        w.spread()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q5K;

impl Form for Q5K {
    const LEAST: bool = true;
    const BIAS: i16 = 0;
    type W = WithLeast;
    #[inline(always)]
    fn bytes(self) -> usize {
        176
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> WithLeast {
        // Bit g of a byte belongs to group g.
        let upper = twice(from.add(16));
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let codes = twice(from.add(48 + c * 32));
            let low = low_codes(_mm512_srlv_epi16(codes, shift_halves()));
            let g = 2 * c as i32;
            q[c] = or_masked(low, rotate(upper, 4 - g, 3 - g), 16);
        }
        WithLeast::of_k(q, from)
    }
    #[inline(always)]
    unsafe fn values(self, w: &WithLeast, x: *const Octet) -> __m256 {
        w.values(x)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &WithLeast) -> Spread {
        w.spread()
    }
}

/// An octet with a factor for each half of a group, and maybe a minimum.
#[derive(Clone, Copy)]
pub(super) struct Halved {
    q: Four,
    /// The factors, in the order of [`halves`].
    factor: __m512i,
    /// In their own order, as 16-bit numbers.
    pairs: __m256i,
    minus: __m256i,
    d: __m256,
    least: __m256,
}

impl Halved {
    /// One with the factors as bytes, and no minima.
    #[inline(always)]
    unsafe fn of(q: Four, factors: __m128i, d: *const u8) -> Self {
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Halved {
            q,
            factor: _mm512_cvtepi8_epi32(_mm_shuffle_epi8(factors, order)),
            pairs: _mm256_cvtepi8_epi16(factors),
            minus: _mm256_setzero_si256(),
            d: half(d),
            least: _mm256_setzero_ps(),
        }
    }

    /// `SHIFT` is such that the numbers are 2^SHIFT too large.
    #[inline(always)]
    unsafe fn values<F: Form, const BITS: u32, const SHIFT: i32>(&self, x: *const Octet) -> __m256 {
        let mut t = wholes(_mm512_mullo_epi32(halves::<BITS>(&self.q, x), self.factor));
        if F::BIAS != 0 {
            let off = _mm256_madd_epi16(sums(x), self.pairs);
            t = _mm256_sub_epi32(t, _mm256_slli_epi32::<SHIFT>(off));
        }
        if !F::LEAST {
            return _mm256_mul_ps(self.d, _mm256_cvtepi32_ps(t));
        }
        let m = _mm256_madd_epi16(sums(x), self.minus);
        let off = _mm256_mul_ps(self.least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(self.d, _mm256_cvtepi32_ps(t), off)
    }

    #[inline(always)]
    unsafe fn spread(&self) -> Spread {
        let [first, second] = parted(self.pairs);
        let [first_minus, second_minus] = parted(self.minus);
        Spread {
            q: self.q,
            first,
            second,
            first_minus,
            second_minus,
            d: _mm256_cvtss_f32(self.d),
            least: _mm256_cvtss_f32(self.least),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q6K;

impl Form for Q6K {
    const HALVES: bool = true;
    const BIAS: i16 = 32;
    type W = Halved;
    #[inline(always)]
    fn bytes(self) -> usize {
        210
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Halved {
        let mut q = [_mm512_setzero_si512(); 4];
        for half in 0..2 {
            let codes = _mm512_loadu_si512(from.add(half * 64).cast());
            let upper = twice(from.add(128 + half * 32));
            let low = low_codes(codes);
            let high = low_codes(_mm512_srli_epi16::<4>(codes));
            q[half * 2] = or_masked(low, rotate(upper, 4, 2), 48);
            q[half * 2 + 1] = or_masked(high, rotate(upper, 0, -2), 48);
        }
        let factors = _mm_loadu_si128(from.add(192).cast());
        Halved::of(q, factors, from.add(208))
    }
    #[inline(always)]
    unsafe fn values(self, w: &Halved, x: *const Octet) -> __m256 {
        w.values::<Self, 6, 5>(x)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &Halved) -> Spread {
        w.spread()
    }
}

/// Two bits of each number of groups `2 * c` and `2 * c + 1`.
#[inline(always)]
unsafe fn two_bits(codes: *const u8, c: usize) -> __m512i {
    let both = rotate(
        twice(codes.add(c / 2 * 32)),
        -4 * (c as i32 % 2),
        -4 * (c as i32 % 2) - 2,
    );
    _mm512_and_si512(both, _mm512_set1_epi8(3))
}

#[derive(Clone, Copy)]
pub(super) struct Q2K;

impl Form for Q2K {
    const HALVES: bool = true;
    const LEAST: bool = true;
    const BIAS: i16 = 0;
    type W = Halved;
    #[inline(always)]
    fn bytes(self) -> usize {
        84
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Halved {
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            q[c] = two_bits(from.add(16), c);
        }
        let both = _mm_loadu_si128(from.cast());
        let low = _mm_set1_epi8(15);
        let minus = _mm_and_si128(_mm_srli_epi16::<4>(both), low);
        Halved {
            minus: _mm256_cvtepi8_epi16(minus),
            least: half(from.add(82)),
            ..Halved::of(q, _mm_and_si128(both, low), from.add(80))
        }
    }
    #[inline(always)]
    unsafe fn values(self, w: &Halved, x: *const Octet) -> __m256 {
        w.values::<Self, 2, 0>(x)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &Halved) -> Spread {
        w.spread()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q3K;

impl Form for Q3K {
    const HALVES: bool = true;
    const BIAS: i16 = 4;
    type W = Halved;
    #[inline(always)]
    fn bytes(self) -> usize {
        110
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Halved {
        // Bit g of a byte belongs to group g.
        let upper = twice(from);
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let g = 2 * c as i32;
            q[c] = or_masked(two_bits(from.add(32), c), rotate(upper, 2 - g, 1 - g), 4);
        }
        let scales = scales_of_q3k(std::slice::from_raw_parts(from.add(96), 12));
        let scales = _mm_sub_epi8(_mm_loadu_si128(scales.as_ptr().cast()), _mm_set1_epi8(32));
        Halved::of(q, scales, from.add(108))
    }
    #[inline(always)]
    unsafe fn values(self, w: &Halved, x: *const Octet) -> __m256 {
        w.values::<Self, 3, 2>(x)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &Halved) -> Spread {
        w.spread()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Iq4Xs;

impl Form for Iq4Xs {
    const BIAS: i16 = 128;
    /// The numbers, the factors, and `d`.
    type W = (Four, __m256i, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        136
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let order = _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3);
        let four = _mm256_set_epi16(4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
        let shift = _mm512_broadcast_i64x4(four);
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let codes = _mm256_loadu_si256(from.add(8 + c * 32).cast());
            let twice = _mm512_permutexvar_epi64(order, _mm512_castsi256_si512(codes));
            let codes = low_codes(_mm512_srlv_epi16(twice, shift));
            q[c] = _mm512_shuffle_epi8(unsigned_iq4(), codes);
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
        let t = wholes(halves::<8>(q, x));
        let t = _mm256_sub_epi32(t, _mm256_madd_epi16(sums(x), _mm256_set1_epi16(128)));
        _mm256_mul_ps(*d, _mm256_cvtepi32_ps(_mm256_mullo_epi32(t, *factor)))
    }
    #[inline(always)]
    unsafe fn spread(self, (q, factor, d): &Self::W) -> Spread {
        Spread {
            q: *q,
            first: _mm256_mul_ps(*d, _mm256_cvtepi32_ps(*factor)),
            ..nothing()
        }
    }
}

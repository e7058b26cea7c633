//! How `avx2` reads the encodings of blocks of 32 numbers. Knows nothing of products.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound as the module above is: what calls these functions promises the instructions and the bytes.

use std::arch::x86_64::*;

use super::super::formats::IQ4;
use super::super::rounded::Octet;
use super::panel::{Panel, Spread};
use super::{Eight, Form, half_of_each, halves, masked, sums, wholes};

#[derive(Clone, Copy)]
pub(super) struct Q8_0;

impl Form for Q8_0 {
    type W = (Eight, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        8 * 34
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let mut w = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            w[g] = _mm256_loadu_si256(from.add(g * 34 + 2).cast());
        }
        (w, half_of_each(from, 34))
    }
    #[inline(always)]
    unsafe fn values(self, (w, d): &Self::W, x: *const Octet) -> __m256 {
        _mm256_mul_ps(*d, _mm256_cvtepi32_ps(wholes(halves::<true>(w, x))))
    }
}

impl Panel for Q8_0 {
    const SIGNED: bool = true;
    const HALVES: bool = false;
    const LEAST: bool = false;
    const BIAS: i16 = 0;
    const MOST: i32 = 128;
    #[inline(always)]
    unsafe fn spread(self, (w, d): &Self::W) -> Spread {
        Spread::of(*w, *d)
    }
}

/// The encodings of blocks of 32 with four or five bits a number: `HEAD` bytes are before the codes,
/// namely the scale, the minimum if there is one, and the fifth bits if there are any. With `TABLE`
/// the codes are those of IQ4_NL.
#[derive(Clone, Copy)]
pub(super) struct Short<const HEAD: usize, const TABLE: bool>;

impl<const HEAD: usize, const TABLE: bool> Short<HEAD, TABLE> {
    const FIFTH: bool = HEAD >= 6;
    const LEAST: bool = HEAD == 4 || HEAD == 8;
    const BLOCK: usize = HEAD + 16;
    /// How much too large the numbers in registers are.
    const BIAS: i16 = match (TABLE, Self::LEAST, Self::FIFTH) {
        (false, false, true) => 16,
        (false, false, false) => 8,
        _ => 0,
    };
}

impl<const HEAD: usize, const TABLE: bool> Form for Short<HEAD, TABLE> {
    /// The numbers, `d`, and `least`.
    type W = (Eight, __m256, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        8 * Self::BLOCK
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let mut q = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            let codes = from.add(g * Self::BLOCK + HEAD);
            q[g] = four_bits(codes);
            if TABLE {
                q[g] = from_table(q[g]);
            }
            if Self::FIFTH {
                // Each byte has its own bit of the four bytes before the codes.
                let bits = _mm256_set1_epi32(codes.sub(4).cast::<i32>().read_unaligned());
                #[rustfmt::skip]
                let place = _mm256_setr_epi8(
                    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                    2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
                );
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
                let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, place), bit);
                let is_set = _mm256_cmpeq_epi8(bits, bit);
                q[g] = _mm256_or_si256(q[g], masked(is_set, 16));
            }
        }
        let mut least = _mm256_setzero_ps();
        if Self::LEAST {
            let minimum = half_of_each(from.add(2), Self::BLOCK);
            least = _mm256_xor_ps(minimum, _mm256_set1_ps(-0.0));
        }
        (q, half_of_each(from, Self::BLOCK), least)
    }
    #[inline(always)]
    unsafe fn values(self, (q, d, least): &Self::W, x: *const Octet) -> __m256 {
        let mut t = wholes(halves::<TABLE>(q, x));
        if Self::BIAS != 0 {
            let off = _mm256_madd_epi16(sums(x), _mm256_set1_epi16(Self::BIAS));
            t = _mm256_sub_epi32(t, off);
        }
        if !Self::LEAST {
            return _mm256_mul_ps(*d, _mm256_cvtepi32_ps(t));
        }
        let m = _mm256_madd_epi16(sums(x), _mm256_set1_epi16(1));
        let off = _mm256_mul_ps(*least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(*d, _mm256_cvtepi32_ps(t), off)
    }
}

impl<const HEAD: usize, const TABLE: bool> Panel for Short<HEAD, TABLE> {
    const SIGNED: bool = TABLE;
    const HALVES: bool = false;
    const LEAST: bool = Self::LEAST;
    const BIAS: i16 = Self::BIAS;
    const MOST: i32 = match (TABLE, Self::FIFTH) {
        (true, _) => 127,
        (false, true) => 31,
        (false, false) => 15,
    };
    #[inline(always)]
    unsafe fn spread(self, (q, d, least): &Self::W) -> Spread {
        Spread {
            first_minus: *least,
            ..Spread::of(*q, *d)
        }
    }
}

/// The lower four bits of sixteen bytes, then the upper.
#[inline(always)]
pub(super) unsafe fn four_bits(from: *const u8) -> __m256i {
    let codes = _mm_loadu_si128(from.cast());
    masked(_mm256_set_m128i(_mm_srli_epi16::<4>(codes), codes), 15)
}

/// What codes of IQ4_NL stand for.
#[inline(always)]
pub(super) unsafe fn from_table(codes: __m256i) -> __m256i {
    let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4.as_ptr().cast()));
    _mm256_shuffle_epi8(table, codes)
}

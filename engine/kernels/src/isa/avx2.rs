//! The vector operations on AVX2 with FMA and F16C.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "see the trait for who promises what"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Isa;
use crate::compact::{GroupOffsets, RowHead};

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[inline(always)]
unsafe fn part_bf16(both: __m256i) -> [__m256; 2] {
    let even = _mm256_slli_epi32::<16>(both);
    let odd = _mm256_and_si256(both, _mm256_set1_epi32(!0xffff));
    [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)]
}

impl Isa for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const HAS_AVX2: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> __m256 {
        let halves = _mm_loadu_si128(from.cast());
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [__m256; 2] {
        part_bf16(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn part([a, b]: [__m256; 2]) -> [__m256; 2] {
        // Within each half of the vectors, then the quarters in order.
        let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
        let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
        [
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(even)),
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(odd)),
        ]
    }
    /// The exponents that the codes stand for.
    type Key = __m128i;
    #[inline(always)]
    unsafe fn key(head: RowHead) -> __m128i {
        let codes = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let above = _mm_add_epi8(codes, _mm_set1_epi8(head.base.cast_signed()));
        let zero = _mm_set1_epi8(head.of_zero.cast_signed());
        _mm_blendv_epi8(above, zero, _mm_cmpeq_epi8(codes, _mm_setzero_si128()))
    }
    #[inline(always)]
    unsafe fn load_compact_pair(group: *const u8, at: usize, key: __m128i) -> [__m256; 2] {
        let offsets = GroupOffsets::of(at);
        let codes = _mm_loadu_si128(group.add(offsets.codes).cast());
        let codes = if offsets.shift == 0 {
            codes
        } else {
            _mm_srli_epi16::<4>(codes)
        };
        let codes = _mm_and_si128(codes, _mm_set1_epi8(15));
        let exponents = _mm256_cvtepu8_epi16(_mm_shuffle_epi8(key, codes));
        // Widened with its sign, a tail has it at both ends of the number: the upper one is wanted.
        let tails = _mm256_cvtepi8_epi16(_mm_loadu_si128(group.add(offsets.tails).cast()));
        let tails = _mm256_and_si256(tails, _mm256_set1_epi16(0x807f_u16.cast_signed()));
        part_bf16(_mm256_or_si256(tails, _mm256_slli_epi16::<7>(exponents)))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        _mm256_storeu_ps(to, v)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        _mm256_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn round(v: __m256) -> __m256 {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: __m256) -> __m256 {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        sum(v)
    }
    #[inline(always)]
    unsafe fn top(v: __m256) -> f32 {
        top(v)
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(address.cast())
    }
    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(address.cast())
    }
}

/// The sum of eight lanes.
#[inline(always)]
pub(super) unsafe fn sum(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The largest of eight lanes.
#[inline(always)]
pub(super) unsafe fn top(v: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

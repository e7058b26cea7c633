//! The vector operations on AVX-512.
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
pub(crate) struct Avx512<const ASKS_TWICE: bool = false>;

/// The exponents that the codes of a compact row stand for, in their places, twice: a permutation
/// looks at five bits of its index, and what is above a code's four then does not matter.
#[derive(Clone, Copy)]
pub(crate) struct Key(__m512i);

impl Key {
    #[inline(always)]
    pub unsafe fn of(head: RowHead) -> Self {
        let codes = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let codes = _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(codes));
        let above = _mm512_add_epi16(codes, _mm512_set1_epi16(i16::from(head.base)));
        let zero = _mm512_set1_epi16(i16::from(head.of_zero));
        let is_zero = _mm512_testn_epi16_mask(codes, codes);
        Key(_mm512_slli_epi16::<7>(_mm512_mask_mov_epi16(
            above, is_zero, zero,
        )))
    }

    /// 32 numbers of a group, strays not minded, from place `at` (a multiple of 32) on.
    ///
    /// # Safety
    /// The group is readable.
    #[inline(always)]
    pub unsafe fn numbers(self, group: *const u8, at: usize) -> __m512i {
        let offsets = GroupOffsets::of(at);
        let codes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(group.add(offsets.codes).cast()));
        let codes = if offsets.shift == 0 {
            codes
        } else {
            _mm512_srli_epi16::<4>(codes)
        };
        let exponents = _mm512_permutexvar_epi16(codes, self.0);
        // Widened with its sign, a tail has it at both ends of the number: the upper one is wanted.
        let tails = _mm512_cvtepi8_epi16(_mm256_loadu_si256(group.add(offsets.tails).cast()));
        let kept = _mm512_set1_epi16(0x807f_u16 as i16);
        const EITHER_OF_BOTH: i32 = 0b1110_1010;
        _mm512_ternarylogic_epi64::<EITHER_OF_BOTH>(tails, kept, exponents)
    }
}

#[inline(always)]
unsafe fn part_bf16(both: __m512i) -> [__m512; 2] {
    let even = _mm512_slli_epi32::<16>(both);
    let odd = _mm512_and_si512(both, _mm512_set1_epi32(!0xffff));
    [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)]
}

impl<const ASKS_TWICE: bool> Isa for Avx512<ASKS_TWICE> {
    type V = __m512;
    const LANES: usize = 16;
    const SUMS: usize = 16;
    const HAS_AVX2: bool = true;
    const ASKS_TWICE: bool = ASKS_TWICE;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> __m512 {
        let halves = _mm256_loadu_si256(from.cast());
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [__m512; 2] {
        part_bf16(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn part([a, b]: [__m512; 2]) -> [__m512; 2] {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        [
            _mm512_permutex2var_ps(a, even, b),
            _mm512_permutex2var_ps(a, odd, b),
        ]
    }
    type Key = Key;
    #[inline(always)]
    unsafe fn key(head: RowHead) -> Key {
        Key::of(head)
    }
    #[inline(always)]
    unsafe fn load_compact_pair(group: *const u8, at: usize, key: Key) -> [__m512; 2] {
        part_bf16(key.numbers(group, at))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        _mm512_storeu_ps(to, v)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: __m512) -> __m512 {
        _mm512_scalef_ps(_mm512_set1_ps(1.0), v)
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        let low = _mm512_castps512_ps256(v);
        let high = _mm512_extractf32x8_ps::<1>(v);
        super::avx2::sum(_mm256_add_ps(low, high))
    }
    #[inline(always)]
    unsafe fn top(v: __m512) -> f32 {
        let low = _mm512_castps512_ps256(v);
        let high = _mm512_extractf32x8_ps::<1>(v);
        super::avx2::top(_mm256_max_ps(low, high))
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

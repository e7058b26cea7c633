//! The rounding of `rounded.rs` with AVX-512, for whole octets. Knows nothing of weights.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound because the caller promises the instructions, and reads and writes stay inside the octets.

use std::arch::x86_64::*;

use super::super::rounded::{GROUP, INFINITE, OCTET, Octet, TINY};
use super::halves;

/// What `rounded.rs` defines, for whole octets.
///
/// # Safety
/// The instructions are supported.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in super::super) unsafe fn round(x: &[[f32; OCTET]], out: &mut [Octet]) {
    for (x, out) in x.iter().zip(out) {
        let at = |i: usize| _mm512_loadu_ps(x.as_ptr().add(i));
        // The bits of the largest of each group: eight of each, then one.
        let mut top = [_mm256_setzero_si256(); 8];
        for g in 0..8 {
            let (a, b) = (
                _mm512_castps_si512(at(g * GROUP)),
                _mm512_castps_si512(at(g * GROUP + 16)),
            );
            let no_sign = _mm512_set1_epi32(0x7fff_ffff);
            let both = _mm512_max_epi32(_mm512_and_si512(a, no_sign), _mm512_and_si512(b, no_sign));
            top[g] = _mm256_max_epi32(
                _mm512_castsi512_si256(both),
                _mm512_extracti64x4_epi64::<1>(both),
            );
        }
        let mut four = [_mm256_setzero_si256(); 2];
        for i in 0..2 {
            let [a, b, c, d] = [top[4 * i], top[4 * i + 1], top[4 * i + 2], top[4 * i + 3]];
            let ab = _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_max_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            four[i] =
                _mm256_max_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        }
        let top = _mm256_max_epi32(
            _mm256_permute2x128_si256::<0x20>(four[0], four[1]),
            _mm256_permute2x128_si256::<0x31>(four[0], four[1]),
        );
        let large = _mm256_cmpge_epi32_mask(top, _mm256_set1_epi32(TINY.cast_signed()));
        let finite = _mm256_cmplt_epi32_mask(top, _mm256_set1_epi32(INFINITE.cast_signed()));
        let top = _mm256_castsi256_ps(top);
        let most = _mm256_set1_ps(127.0);
        let scale = _mm256_maskz_div_ps(large, top, most);
        let scale = _mm256_mask_blend_ps(finite, _mm256_set1_ps(f32::NAN), scale);
        _mm256_store_ps(out.scale.as_mut_ptr(), scale);
        // Of a group without a scale the inverse is 0, and its numbers become 0: what is no number
        // becomes a whole number whose lowest bits are 0.
        let inverse = _mm256_maskz_div_ps(large & finite, most, top);
        let mut inverses = [0.0f32; 8];
        _mm256_storeu_ps(inverses.as_mut_ptr(), inverse);
        for g in 0..8 {
            let inverse = _mm512_set1_ps(inverses[g]);
            for i in [g * GROUP, g * GROUP + 16] {
                let whole = _mm512_cvt_roundps_epi32::<
                    { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
                >(_mm512_mul_ps(at(i), inverse));
                _mm_storeu_si128(
                    out.q.as_mut_ptr().add(i).cast(),
                    _mm512_cvtepi32_epi8(whole),
                );
            }
        }
        // Products with ones.
        let sums = halves::<1>(&[_mm512_set1_epi8(1); 4], out);
        // Undoes the order of `halves`.
        let back = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let sums = _mm512_cvtepi32_epi16(_mm512_permutexvar_epi32(back, sums));
        _mm256_store_si256(out.sums.as_mut_ptr().cast(), sums);
    }
}

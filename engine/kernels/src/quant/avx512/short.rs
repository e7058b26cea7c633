//! How `avx512` reads the encodings of blocks of 32 numbers. Knows nothing of products.
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
use super::{Form, Four, Spread, halves, low_codes, nothing, sums, wholes};

#[derive(Clone, Copy)]
pub(super) struct Q8_0;

impl Form for Q8_0 {
    const BIAS: i16 = 128;
    type W = (Four, __m256);
    #[inline(always)]
    fn bytes(self) -> usize {
        8 * 34
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::W {
        let mut w = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let first = _mm256_loadu_si256(from.add(c * 68 + 2).cast());
            let second = _mm256_loadu_si256(from.add(c * 68 + 36).cast());
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            w[c] = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
        }
        // The scales of two blocks are words 0 and 17 of what starts with them.
        let at = |c: usize| _mm512_loadu_si512(from.add(c * 68).cast());
        let take = _mm512_castsi128_si512(_mm_setr_epi16(0, 17, 32, 49, 0, 0, 0, 0));
        let low = _mm512_permutex2var_epi16(at(0), take, at(1));
        let high = _mm512_permutex2var_epi16(at(2), take, at(3));
        let halves = _mm_unpacklo_epi64(_mm512_castsi512_si128(low), _mm512_castsi512_si128(high));
        (w, _mm256_cvtph_ps(halves))
    }
    #[inline(always)]
    unsafe fn values(self, (w, d): &Self::W, x: *const Octet) -> __m256 {
        let t = wholes(halves::<8>(w, x));
        let t = _mm256_sub_epi32(t, _mm256_madd_epi16(sums(x), _mm256_set1_epi16(128)));
        _mm256_mul_ps(*d, _mm256_cvtepi32_ps(t))
    }
    #[inline(always)]
    unsafe fn spread(self, (q, d): &Self::W) -> Spread {
        Spread {
            q: *q,
            first: *d,
            ..nothing()
        }
    }
}

/// The encodings of blocks of 32 with four or five bits a number: `HEAD` bytes are before the codes,
/// namely the scale, the minimum if there is one, and the fifth bits if there are any. With `TABLE`
/// the codes are those of IQ4_NL.
#[derive(Clone, Copy)]
pub(super) struct Short<const HEAD: usize, const TABLE: bool>;

/// What is taken off to get the minimum in its place: it is added to the numbers there.
#[derive(Clone, Copy)]
pub(super) struct ShortW {
    q: Four,
    d: __m256,
    least: __m256,
}

impl<const HEAD: usize, const TABLE: bool> Short<HEAD, TABLE> {
    const FIFTH: bool = HEAD >= 6;
    const BLOCK: usize = HEAD + 16;
    /// Where two blocks each are loaded from; the last ones earlier, so that nothing behind them is
    /// read.
    const AT: [usize; 4] = [0, 2 * Self::BLOCK, 4 * Self::BLOCK, 8 * Self::BLOCK - 64];
    /// How many words earlier.
    const EARLY: i16 = (32 - Self::BLOCK) as i16;

    /// The word at a place of each block.
    #[inline(always)]
    unsafe fn of_each(raw: &Four, word: i16) -> __m256 {
        let (step, early) = ((Self::BLOCK / 2) as i16, Self::EARLY);
        let (a, b) = (word, word + step);
        if b + 2 * step < 32 {
            let (c, d) = (b + step, b + 2 * step);
            let take = _mm_setr_epi16(a, b, c, d, 32 + a, 32 + b, 32 + c, 32 + d);
            let both = _mm512_permutex2var_epi16(raw[0], _mm512_castsi128_si512(take), raw[2]);
            return _mm256_cvtph_ps(_mm512_castsi512_si128(both));
        }
        let take = _mm_setr_epi16(a, b, 32 + a, 32 + b, 0, 0, 0, 0);
        let low = _mm512_permutex2var_epi16(raw[0], _mm512_castsi128_si512(take), raw[1]);
        let take = _mm_setr_epi16(a, b, 32 + a + early, 32 + b + early, 0, 0, 0, 0);
        let high = _mm512_permutex2var_epi16(raw[2], _mm512_castsi128_si512(take), raw[3]);
        _mm256_cvtph_ps(_mm_unpacklo_epi64(
            _mm512_castsi512_si128(low),
            _mm512_castsi512_si128(high),
        ))
    }
}

impl<const HEAD: usize, const TABLE: bool> Form for Short<HEAD, TABLE> {
    const LEAST: bool = HEAD == 4 || HEAD == 8;
    const BIAS: i16 = if TABLE {
        128
    } else if Self::LEAST {
        0
    } else if Self::FIFTH {
        16
    } else {
        8
    };
    type W = ShortW;
    #[inline(always)]
    fn bytes(self) -> usize {
        8 * Self::BLOCK
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> ShortW {
        let mut raw = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            raw[c] = _mm512_loadu_si512(from.add(Self::AT[c]).cast());
        }
        // The codes of each block twice: the lower ones are its first half, the upper its second.
        let first = _mm_add_epi16(
            _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7),
            _mm_set1_epi16((HEAD / 2) as i16),
        );
        let second = _mm_add_epi16(first, _mm_set1_epi16((Self::BLOCK / 2) as i16));
        let words = _mm512_inserti64x4::<1>(
            _mm512_castsi256_si512(_mm256_broadcastsi128_si256(first)),
            _mm256_broadcastsi128_si256(second),
        );
        let last_words = _mm512_add_epi16(words, _mm512_set1_epi16(Self::EARLY));
        let four = _mm256_set_epi16(4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
        let shift = _mm512_broadcast_i64x4(four);
        let mut q = [_mm512_setzero_si512(); 4];
        for c in 0..4 {
            let words = if c == 3 { last_words } else { words };
            let twice = _mm512_permutexvar_epi16(words, raw[c]);
            q[c] = low_codes(_mm512_srlv_epi16(twice, shift));
            if TABLE {
                q[c] = _mm512_shuffle_epi8(unsigned_iq4(), q[c]);
            }
            if Self::FIFTH {
                let bits = |block: usize| {
                    let at = from.add(block * Self::BLOCK + HEAD - 4);
                    u64::from(at.cast::<u32>().read_unaligned())
                };
                let mask = bits(2 * c) | bits(2 * c + 1) << 32;
                q[c] = _mm512_mask_add_epi8(q[c], mask, q[c], _mm512_set1_epi8(16));
            }
        }
        let mut least = _mm256_setzero_ps();
        if Self::LEAST {
            least = _mm256_xor_ps(Self::of_each(&raw, 1), _mm256_set1_ps(-0.0));
        }
        ShortW {
            q,
            d: Self::of_each(&raw, 0),
            least,
        }
    }
    #[inline(always)]
    unsafe fn values(self, w: &ShortW, x: *const Octet) -> __m256 {
        let v = if TABLE {
            halves::<8>(&w.q, x)
        } else {
            halves::<5>(&w.q, x)
        };
        let t = wholes(v);
        let m = _mm256_madd_epi16(
            sums(x),
            _mm256_set1_epi16(if Self::LEAST { 1 } else { Self::BIAS }),
        );
        if !Self::LEAST {
            return _mm256_mul_ps(w.d, _mm256_cvtepi32_ps(_mm256_sub_epi32(t, m)));
        }
        let off = _mm256_mul_ps(w.least, _mm256_cvtepi32_ps(m));
        _mm256_fmsub_ps(w.d, _mm256_cvtepi32_ps(t), off)
    }
    #[inline(always)]
    unsafe fn spread(self, w: &ShortW) -> Spread {
        Spread {
            q: w.q,
            first: w.d,
            first_minus: w.least,
            ..nothing()
        }
    }
}

/// What the codes of IQ4_NL stand for, and 128 more.
#[inline(always)]
pub(super) unsafe fn unsigned_iq4() -> __m512i {
    let table = _mm_loadu_si128(IQ4.as_ptr().cast());
    let table = _mm_xor_si128(table, _mm_set1_epi8(-128));
    _mm512_broadcast_i32x4(table)
}

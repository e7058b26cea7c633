//! The products of `product.rs` with AVX2, FMA and F16C. Bytes are multiplied unsigned by signed,
//! and added in pairs to 16 bits, which none of the encodings fills: where weights may be large and
//! signed, their signs are moved to the activations.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Every function needs the instructions, which `dot` promises, and as many readable bytes as the
// form says. What is not `dot` is inlined there.

use std::arch::x86_64::*;

use encoding::Encoding;

use super::product::{MAX_TOGETHER, Rows, not_quantised};
use super::rounded::{GROUP, Octet};

mod long;
mod panel;
mod short;

use long::{Iq4Xs, K, Low, Q6K};
use panel::Panel;
use short::{Q8_0, Short};

/// Activation rows from which weight rows are unpacked to a panel.
const PANEL_FROM: usize = 8;

/// How far ahead memory is asked for.
const AHEAD_BYTES: usize = 8 * 1024;

/// How the octets of an encoding are read.
trait Form: Copy {
    /// An octet in registers.
    type W: Copy;
    /// Bytes of an octet.
    fn bytes(self) -> usize;
    unsafe fn load(self, from: *const u8) -> Self::W;
    /// The contributions of the groups, short of the activations' scales.
    unsafe fn values(self, w: &Self::W, x: *const Octet) -> __m256;
}

/// # Safety
/// The instructions are supported, each of `x` has the octets of a row, each of `out` a number for
/// every row, and there are at most [`MAX_IN_PANEL`] of them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot(rows: Rows<'_>, x: &[&[Octet]], out: &mut [&mut [f32]]) {
    match rows.encoding {
        Encoding::Q8_0 => in_panels(Q8_0, rows, x, out),
        Encoding::Q4_0 => in_panels(Short::<2, false>, rows, x, out),
        Encoding::Q4_1 => in_panels(Short::<4, false>, rows, x, out),
        Encoding::Q5_0 => in_panels(Short::<6, false>, rows, x, out),
        Encoding::Q5_1 => in_panels(Short::<8, false>, rows, x, out),
        Encoding::Iq4Nl => in_panels(Short::<2, true>, rows, x, out),
        Encoding::Q2K => in_panels(Low::<false>, rows, x, out),
        Encoding::Q3K => in_panels(Low::<true>, rows, x, out),
        Encoding::Q4K => in_panels(K::<false>, rows, x, out),
        Encoding::Q5K => in_panels(K::<true>, rows, x, out),
        Encoding::Q6K => in_panels(Q6K, rows, x, out),
        Encoding::Iq4Xs => in_panels(Iq4Xs, rows, x, out),
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => not_quantised(rows.encoding),
    }
}

/// A function for each encoding: one of all of them takes the compiler much longer.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn in_panels<F: Panel>(form: F, rows: Rows<'_>, x: &[&[Octet]], out: &mut [&mut [f32]]) {
    let mut done = 0;
    if x.len() >= PANEL_FROM {
        while done + panel::ROWS <= rows.count() {
            let first = rows.bytes.as_ptr().add(done * rows.row_bytes);
            panel::products(form, first, rows.row_bytes, x, out, done);
            done += panel::ROWS;
        }
    }
    each_row(form, rows, done, x, out);
}

/// The rows from the `first` on, one after the other.
#[inline(always)]
unsafe fn each_row<F: Form>(
    form: F,
    rows: Rows<'_>,
    first: usize,
    x: &[&[Octet]],
    out: &mut [&mut [f32]],
) {
    for r in first..rows.count() {
        let row = rows.bytes.as_ptr().add(r * rows.row_bytes);
        if let ([x], [out]) = (x, &mut *out) {
            let mut lanes = [_mm256_setzero_ps()];
            each_octet(form, row, rows.row_bytes, [x.as_ptr()], 1, &mut lanes);
            out[r] = total(lanes[0]);
            continue;
        }
        for (x, out) in x.chunks(MAX_TOGETHER).zip(out.chunks_mut(MAX_TOGETHER)) {
            let mut lanes = [_mm256_setzero_ps(); MAX_TOGETHER];
            let mut xs = [std::ptr::null(); MAX_TOGETHER];
            for n in 0..x.len() {
                xs[n] = x[n].as_ptr();
            }
            each_octet(form, row, rows.row_bytes, xs, x.len(), &mut lanes);
            for n in 0..x.len() {
                out[n][r] = total(lanes[n]);
            }
        }
    }
}

#[inline(always)]
unsafe fn each_octet<F: Form, const N: usize>(
    form: F,
    row: *const u8,
    row_bytes: usize,
    x: [*const Octet; N],
    count: usize,
    lanes: &mut [__m256; N],
) {
    let whole = row_bytes / form.bytes();
    for i in 0..whole {
        let from = row.add(i * form.bytes());
        for line in 0..form.bytes().div_ceil(64) {
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD_BYTES + line * 64).cast());
        }
        let w = form.load(from);
        for n in 0..count {
            lanes[n] = add(form, &w, x[n].add(i), lanes[n]);
        }
    }
    if !row_bytes.is_multiple_of(form.bytes()) {
        let w = load_rest(form, row, row_bytes);
        for n in 0..count {
            lanes[n] = add(form, &w, x[n].add(whole), lanes[n]);
        }
    }
}

/// The last octet of a row of short blocks, filled up with zeros, whose contributions are none.
#[inline(always)]
unsafe fn load_rest<F: Form>(form: F, row: *const u8, row_bytes: usize) -> F::W {
    let mut padded = [0u8; 9 * GROUP];
    let rest = row_bytes % form.bytes();
    std::ptr::copy_nonoverlapping(row.add(row_bytes - rest), padded.as_mut_ptr(), rest);
    form.load(padded.as_ptr())
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

/// A group each.
type Eight = [__m256i; 8];

/// The sums of products over the first halves of the groups, and over the second halves. With `SIGNED`
/// the weights are signed, else they are not and below 128.
#[inline(always)]
unsafe fn halves<const SIGNED: bool>(w: &Eight, x: *const Octet) -> [__m256i; 2] {
    let x: *const u8 = x.cast();
    let mut p = [_mm256_setzero_si256(); 8];
    for g in 0..8 {
        let x = _mm256_load_si256(x.add(g * GROUP).cast());
        let pairs = if SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), _mm256_sign_epi8(x, w[g]))
        } else {
            _mm256_maddubs_epi16(w[g], x)
        };
        p[g] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    let low = four_sums(p[0], p[1], p[2], p[3]);
    let high = four_sums(p[4], p[5], p[6], p[7]);
    [
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    ]
}

/// The sum of each vector's first half, and of each one's second half.
#[inline(always)]
unsafe fn four_sums(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

#[inline(always)]
unsafe fn wholes([first, second]: [__m256i; 2]) -> __m256i {
    _mm256_add_epi32(first, second)
}

#[inline(always)]
unsafe fn sums(x: *const Octet) -> __m256i {
    _mm256_load_si256((*x).sums.as_ptr().cast())
}

/// A half number to all lanes.
#[inline(always)]
unsafe fn half(from: *const u8) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(from.cast::<i16>().read_unaligned()))
}

/// The half numbers that start each of eight blocks.
#[inline(always)]
unsafe fn half_of_each(from: *const u8, block: usize) -> __m256 {
    let mut halves = [0i16; 8];
    for (g, half) in halves.iter_mut().enumerate() {
        *half = from.add(g * block).cast::<i16>().read_unaligned();
    }
    let [a, b, c, d, e, f, g, h] = halves;
    _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h))
}

#[inline(always)]
unsafe fn masked(v: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(v, _mm256_set1_epi8(mask))
}

/// Shifts to the left, or to the right by what is negative. Bits pass from byte to byte.
#[inline(always)]
unsafe fn shifted(v: __m256i, left: i32) -> __m256i {
    if left >= 0 {
        _mm256_sllv_epi32(v, _mm256_set1_epi32(left))
    } else {
        _mm256_srlv_epi32(v, _mm256_set1_epi32(-left))
    }
}

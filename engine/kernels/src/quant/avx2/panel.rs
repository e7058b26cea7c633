//! Several activation rows at once with AVX2: eight weight rows are unpacked together, four numbers of
//! each side by side, so that a vector's lanes are the rows and nothing is added across lanes. Pairs
//! of products are added up in 16 bits for as long as they cannot fill them. Bytes are multiplied
//! unsigned by signed: signs of weights are moved to the activations. The products are those
//! of `product.rs`, to the bit: all that is done in f32 there is done in the same order here, and
//! factors are merged only where the product of both is exact.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound as the module above is: the one entry is inlined into its `dot`, which promises the instructions
// and as many octets as the rows have.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::{AHEAD_BYTES, Eight, Form, load_rest};
use crate::quant::product::MAX_IN_PANEL;
use crate::quant::rounded::Octet;

/// Weight rows of a panel: the lanes of a vector.
pub(super) const ROWS: usize = 8;
/// Octets, of eight rows each, that are unpacked before the activation rows pass over them: what the
/// first-level cache holds.
const DEEP: usize = 4;
/// Activation rows that meet a vector of weights together.
const TOGETHER: usize = 4;

/// An octet of eight rows. Fields that an encoding has no use for stay unset.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Strip {
    /// Four numbers of each row after the other.
    q: [[u8; 32]; 64],
    /// What a group's integer is multiplied with: `d * factor`. Where the halves of a group differ,
    /// the factor of the first alone,
    first: [[f32; ROWS]; 8],
    /// and that of the second,
    second: [[f32; ROWS]; 8],
    /// and `d`.
    d: [f32; ROWS],
    /// What the sum of a group's activations is multiplied with: `least * minus`. Where the halves
    /// differ, the first half's `minus` alone,
    first_minus: [[f32; ROWS]; 8],
    /// and the second's,
    second_minus: [[f32; ROWS]; 8],
    /// and `least`.
    least: [f32; ROWS],
}

/// Eight lanes for each of eight rows.
type Lanes = [[f32; ROWS]; 8];

/// An octet of a row, spread out: what it needs of the fields of a [`Strip`], a group each.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub q: Eight,
    pub first: __m256,
    pub second: __m256,
    pub first_minus: __m256,
    pub second_minus: __m256,
    pub d: f32,
    pub least: f32,
}

impl Spread {
    #[inline(always)]
    pub unsafe fn of(q: Eight, first: __m256) -> Self {
        Spread {
            q,
            first,
            second: _mm256_setzero_ps(),
            first_minus: _mm256_setzero_ps(),
            second_minus: _mm256_setzero_ps(),
            d: 0.0,
            least: 0.0,
        }
    }
}

/// What the products of several rows have to know of an encoding.
pub(super) trait Panel: Form {
    /// Whether the numbers in registers are signed.
    const SIGNED: bool = false;
    /// Whether the halves of a group have factors of their own.
    const HALVES: bool;
    /// Whether something is taken off all numbers of a group.
    const LEAST: bool;
    /// How much too large the numbers in registers are.
    const BIAS: i16;
    /// The largest of them, without its sign.
    const MOST: i32;
    unsafe fn spread(self, w: &Self::W) -> Spread;
}

/// Vectors of pairs that 16 bits hold the sum of: of four numbers of a row each.
const fn in_16_bits(most: i32, halves: bool) -> usize {
    let pairs = (i16::MAX as i32 / (2 * most * 127)) as usize;
    let all = if halves { 4 } else { 8 };
    // As many in each round.
    match pairs {
        8.. => all,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// The products of eight rows with up to [`MAX_IN_PANEL`] activation rows, to `out[n][at..at + 8]`.
///
/// # Safety
/// The instructions are supported; all of `x` have the octets of a row, all of `out` the places.
#[inline(always)]
pub(super) unsafe fn products<F: Panel>(
    form: F,
    rows: *const u8,
    row_bytes: usize,
    x: &[&[Octet]],
    out: &mut [&mut [f32]],
    at: usize,
) {
    // Left unset but for what is used.
    let mut lanes = MaybeUninit::<[Lanes; MAX_IN_PANEL]>::uninit();
    let lanes: *mut Lanes = lanes.as_mut_ptr().cast();
    std::ptr::write_bytes(lanes, 0, x.len());
    let mut strips = MaybeUninit::<[Strip; DEEP]>::uninit();
    let strips: *mut Strip = strips.as_mut_ptr().cast();
    let octets = row_bytes.div_ceil(form.bytes());
    let mut octet = 0;
    while octet < octets {
        let deep = DEEP.min(octets - octet);
        for i in 0..deep {
            fill(form, rows, row_bytes, octet + i, strips.add(i));
        }
        let mut n = 0;
        while n + TOGETHER <= x.len() {
            let xs: [_; TOGETHER] = std::array::from_fn(|k| x[n + k].as_ptr().wrapping_add(octet));
            multiply::<F, TOGETHER>(strips, deep, xs, lanes.add(n));
            n += TOGETHER;
        }
        while n < x.len() {
            multiply::<F, 1>(strips, deep, [x[n].as_ptr().add(octet)], lanes.add(n));
            n += 1;
        }
        octet += deep;
    }
    for (n, out) in out.iter_mut().enumerate() {
        let mut l = [_mm256_setzero_ps(); 8];
        for g in 0..8 {
            l[g] = _mm256_loadu_ps((*lanes.add(n))[g].as_ptr());
        }
        let even = _mm256_add_ps(_mm256_add_ps(l[0], l[4]), _mm256_add_ps(l[2], l[6]));
        let odd = _mm256_add_ps(_mm256_add_ps(l[1], l[5]), _mm256_add_ps(l[3], l[7]));
        let to = &mut out[at..at + ROWS];
        _mm256_storeu_ps(to.as_mut_ptr(), _mm256_add_ps(even, odd));
    }
}

/// Unpacks one octet of the eight rows, and asks for what lies further in each.
#[inline(always)]
unsafe fn fill<F: Panel>(form: F, rows: *const u8, row_bytes: usize, octet: usize, to: *mut Strip) {
    let mut q = [[_mm256_setzero_si256(); 8]; ROWS];
    let mut numbers = [[_mm256_setzero_ps(); ROWS]; 4];
    for r in 0..ROWS {
        let row = rows.add(r * row_bytes);
        let from = row.wrapping_add(octet * form.bytes());
        for line in 0..form.bytes().div_ceil(64) {
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD_BYTES + line * 64).cast());
        }
        let w = if (octet + 1) * form.bytes() <= row_bytes {
            form.load(from)
        } else {
            load_rest(form, row, row_bytes)
        };
        let spread = form.spread(&w);
        q[r] = spread.q;
        numbers[0][r] = spread.first;
        numbers[1][r] = spread.second;
        numbers[2][r] = spread.first_minus;
        numbers[3][r] = spread.second_minus;
        if F::HALVES {
            (*to).d[r] = spread.d;
            (*to).least[r] = spread.least;
        }
    }
    for g in 0..8 {
        let words: [__m256; 8] = std::array::from_fn(|r| _mm256_castsi256_ps(q[r][g]));
        for (k, word) in turned(words).into_iter().enumerate() {
            let to = (*to).q[g * 8 + k].as_mut_ptr();
            _mm256_store_si256(to.cast(), _mm256_castps_si256(word));
        }
    }
    store(numbers[0], &mut (*to).first);
    if F::HALVES {
        store(numbers[1], &mut (*to).second);
    }
    if F::LEAST {
        store(numbers[2], &mut (*to).first_minus);
        if F::HALVES {
            store(numbers[3], &mut (*to).second_minus);
        }
    }
}

#[inline(always)]
unsafe fn store(rows: [__m256; ROWS], to: &mut [[f32; ROWS]; 8]) {
    for (column, to) in turned(rows).into_iter().zip(to) {
        _mm256_storeu_ps(to.as_mut_ptr(), column);
    }
}

/// Rows become columns, in words of 32 bits.
#[inline(always)]
unsafe fn turned(v: [__m256; 8]) -> [__m256; 8] {
    let mut a = v;
    // Within halves: of four rows each, the words side by side.
    for r in [0, 4] {
        let (st0, st1) = (
            _mm256_unpacklo_ps(v[r], v[r + 1]),
            _mm256_unpackhi_ps(v[r], v[r + 1]),
        );
        let (uw0, uw1) = (
            _mm256_unpacklo_ps(v[r + 2], v[r + 3]),
            _mm256_unpackhi_ps(v[r + 2], v[r + 3]),
        );
        a[r] = _mm256_shuffle_ps::<0b01_00_01_00>(st0, uw0);
        a[r + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(st0, uw0);
        a[r + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(st1, uw1);
        a[r + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(st1, uw1);
    }
    let mut out = v;
    for k in 0..4 {
        out[k] = _mm256_permute2f128_ps::<0x20>(a[k], a[4 + k]);
        out[4 + k] = _mm256_permute2f128_ps::<0x31>(a[k], a[4 + k]);
    }
    out
}

/// What of an activation row's octet each group needs.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Sums {
    /// Where the integer sums start: what is taken off for the bias.
    start: [[i32; 8]; 2],
    /// The sums of the activations themselves.
    sum: [[f32; 8]; 2],
}

impl Sums {
    #[inline(always)]
    unsafe fn of<F: Panel>(x: *const Octet) -> Self {
        let mut all = Sums {
            start: [[0; 8]; 2],
            sum: [[0.0; 8]; 2],
        };
        let pairs = super::sums(x);
        // Of both halves, or of each.
        let chosen: [i32; 2] = if F::HALVES {
            [0xffff, !0xffff]
        } else {
            [-1, 0]
        };
        for h in 0..(1 + F::HALVES as usize) {
            let pairs = _mm256_and_si256(pairs, _mm256_set1_epi32(chosen[h]));
            if F::BIAS != 0 {
                let start = _mm256_madd_epi16(pairs, _mm256_set1_epi16(-F::BIAS));
                _mm256_store_si256(all.start[h].as_mut_ptr().cast(), start);
            }
            if F::LEAST {
                let sum = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                _mm256_store_ps(all.sum[h].as_mut_ptr(), _mm256_cvtepi32_ps(sum));
            }
        }
        all
    }
}

/// Adds the contributions of some octets of the eight rows.
#[inline(always)]
unsafe fn multiply<F: Panel, const N: usize>(
    strips: *const Strip,
    deep: usize,
    x: [*const Octet; N],
    lanes: *mut Lanes,
) {
    for i in 0..deep {
        let strip = &*strips.add(i);
        let sums: [Sums; N] = std::array::from_fn(|n| Sums::of::<F>(x[n].wrapping_add(i)));
        for g in 0..8 {
            let mut t = [[_mm256_setzero_si256(); 2]; N];
            for h in 0..(1 + F::HALVES as usize) {
                let whole = half::<F, N>(strip, g, h, x, i);
                for n in 0..N {
                    t[n][h] = whole[n];
                    if F::BIAS != 0 {
                        let start = _mm256_set1_epi32(sums[n].start[h][g]);
                        t[n][h] = _mm256_add_epi32(t[n][h], start);
                    }
                }
            }
            let first = _mm256_load_ps(strip.first[g].as_ptr());
            for n in 0..N {
                let sum = |h: usize| _mm256_set1_ps(sums[n].sum[h][g]);
                let mut v = _mm256_cvtepi32_ps(t[n][0]);
                let mut scale = first;
                let mut off = _mm256_setzero_ps();
                if F::HALVES {
                    let second = _mm256_load_ps(strip.second[g].as_ptr());
                    v = _mm256_mul_ps(v, first);
                    v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[n][1]), second, v);
                    scale = _mm256_load_ps(strip.d.as_ptr());
                }
                if F::LEAST {
                    let minus = _mm256_load_ps(strip.first_minus[g].as_ptr());
                    off = _mm256_mul_ps(minus, sum(0));
                    if F::HALVES {
                        let minus = _mm256_load_ps(strip.second_minus[g].as_ptr());
                        off = _mm256_fmadd_ps(minus, sum(1), off);
                        off = _mm256_mul_ps(_mm256_load_ps(strip.least.as_ptr()), off);
                    }
                }
                v = if F::LEAST {
                    _mm256_fmsub_ps(scale, v, off)
                } else {
                    _mm256_mul_ps(scale, v)
                };
                let lane = (*lanes.add(n))[g].as_mut_ptr();
                let x_scale = _mm256_set1_ps((*x[n].wrapping_add(i)).scale[g]);
                let sum = _mm256_fmadd_ps(x_scale, v, _mm256_loadu_ps(lane));
                _mm256_storeu_ps(lane, sum);
            }
        }
    }
}

/// The integer sums of a half of a group, or of all of it where the halves do not differ.
#[inline(always)]
unsafe fn half<F: Panel, const N: usize>(
    strip: &Strip,
    g: usize,
    h: usize,
    x: [*const Octet; N],
    octet: usize,
) -> [__m256i; N] {
    let (words, together) = const {
        let words = if F::HALVES { 4 } else { 8 };
        (words, in_16_bits(F::MOST, F::HALVES))
    };
    let ones = _mm256_set1_epi16(1);
    let mut whole = [_mm256_setzero_si256(); N];
    for part in 0..words / together {
        let mut pairs = [_mm256_setzero_si256(); N];
        for k in 0..together {
            let at = h * 4 + part * together + k;
            let q = _mm256_load_si256(strip.q[g * 8 + at].as_ptr().cast());
            let size = if F::SIGNED { _mm256_abs_epi8(q) } else { q };
            for n in 0..N {
                let x = (*x[n].wrapping_add(octet)).q.as_ptr().add(g * 32 + at * 4);
                let mut x = _mm256_set1_epi32(x.cast::<i32>().read());
                if F::SIGNED {
                    x = _mm256_sign_epi8(x, q);
                }
                let products = _mm256_maddubs_epi16(size, x);
                pairs[n] = if k == 0 {
                    products
                } else {
                    _mm256_add_epi16(pairs[n], products)
                };
            }
        }
        for n in 0..N {
            let sums = _mm256_madd_epi16(pairs[n], ones);
            whole[n] = if part == 0 {
                sums
            } else {
                _mm256_add_epi32(whole[n], sums)
            };
        }
    }
    whole
}

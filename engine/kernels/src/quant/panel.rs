//! Several activation rows at once with AVX-512: sixteen weight rows are unpacked together, number
//! by number side by side, so that a vector's lanes are the rows and nothing is added across lanes.
//! The products are those of `product.rs`, to the bit: all that is done in f32 there is done in the same
//! order here, and factors are merged only where the product of both is exact.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
#![expect(clippy::needless_range_loop, reason = "loops over registers")]
// Sound as `avx512` is: the one entry is inlined into its `dot`, which promises the instructions
// and as many octets as the rows have.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::avx512::{Form, Four, load_rest};
use super::product::MAX_IN_PANEL;
use super::rounded::Octet;

/// Weight rows of a panel: the lanes of a vector.
pub(super) const ROWS: usize = 16;
/// Octets, of sixteen rows each, that are unpacked before the activation rows pass over them: what
/// the first-level cache holds.
const DEEP: usize = 4;

/// An octet of sixteen rows. Fields that an encoding has no use for stay unset.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Strip {
    /// Four numbers of each row after the other, unsigned.
    q: [[u8; 64]; 64],
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

/// Eight lanes for each of sixteen rows.
type Lanes = [[f32; ROWS]; 8];

/// An octet of a row, spread out.
pub(super) struct Spread {
    /// Unsigned: `Form::BIAS` more than they are.
    pub q: Four,
    /// Factors of each group, as the fields of a [`Strip`].
    pub first: __m256,
    pub second: __m256,
    pub first_minus: __m256,
    pub second_minus: __m256,
    pub d: f32,
    pub least: f32,
}

/// The products of `P` times sixteen rows with up to [`MAX_IN_PANEL`] activation rows, to
/// `out[n][at..at + P * 16]`.
///
/// # Safety
/// The instructions are supported; all of `x` have the octets of a row, all of `out` the places.
#[inline(always)]
pub(super) unsafe fn products<F: Form, const P: usize>(
    form: F,
    rows: *const u8,
    row_bytes: usize,
    x: &[&[Octet]],
    out: &mut [&mut [f32]],
    at: usize,
) {
    // Left unset but for what is used: all of it is as large as the second-level cache likes.
    let mut lanes = MaybeUninit::<[[Lanes; P]; MAX_IN_PANEL]>::uninit();
    let lanes: *mut [Lanes; P] = lanes.as_mut_ptr().cast();
    std::ptr::write_bytes(lanes, 0, x.len());
    let mut strips = MaybeUninit::<[[Strip; P]; DEEP]>::uninit();
    let strips: *mut [Strip; P] = strips.as_mut_ptr().cast();
    let deepest = DEEP / P;
    let octets = row_bytes.div_ceil(form.bytes());
    if at == 0 {
        // Later ones are asked for by those before them.
        for r in 0..P * ROWS {
            ask(rows.wrapping_add(r * row_bytes), deepest * form.bytes());
        }
    }
    let mut octet = 0;
    while octet < octets {
        let deep = deepest.min(octets - octet);
        for i in 0..deep {
            let strips: *mut Strip = strips.add(i).cast();
            for p in 0..P {
                let rows = rows.add(p * ROWS * row_bytes);
                // What is unpacked next, in these rows or in those that follow them.
                let next = if octet + deepest + i < octets {
                    (octet + deepest + i) * form.bytes()
                } else {
                    P * ROWS * row_bytes + (octet + deepest + i - octets) * form.bytes()
                };
                fill(form, rows, row_bytes, octet + i, next, strips.add(p));
            }
        }
        let mut n = 0;
        while n + 4 <= x.len() {
            let xs: [_; 4] = [
                x[n].as_ptr().add(octet),
                x[n + 1].as_ptr().add(octet),
                x[n + 2].as_ptr().add(octet),
                x[n + 3].as_ptr().add(octet),
            ];
            multiply::<F, P, 4>(strips, deep, xs, lanes.add(n));
            n += 4;
        }
        if n + 2 <= x.len() {
            let xs = [x[n].as_ptr().add(octet), x[n + 1].as_ptr().add(octet)];
            multiply::<F, P, 2>(strips, deep, xs, lanes.add(n));
            n += 2;
        }
        if n < x.len() {
            let xs = [x[n].as_ptr().add(octet)];
            multiply::<F, P, 1>(strips, deep, xs, lanes.add(n));
        }
        octet += deep;
    }
    for (n, out) in out.iter_mut().enumerate() {
        let to = &mut out[at..at + P * ROWS];
        for p in 0..P {
            let lanes = &(*lanes.add(n))[p];
            let mut l = [_mm512_setzero_ps(); 8];
            for g in 0..8 {
                l[g] = _mm512_loadu_ps(lanes[g].as_ptr());
            }
            let even = _mm512_add_ps(_mm512_add_ps(l[0], l[4]), _mm512_add_ps(l[2], l[6]));
            let odd = _mm512_add_ps(_mm512_add_ps(l[1], l[5]), _mm512_add_ps(l[3], l[7]));
            _mm512_storeu_ps(to.as_mut_ptr().add(p * ROWS), _mm512_add_ps(even, odd));
        }
    }
}

/// Unpacks one octet of the sixteen rows, and asks for what is `next` bytes from the start of each.
#[inline(always)]
unsafe fn fill<F: Form>(
    form: F,
    rows: *const u8,
    row_bytes: usize,
    octet: usize,
    next: usize,
    to: *mut Strip,
) {
    let mut q = MaybeUninit::<[[__m512i; 4]; ROWS]>::uninit();
    let q: *mut [__m512i; 4] = q.as_mut_ptr().cast();
    let mut numbers = [[[0.0f32; 8]; ROWS]; 4];
    for r in 0..ROWS {
        let row = rows.add(r * row_bytes);
        ask(row.wrapping_add(next), form.bytes());
        let w = if (octet + 1) * form.bytes() <= row_bytes {
            form.load(row.add(octet * form.bytes()))
        } else {
            load_rest(form, row, row_bytes)
        };
        let spread = form.spread(&w);
        *q.add(r) = spread.q;
        _mm256_storeu_ps(numbers[0][r].as_mut_ptr(), spread.first);
        if F::HALVES {
            _mm256_storeu_ps(numbers[1][r].as_mut_ptr(), spread.second);
            (*to).d[r] = spread.d;
        }
        if F::LEAST {
            _mm256_storeu_ps(numbers[2][r].as_mut_ptr(), spread.first_minus);
            if F::HALVES {
                _mm256_storeu_ps(numbers[3][r].as_mut_ptr(), spread.second_minus);
                (*to).least[r] = spread.least;
            }
        }
    }
    for c in 0..4 {
        let mut v = [_mm512_setzero_si512(); ROWS];
        for r in 0..ROWS {
            v[r] = (*q.add(r))[c];
        }
        let v = turned(v);
        for r in 0..ROWS {
            _mm512_store_si512((*to).q[c * 16 + r].as_mut_ptr().cast(), v[r]);
        }
    }
    turn(&numbers[0], &mut (*to).first);
    if F::HALVES {
        turn(&numbers[1], &mut (*to).second);
    }
    if F::LEAST {
        turn(&numbers[2], &mut (*to).first_minus);
        if F::HALVES {
            turn(&numbers[3], &mut (*to).second_minus);
        }
    }
}

#[inline(always)]
unsafe fn ask(from: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * 64).cast());
    }
}

/// Rows become columns, in words of 32 bits.
#[inline(always)]
unsafe fn turned(v: [__m512i; 16]) -> [__m512i; 16] {
    let mut a = v;
    // Within quarters: of four rows each, the words side by side.
    for r in (0..16).step_by(4) {
        let (s, t) = (v[r], v[r + 1]);
        let (u, w) = (v[r + 2], v[r + 3]);
        let (st0, st1) = (_mm512_unpacklo_epi32(s, t), _mm512_unpackhi_epi32(s, t));
        let (uw0, uw1) = (_mm512_unpacklo_epi32(u, w), _mm512_unpackhi_epi32(u, w));
        a[r] = _mm512_unpacklo_epi64(st0, uw0);
        a[r + 1] = _mm512_unpackhi_epi64(st0, uw0);
        a[r + 2] = _mm512_unpacklo_epi64(st1, uw1);
        a[r + 3] = _mm512_unpackhi_epi64(st1, uw1);
    }
    // Then the quarters: `a[4 * b + k]` has in quarter `q` word `4 * q + k` of rows `4 * b..`.
    let mut out = v;
    for k in 0..4 {
        let s0 = _mm512_shuffle_i32x4::<0b10_00_10_00>(a[k], a[4 + k]);
        let s1 = _mm512_shuffle_i32x4::<0b11_01_11_01>(a[k], a[4 + k]);
        let t0 = _mm512_shuffle_i32x4::<0b10_00_10_00>(a[8 + k], a[12 + k]);
        let t1 = _mm512_shuffle_i32x4::<0b11_01_11_01>(a[8 + k], a[12 + k]);
        out[k] = _mm512_shuffle_i32x4::<0b10_00_10_00>(s0, t0);
        out[8 + k] = _mm512_shuffle_i32x4::<0b11_01_11_01>(s0, t0);
        out[4 + k] = _mm512_shuffle_i32x4::<0b10_00_10_00>(s1, t1);
        out[12 + k] = _mm512_shuffle_i32x4::<0b11_01_11_01>(s1, t1);
    }
    out
}

/// The same for eight numbers of each of sixteen rows.
#[inline(always)]
unsafe fn turn(from: &[[f32; 8]; ROWS], to: &mut [[f32; ROWS]; 8]) {
    // Rows r and r + 8 in the halves of a vector.
    let mut v = [_mm512_setzero_ps(); 8];
    for r in 0..8 {
        let low = _mm512_castps256_ps512(_mm256_loadu_ps(from[r].as_ptr()));
        v[r] = _mm512_insertf32x8::<1>(low, _mm256_loadu_ps(from[r + 8].as_ptr()));
    }
    let mut a = v;
    for r in (0..8).step_by(4) {
        let (st0, st1) = (
            _mm512_unpacklo_ps(v[r], v[r + 1]),
            _mm512_unpackhi_ps(v[r], v[r + 1]),
        );
        let (uw0, uw1) = (
            _mm512_unpacklo_ps(v[r + 2], v[r + 3]),
            _mm512_unpackhi_ps(v[r + 2], v[r + 3]),
        );
        a[r] = _mm512_shuffle_ps::<0b01_00_01_00>(st0, uw0);
        a[r + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(st0, uw0);
        a[r + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(st1, uw1);
        a[r + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(st1, uw1);
    }
    // `a[k]` has columns k and 4 + k of rows 0 to 3 and of 8 to 11; `a[4 + k]` those of 4 to 7 and of
    // 12 to 15.
    let low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    let high = _mm512_setr_epi32(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for k in 0..4 {
        let (s, t) = (a[k], a[4 + k]);
        _mm512_storeu_ps(to[k].as_mut_ptr(), _mm512_permutex2var_ps(s, low, t));
        _mm512_storeu_ps(to[4 + k].as_mut_ptr(), _mm512_permutex2var_ps(s, high, t));
    }
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

/// Adds the contributions of some octets of the sixteen rows.
#[inline(always)]
unsafe fn multiply<F: Form, const P: usize, const N: usize>(
    strips: *const [Strip; P],
    deep: usize,
    x: [*const Octet; N],
    lanes: *mut [Lanes; P],
) {
    for i in 0..deep {
        let strips = &*strips.add(i);
        let mut sums = [Sums {
            start: [[0; 8]; 2],
            sum: [[0.0; 8]; 2],
        }; N];
        for n in 0..N {
            let pairs = _mm256_load_si256((*x[n].add(i)).sums.as_ptr().cast());
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
                    _mm256_store_si256(sums[n].start[h].as_mut_ptr().cast(), start);
                }
                if F::LEAST {
                    let sum = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    _mm256_store_ps(sums[n].sum[h].as_mut_ptr(), _mm256_cvtepi32_ps(sum));
                }
            }
        }
        for g in 0..8 {
            let mut t = [[[_mm512_setzero_si512(); 2]; P]; N];
            if F::BIAS != 0 {
                for n in 0..N {
                    for h in 0..(1 + F::HALVES as usize) {
                        let start = _mm512_set1_epi32(sums[n].start[h][g]);
                        for p in 0..P {
                            t[n][p][h] = start;
                        }
                    }
                }
            }
            for k in 0..8 {
                let h = if F::HALVES { k / 4 } else { 0 };
                let mut q = [_mm512_setzero_si512(); P];
                for p in 0..P {
                    q[p] = _mm512_load_si512(strips[p].q[g * 8 + k].as_ptr().cast());
                }
                for n in 0..N {
                    let x = (*x[n].add(i)).q.as_ptr().add(g * 32 + k * 4);
                    let x = _mm512_set1_epi32(x.cast::<i32>().read());
                    for p in 0..P {
                        t[n][p][h] = _mm512_dpbusd_epi32(t[n][p][h], q[p], x);
                    }
                }
            }
            for p in 0..P {
                let strip = &strips[p];
                let first = _mm512_load_ps(strip.first[g].as_ptr());
                for n in 0..N {
                    let sum = |h: usize| _mm512_set1_ps(sums[n].sum[h][g]);
                    let mut v = _mm512_cvtepi32_ps(t[n][p][0]);
                    let mut scale = first;
                    let mut off = _mm512_setzero_ps();
                    if F::HALVES {
                        let second = _mm512_load_ps(strip.second[g].as_ptr());
                        v = _mm512_mul_ps(v, first);
                        v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t[n][p][1]), second, v);
                        scale = _mm512_load_ps(strip.d.as_ptr());
                    }
                    if F::LEAST {
                        let minus = _mm512_load_ps(strip.first_minus[g].as_ptr());
                        off = _mm512_mul_ps(minus, sum(0));
                        if F::HALVES {
                            let minus = _mm512_load_ps(strip.second_minus[g].as_ptr());
                            off = _mm512_fmadd_ps(minus, sum(1), off);
                            off = _mm512_mul_ps(_mm512_load_ps(strip.least.as_ptr()), off);
                        }
                    }
                    v = if F::LEAST {
                        _mm512_fmsub_ps(scale, v, off)
                    } else {
                        _mm512_mul_ps(scale, v)
                    };
                    let lane = (*lanes.add(n))[p][g].as_mut_ptr();
                    let x_scale = _mm512_set1_ps((*x[n].add(i)).scale[g]);
                    let sum = _mm512_fmadd_ps(x_scale, v, _mm512_loadu_ps(lane));
                    _mm512_storeu_ps(lane, sum);
                }
            }
        }
    }
}

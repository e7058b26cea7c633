//! The few vector operations that all kernels are written in, once, and their forms on each
//! instruction set. Knows nothing of matrices or attention.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector instructions behind one trait"
)]
// Every function of `Isa` needs the instructions of its level, which `dispatch` is the only one to
// promise: it enters a function compiled for them after the level was found to be supported. The
// functions that take pointers need `LANES` readable (or writable) numbers there, at any alignment.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::ahead::Asking;
use super::compact::RowHead;
use super::level::Level;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Key};
pub(crate) use portable::Portable;

/// The widest vector of any level, in floats; buffers are padded to it.
pub(crate) const MAX_LANES: usize = 16;

/// Vectors of `f32` on one instruction set.
pub(crate) trait Isa: Copy + 'static {
    /// One vector.
    type V: Copy;
    /// Floats a vector.
    const LANES: usize;
    /// Sums of products that there are registers for, beside what is multiplied: sixteen registers hold
    /// eight sums, thirty-two hold sixteen.
    const SUMS: usize = 8;
    /// Whether there are AVX2's instructions, for what is not written in these operations.
    const HAS_AVX2: bool = false;
    /// Whether memory is asked for ahead in two steps: see `ahead.rs`.
    const ASKS_TWICE: bool = false;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn load_bf16(from: *const bf16) -> Self::V;
    unsafe fn load_f16(from: *const f16) -> Self::V;
    /// The numbers of two vectors in whatever order is cheapest: where those at even places and
    /// those at odd ones make a vector each, a shift and a mask widen them.
    unsafe fn load_bf16_pair(from: *const bf16) -> [Self::V; 2];
    /// Two vectors that follow one another, in the order of [`Isa::load_bf16_pair`].
    unsafe fn part(pair: [Self::V; 2]) -> [Self::V; 2];
    /// What the codes of a compact row stand for.
    type Key: Copy;
    unsafe fn key(head: RowHead) -> Self::Key;
    /// The numbers of two vectors from place `at` of a compact group on, in the order of
    /// [`Isa::load_bf16_pair`]. `at` is a multiple of two vectors; the group is readable.
    unsafe fn load_compact_pair(group: *const u8, at: usize, key: Self::Key) -> [Self::V; 2];
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Rounds to the nearest whole number.
    unsafe fn round(v: Self::V) -> Self::V;
    /// Two to the power of whole numbers between -126 and 127.
    unsafe fn exp2_whole(v: Self::V) -> Self::V;
    /// The sum of the lanes, always in the same order.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane.
    unsafe fn top(v: Self::V) -> f32;
    /// Asks for a cache line before it is needed; any address will do.
    unsafe fn prefetch(address: *const u8);
    /// The same, into the second-level cache only.
    unsafe fn prefetch_far(address: *const u8);

    /// `e^v` to about one unit in the last place or two; not a number stays so. The argument is
    /// held between -87 and 88, where neither the result nor its scale overflows.
    #[inline(always)]
    unsafe fn exp(v: Self::V) -> Self::V {
        let s = |value| Self::splat(value);
        // ln 2 in two parts: the first has trailing zeros, so that its product with n is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let v = Self::min(s(88.0), Self::max(s(-87.0), v));
        let n = Self::round(Self::mul(v, s(std::f32::consts::LOG2_E)));
        let r = Self::fma(n, s(-LN2_LOW), Self::fma(n, s(-LN2_HIGH), v));
        // The series of e^r; the first term left out is under 6e-9 for |r| <= ln(2) / 2.
        let mut series = s(1.0 / 5040.0);
        for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
            series = Self::fma(series, r, s(1.0 / factorial));
        }
        Self::mul(series, Self::exp2_whole(n))
    }

    /// The square of the sine of `v`, off by less than 1e-6 for `|v|` up to 1e4; beyond, it is some
    /// number between 0 and 1. What is not a number stays so, and infinity is none.
    #[inline(always)]
    unsafe fn sine_squared(v: Self::V) -> Self::V {
        let s = |value| Self::splat(value);
        // Whole turns of pi are taken off: the square does not change. Pi in three parts, of which
        // the first two have trailing zeros, so that their products with n are exact.
        const PI_HIGH: f32 = 3.140_625;
        const PI_MIDDLE: f32 = 9.675_026e-4;
        const PI_LOW: f32 = 1.509_958e-7;
        // From the first power on: fitted to 1e-8 up to 1.6.
        const POWERS: [f32; 4] = [2.599_604_6e-6, -1.980_659_6e-4, 8.333_017e-3, -0.166_666_57];
        /// Where a half turn ends, with room for a rounded n.
        const END: f32 = 1.6;
        let n = Self::round(Self::mul(v, s(std::f32::consts::FRAC_1_PI)));
        let r = Self::fma(n, s(-PI_MIDDLE), Self::fma(n, s(-PI_HIGH), v));
        let r = Self::fma(n, s(-PI_LOW), r);
        let r = Self::min(s(END), Self::max(s(-END), r));
        let square = Self::mul(r, r);
        let mut series = s(POWERS[0]);
        for power in &POWERS[1..] {
            series = Self::fma(series, square, s(*power));
        }
        let sine = Self::fma(Self::mul(series, square), r, r);
        Self::mul(sine, sine)
    }
}

/// A number format of weights, or of cached keys and values.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Zero, for padding.
    const ZERO: Self;
    unsafe fn load<I: Isa>(from: *const Self) -> I::V;
    /// Two vectors' numbers, in the order that is cheapest for this format.
    #[inline(always)]
    unsafe fn load_pair<I: Isa>(from: *const Self) -> [I::V; 2] {
        [Self::load::<I>(from), Self::load::<I>(from.add(I::LANES))]
    }
    /// Two vectors that follow one another, in the order of [`Element::load_pair`].
    #[inline(always)]
    unsafe fn order<I: Isa>(pair: [I::V; 2]) -> [I::V; 2] {
        pair
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;
    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        I::load_bf16(from)
    }
    #[inline(always)]
    unsafe fn load_pair<I: Isa>(from: *const Self) -> [I::V; 2] {
        I::load_bf16_pair(from)
    }
    #[inline(always)]
    unsafe fn order<I: Isa>(pair: [I::V; 2]) -> [I::V; 2] {
        I::part(pair)
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;
    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        I::load_f16(from)
    }
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        I::load(from)
    }
}

/// A bf16 number whose pairs of vectors are loaded as they stand. Sums are then those of the same
/// numbers in f32, to the last bit; and where the other side of a product is loaded anew for each
/// few rows, ordering it costs as much as shuffling these.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct InOrder(pub bf16);

// SAFETY: a bf16 is plain bits, and this is the same.
unsafe impl bytemuck::Zeroable for InOrder {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for InOrder {}

impl Element for InOrder {
    const ZERO: Self = InOrder(bf16::ZERO);
    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        I::load_bf16(from.cast())
    }
}

/// A computation written once for every instruction set.
pub(crate) trait Kernel {
    /// Runs it with the instructions of `I`. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// Called only by [`dispatch`], plus whatever the kernel itself asks of its builder.
    unsafe fn call<I: Isa>(self);
}

/// Runs `kernel` at `level`.
///
/// # Safety
/// The level is supported by this machine (those of a `Team` are), and the promises that the
/// kernel's own documentation asks for hold.
// Not `#[inline]`: the plain kernel is inlined here, and would be compiled in each place that calls.
pub(crate) unsafe fn dispatch<K: Kernel>(level: Level, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        unsafe fn on_avx512<K: Kernel>(kernel: K) {
            kernel.call::<avx512::Avx512>();
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        unsafe fn on_avx512_asking_twice<K: Kernel>(kernel: K) {
            kernel.call::<avx512::Avx512<true>>();
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn on_avx2<K: Kernel>(kernel: K) {
            kernel.call::<avx2::Avx2>();
        }
        match level {
            Level::Amx | Level::Avx512Bf16 | Level::Avx512 => {
                return match Asking::current(level) {
                    Asking::Twice => on_avx512_asking_twice(kernel),
                    Asking::Once(_) => on_avx512(kernel),
                };
            }
            Level::Avx2 => return on_avx2(kernel),
            Level::Portable | Level::Neon => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if level == Level::Neon {
        #[target_feature(enable = "neon")]
        unsafe fn on_neon<K: Kernel>(kernel: K) {
            kernel.call::<neon::Neon>();
        }
        return on_neon(kernel);
    }
    let _ = level;
    kernel.call::<Portable>();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ExpAll<'a>(&'a mut [f32]);
    impl Kernel for ExpAll<'_> {
        #[inline(always)]
        unsafe fn call<I: Isa>(self) {
            for chunk in self.0.chunks_exact_mut(I::LANES) {
                I::store(chunk.as_mut_ptr(), I::exp(I::load(chunk.as_ptr())));
            }
        }
    }

    #[test]
    fn exp_is_accurate_at_every_level() {
        for level in Level::ALL.into_iter().filter(|l| l.is_supported()) {
            let inputs: Vec<f32> = (0..17_408).map(|i| i as f32 * 0.01 - 86.9).collect();
            let mut outputs = inputs.clone();
            // SAFETY: the level is supported; the length is a multiple of every vector's.
            unsafe { dispatch(level, ExpAll(&mut outputs)) };
            for (x, y) in inputs.iter().zip(&outputs) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(*y) - exact).abs() / exact;
                assert!(error < 3e-7, "{level}: exp({x}) = {y}, off by {error:e}");
            }
            let mut odd = [f32::NAN; 16];
            odd[1] = -1e30;
            odd[2] = 1e30;
            // SAFETY: as above.
            unsafe { dispatch(level, ExpAll(&mut odd)) };
            assert!(odd[0].is_nan() && odd[1] < 1e-37 && odd[2] > 1e38 && odd[2].is_finite());
        }
    }

    struct SineSquared<'a>(&'a mut [f32]);
    impl Kernel for SineSquared<'_> {
        #[inline(always)]
        unsafe fn call<I: Isa>(self) {
            for chunk in self.0.chunks_exact_mut(I::LANES) {
                I::store(chunk.as_mut_ptr(), I::sine_squared(I::load(chunk.as_ptr())));
            }
        }
    }

    #[test]
    fn sine_squared_is_accurate_at_every_level() {
        let near = (0..80_000).map(|i| i as f32 * 1e-3 - 40.0);
        let far = (0..200_000).map(|i| i as f32 * 0.100_003 - 10_000.0);
        // The numbers next to whole and half turns.
        let turns = (-6366..=6366).map(|n| (f64::from(n) * std::f64::consts::FRAC_PI_2) as f32);
        let around = turns.flat_map(|x| [x, f32::from_bits(x.to_bits() + 1)]);
        let mut inputs: Vec<f32> = near.chain(far).chain(around).collect();
        inputs.resize(inputs.len().next_multiple_of(MAX_LANES), 0.0);
        for level in Level::ALL.into_iter().filter(|l| l.is_supported()) {
            let mut outputs = inputs.clone();
            // SAFETY: the level is supported; the length is a multiple of every vector's.
            unsafe { dispatch(level, SineSquared(&mut outputs)) };
            for (x, y) in inputs.iter().zip(&outputs).filter(|(x, _)| x.abs() <= 1e4) {
                let exact = f64::from(*x).sin().powi(2);
                let error = (f64::from(*y) - exact).abs();
                assert!(error < 1e-6, "{level}: sin({x})^2 = {y}, off by {error:e}");
            }
            let mut odd = [1e30f32; MAX_LANES];
            (odd[0], odd[1], odd[2], odd[3]) = (f32::NAN, f32::INFINITY, f32::MIN, 12_345.6);
            // SAFETY: as above.
            unsafe { dispatch(level, SineSquared(&mut odd)) };
            assert!(odd[0].is_nan() && odd[1].is_nan(), "{level}: {odd:?}");
            assert!(
                odd[2..].iter().all(|y| (0.0..=1.000_001).contains(y)),
                "{level}: {odd:?}"
            );
        }
    }

    struct Reductions<'a>(&'a [f32; MAX_LANES], &'a mut [f32; 2], &'a mut usize);
    impl Kernel for Reductions<'_> {
        #[inline(always)]
        unsafe fn call<I: Isa>(self) {
            let v = I::load(self.0.as_ptr());
            *self.1 = [I::sum(v), I::top(v)];
            *self.2 = I::LANES;
        }
    }

    #[test]
    fn reductions_take_every_lane_once() {
        for level in Level::ALL.into_iter().filter(|l| l.is_supported()) {
            for lane in 0..MAX_LANES {
                let mut input = [-1.0f32; MAX_LANES];
                input[lane] = 100.0;
                let (mut found, mut lanes) = ([0.0; 2], 0);
                // SAFETY: the level is supported; the array holds the widest vector.
                unsafe { dispatch(level, Reductions(&input, &mut found, &mut lanes)) };
                let inside = lane < lanes;
                let sum = if inside {
                    101.0 - lanes as f32
                } else {
                    -(lanes as f32)
                };
                let top = if inside { 100.0 } else { -1.0 };
                assert_eq!(found, [sum, top], "{level}, lane {lane}");
            }
        }
    }

    /// Pairs of vectors as they are loaded, and how `order` arranges the same numbers.
    struct Pairs<'a, E>(&'a [E], &'a [f32], &'a mut Vec<[f32; 2]>);
    impl<E: Element> Kernel for Pairs<'_, E> {
        #[inline(always)]
        unsafe fn call<I: Isa>(self) {
            let loaded = E::load_pair::<I>(self.0.as_ptr());
            let x = self.1.as_ptr();
            let ordered = E::order::<I>([I::load(x), I::load(x.add(I::LANES))]);
            for (loaded, ordered) in loaded.into_iter().zip(ordered) {
                let (mut left, mut right) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
                I::store(left.as_mut_ptr(), loaded);
                I::store(right.as_mut_ptr(), ordered);
                let both = left.into_iter().zip(right).take(I::LANES);
                self.2.extend(both.map(|(l, r)| [l, r]));
            }
        }
    }

    #[test]
    fn pairs_meet_the_numbers_at_their_own_place() {
        fn check<E: Element>(of: impl Fn(f32) -> E) {
            for level in Level::ALL.into_iter().filter(|l| l.is_supported()) {
                let x: Vec<f32> = (1..=2 * MAX_LANES).map(|i| i as f32).collect();
                let elements: Vec<E> = x.iter().map(|x| of(*x)).collect();
                let mut found = Vec::new();
                // SAFETY: the level is supported; both hold two of the widest vectors.
                unsafe { dispatch(level, Pairs(&elements, &x, &mut found)) };
                assert!(found.iter().all(|[l, r]| l == r), "{level}: {found:?}");
                found.sort_by(|a, b| a[0].total_cmp(&b[0]));
                found.dedup();
                let all: Vec<f32> = found.iter().map(|both| both[0]).collect();
                assert_eq!(all, x[..all.len()], "{level}: not each number once");
            }
        }
        check(bf16::from_f32);
        check(|x| InOrder(bf16::from_f32(x)));
        check(f16::from_f32);
        check(|x| x);
    }
}

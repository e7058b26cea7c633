//! What follows a linear layer: where its outputs go, and what is added or applied on the way.
//! Knows nothing of how the outputs were computed.
#![expect(unsafe_code, reason = "writes disjoint parts of a shared output")]
// Sound because each output belongs to one worker: callers pass only outputs of their own share.

use crate::isa::{Isa, MAX_LANES};
use crate::shared::Shared;
use crate::weights::Weights;

/// What happens to the outputs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Then {
    /// Written.
    Store,
    /// Added to what is there: the residual.
    Add,
    /// Multiplied by this and added.
    AddScaled(f32),
    /// `gelu(output)` is written: the exact one, of the error function.
    Gelu,
    /// The first half of the weight rows are gates, the second half values; `silu(gate) * value`
    /// is written.
    SwiGlu,
}

/// The end of a linear layer: output `i` of activation row `t` belongs at `t * stride + i`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub then: Then,
    pub bias: Option<Weights<'a>>,
    /// What each output is multiplied with, after the bias.
    pub gain: Option<Weights<'a>>,
    pub out: Shared<'a, f32>,
    pub stride: usize,
}

impl Epilogue<'_> {
    /// Outputs a row for a matrix of `weight_rows`.
    pub fn outputs(&self, weight_rows: usize) -> usize {
        match self.then {
            Then::SwiGlu => weight_rows / 2,
            Then::Store | Then::Add | Then::AddScaled(_) | Then::Gelu => weight_rows,
        }
    }

    /// Finishes the outputs from `first` on of activation row `row`. `values` is also scratch;
    /// both slices have the same length, at most a few dozen, and `partner` (the values that the
    /// gates belong to) is used by `SwiGlu` only.
    ///
    /// # Safety
    /// The outputs belong to the calling worker, and the instructions of `I` are supported.
    #[inline(always)]
    pub unsafe fn finish<I: Isa>(
        &self,
        row: usize,
        first: usize,
        values: &mut [f32],
        partner: &mut [f32],
        outputs: usize,
    ) {
        let at = row * self.stride + first;
        // SAFETY: these outputs are this worker's own, as the caller promises.
        let out = unsafe { self.out.get_mut(at..at + values.len()) };
        if let Some(bias) = &self.bias {
            add_bias(bias, first, values);
            if self.then == Then::SwiGlu {
                add_bias(bias, outputs + first, partner);
            }
        }
        if let Some(gain) = &self.gain {
            for (i, value) in values.iter_mut().enumerate() {
                *value *= gain.get(first + i);
            }
        }
        match self.then {
            Then::Store => out.copy_from_slice(values),
            Then::Add => out.iter_mut().zip(values).for_each(|(o, v)| *o += *v),
            Then::AddScaled(scale) => {
                let terms = values.iter().map(|v| *v * scale);
                out.iter_mut().zip(terms).for_each(|(o, v)| *o += v);
            }
            // SAFETY: the caller promises the instructions.
            Then::Gelu => unsafe { gelu_all::<I>(values, out) },
            // SAFETY: as above.
            Then::SwiGlu => unsafe { swiglu::<I>(values, partner, out) },
        }
    }
}

#[inline(always)]
fn add_bias(bias: &Weights<'_>, first: usize, values: &mut [f32]) {
    for (i, value) in values.iter_mut().enumerate() {
        *value += bias.get(first + i);
    }
}

/// `out = silu(gate) * value`.
///
/// # Safety
/// The instructions of `I` are supported.
#[inline(always)]
unsafe fn swiglu<I: Isa>(gate: &[f32], value: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && value.len() == out.len());
    let whole = out.len() / I::LANES * I::LANES;
    for at in (0..whole).step_by(I::LANES) {
        // SAFETY: a vector from `at` on lies inside all three; the caller promises the rest.
        unsafe {
            gated::<I>(
                gate.as_ptr().add(at),
                value.as_ptr().add(at),
                out.as_mut_ptr().add(at),
            );
        }
    }
    if whole < out.len() {
        let (mut g, mut v) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        let rest = out.len() - whole;
        g[..rest].copy_from_slice(&gate[whole..]);
        v[..rest].copy_from_slice(&value[whole..]);
        let to = g.as_mut_ptr();
        // SAFETY: the arrays hold a vector of any level; the caller promises the rest.
        unsafe { gated::<I>(to, v.as_ptr(), to) };
        out[whole..].copy_from_slice(&g[..rest]);
    }
}

/// # Safety
/// A vector at each pointer, and the instructions of `I`.
#[inline(always)]
unsafe fn gated<I: Isa>(gate: *const f32, value: *const f32, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let gates = I::load(gate);
        let falling = I::exp(I::mul(gates, I::splat(-1.0)));
        let silu = I::div(gates, I::add(I::splat(1.0), falling));
        I::store(out, I::mul(silu, I::load(value)));
    }
}

/// `out = gelu(x)`.
///
/// # Safety
/// The instructions of `I` are supported.
#[inline(always)]
unsafe fn gelu_all<I: Isa>(x: &[f32], out: &mut [f32]) {
    assert!(x.len() == out.len());
    let whole = out.len() / I::LANES * I::LANES;
    for at in (0..whole).step_by(I::LANES) {
        // SAFETY: a vector from `at` on lies inside both; the caller promises the rest.
        unsafe {
            I::store(
                out.as_mut_ptr().add(at),
                gelu::<I>(I::load(x.as_ptr().add(at))),
            )
        };
    }
    if whole < out.len() {
        let mut rest = [0.0; MAX_LANES];
        let count = out.len() - whole;
        rest[..count].copy_from_slice(&x[whole..]);
        // SAFETY: the array holds a vector of any level; the caller promises the rest.
        unsafe { I::store(rest.as_mut_ptr(), gelu::<I>(I::load(rest.as_ptr()))) };
        out[whole..].copy_from_slice(&rest[..count]);
    }
}

/// `x` times the share of a normal distribution below `x`, off by at most 1e-7 and a rounding; not
/// a number stays so. It is `max(x, 0)` less a bump that is the same on both sides, `z` times the
/// share above `z = |x|`, so nothing is lost where `x` is large.
///
/// # Safety
/// The instructions of `I` are supported.
#[inline(always)]
pub(super) unsafe fn gelu<I: Isa>(x: I::V) -> I::V {
    /// Beyond it the bump is less than 1e-36.
    const FAR: f32 = 13.0;
    /// The share above `z` is `e^(-z^2 / 2)` times a sum of powers of `1 / (1 + 0.3 z)`, from the
    /// first on, fitted to a ten-millionth of it up to `FAR`: here from the eighth down.
    const SLOPE: f32 = 0.3;
    const POWERS: [f32; 8] = [
        0.036_194_82,
        -0.159_378_17,
        0.210_118_17,
        -0.057_167_182,
        0.130_416_37,
        0.099_347_15,
        0.120_845_53,
        0.119_623_26,
    ];
    // SAFETY: the caller promises the instructions.
    unsafe {
        let s = |value| I::splat(value);
        let z = I::min(s(FAR), I::max(x, I::mul(x, s(-1.0))));
        let t = I::div(s(1.0), I::fma(z, s(SLOPE), s(1.0)));
        let mut sum = s(POWERS[0]);
        for power in &POWERS[1..] {
            sum = I::fma(sum, t, s(*power));
        }
        let falling = I::exp(I::mul(I::mul(z, z), s(-0.5)));
        let bump = I::mul(I::mul(z, t), I::mul(falling, sum));
        I::fma(bump, s(-1.0), I::max(x, s(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Kernel, dispatch};
    use crate::level::Level;
    use crate::testing;

    struct GeluAll<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for GeluAll<'_> {
        #[inline(always)]
        unsafe fn call<I: Isa>(self) {
            // SAFETY: dispatched at a level that is supported.
            unsafe { gelu_all::<I>(self.0, self.1) };
        }
    }

    fn gelu_at(level: Level, x: &[f32]) -> Vec<f32> {
        let mut out = vec![7.0; x.len()];
        // SAFETY: the level is supported.
        unsafe { dispatch(level, GeluAll(x, &mut out)) };
        out
    }

    #[test]
    fn gelu_is_accurate_at_every_level() {
        // An odd number of them, so that the last ones do not fill a vector.
        let near = (-200_003..=200_000).map(|i| i as f32 * 1e-4);
        let far = (0..60).map(|i| 1.7f32.powi(i));
        let x: Vec<f32> = near.chain(far.clone()).chain(far.map(|x| -x)).collect();
        for level in testing::levels() {
            for (x, y) in x.iter().zip(gelu_at(level, &x)) {
                let exact = testing::gelu(f64::from(*x));
                let error = (f64::from(y) - exact).abs();
                let bound = 1e-7 + 6e-8 * exact.abs();
                assert!(error < bound, "{level}: gelu({x}) = {y}, off by {error:e}");
            }
        }
    }

    #[test]
    fn gelu_of_what_is_no_number_or_has_no_end() {
        let x = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
        ];
        for level in testing::levels() {
            let y = gelu_at(level, &x);
            assert!(
                y[0].is_nan() && y[1] == f32::INFINITY && y[3] == f32::MAX,
                "{level}: {y:?}"
            );
            assert!(y[2].abs() < 1e-36 && y[4].abs() < 1e-36, "{level}: {y:?}");
            assert!(y[5] == 0.0 && y[6] == 0.0, "{level}: {y:?}");
        }
    }
}

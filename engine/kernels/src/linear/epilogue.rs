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
    /// The first half of the weight rows are gates, the second half values; `silu(gate) * value`
    /// is written.
    SwiGlu,
}

/// The end of a linear layer: output `i` of activation row `t` belongs at `t * stride + i`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub then: Then,
    pub bias: Option<Weights<'a>>,
    pub out: Shared<'a, f32>,
    pub stride: usize,
}

impl Epilogue<'_> {
    /// Outputs a row for a matrix of `weight_rows`.
    pub fn outputs(&self, weight_rows: usize) -> usize {
        match self.then {
            Then::SwiGlu => weight_rows / 2,
            Then::Store | Then::Add | Then::AddScaled(_) => weight_rows,
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
        match self.then {
            Then::Store => out.copy_from_slice(values),
            Then::Add => out.iter_mut().zip(values).for_each(|(o, v)| *o += *v),
            Then::AddScaled(scale) => {
                let terms = values.iter().map(|v| *v * scale);
                out.iter_mut().zip(terms).for_each(|(o, v)| *o += v);
            }
            // SAFETY: the caller promises the instructions.
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

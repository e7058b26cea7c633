//! Root-mean-square normalisation of rows. Knows nothing of where the rows go next.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because all slices have the row's length, and the last columns go through padded copies.

use super::isa::{Element, Isa, Kernel, MAX_LANES, dispatch};
use super::level::Level;
use super::weights::Weights;

/// `out = x / rms(x) * weight`.
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(level: Level, x: &[f32], weight: Weights<'_>, eps: f32, out: &mut [f32]) {
    assert!(
        x.len() == weight.len() && x.len() == out.len(),
        "norm over rows of different length"
    );
    // SAFETY: levels in use are supported; the lengths are equal.
    unsafe { for_format(level, x.as_ptr(), x.len(), weight, eps, out.as_mut_ptr()) }
}

/// The same, in place.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn rms_norm_in_place(level: Level, x: &mut [f32], weight: Weights<'_>, eps: f32) {
    assert!(
        x.len() == weight.len(),
        "norm over rows of different length"
    );
    let (out, len) = (x.as_mut_ptr(), x.len());
    // SAFETY: levels in use are supported; each element is read before it is written.
    unsafe { for_format(level, out, len, weight, eps, out) }
}

unsafe fn for_format(
    level: Level,
    x: *const f32,
    len: usize,
    weight: Weights<'_>,
    eps: f32,
    out: *mut f32,
) {
    match weight {
        Weights::Bf16(weight) => dispatch(
            level,
            RmsNorm {
                x,
                len,
                weight: weight.as_ptr(),
                eps,
                out,
            },
        ),
        Weights::F16(weight) => dispatch(
            level,
            RmsNorm {
                x,
                len,
                weight: weight.as_ptr(),
                eps,
                out,
            },
        ),
        Weights::F32(weight) => dispatch(
            level,
            RmsNorm {
                x,
                len,
                weight: weight.as_ptr(),
                eps,
                out,
            },
        ),
    }
}

struct RmsNorm<E> {
    x: *const f32,
    len: usize,
    weight: *const E,
    eps: f32,
    out: *mut f32,
}

impl<E: Element> Kernel for RmsNorm<E> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let whole = self.len / (2 * I::LANES) * (2 * I::LANES);
        let mut sums = [I::splat(0.0); 2];
        for at in (0..whole).step_by(2 * I::LANES) {
            for (u, sum) in sums.iter_mut().enumerate() {
                let v = I::load(self.x.add(at + u * I::LANES));
                *sum = I::fma(v, v, *sum);
            }
        }
        let mut squares = I::sum(I::add(sums[0], sums[1]));
        for at in whole..self.len {
            squares += *self.x.add(at) * *self.x.add(at);
        }
        let scale = 1.0 / (squares / self.len as f32 + self.eps).sqrt();
        let factor = I::splat(scale);
        let mut at = 0;
        while at + I::LANES <= self.len {
            let scaled = I::mul(I::load(self.x.add(at)), factor);
            I::store(
                self.out.add(at),
                I::mul(scaled, E::load::<I>(self.weight.add(at))),
            );
            at += I::LANES;
        }
        let rest = self.len - at;
        if rest > 0 {
            let mut x = [0.0f32; MAX_LANES];
            let mut weight = [E::ZERO; MAX_LANES];
            std::ptr::copy_nonoverlapping(self.x.add(at), x.as_mut_ptr(), rest);
            std::ptr::copy_nonoverlapping(self.weight.add(at), weight.as_mut_ptr(), rest);
            let scaled = I::mul(I::load(x.as_ptr()), factor);
            I::store(
                x.as_mut_ptr(),
                I::mul(scaled, E::load::<I>(weight.as_ptr())),
            );
            std::ptr::copy_nonoverlapping(x.as_ptr(), self.out.add(at), rest);
        }
    }
}

//! Causal convolutions of each channel by itself. Knows nothing of what is done to the rows before
//! or after.
#![expect(unsafe_code, reason = "vector loads")]
// Sound because vector loads lie inside slices whose lengths are checked.

use crate::isa::{Isa, Kernel};
use crate::weights::Weights;

/// The kernels of a depthwise convolution, tap by tap.
pub(crate) fn by_taps(weights: Weights<'_>, kernel: usize, taps: &mut [f32]) {
    match weights {
        Weights::Bf16(weights) => turn(weights, kernel, taps, |weight| weight.to_f32()),
        Weights::F16(weights) => turn(weights, kernel, taps, |weight| weight.to_f32()),
        Weights::F32(weights) => turn(weights, kernel, taps, |weight| weight),
    }
}

fn turn<T: Copy>(weights: &[T], kernel: usize, taps: &mut [f32], widen: impl Fn(T) -> f32) {
    let width = taps.len() / kernel;
    for (channel, weights) in weights.chunks_exact(kernel).enumerate() {
        let taps = taps[channel..].iter_mut().step_by(width);
        taps.zip(weights)
            .for_each(|(tap, weight)| *tap = widen(*weight));
    }
}

/// `out = bias + taps * seen`, row by row; or what it is added to, with a gain.
pub(crate) struct Depthwise<'a> {
    /// The rows, and before them those that the first one sees.
    pub seen: &'a [f32],
    /// The kernels, tap by tap: see [`by_taps`].
    pub taps: &'a [f32],
    pub bias: &'a [f32],
    /// Rows, and a gain for each channel.
    pub added_to: Option<(&'a [f32], &'a [f32])>,
    pub out: &'a mut [f32],
}

impl Kernel for Depthwise<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let width = self.bias.len();
        let rows = self.out.len() / width;
        let kernel = self.taps.len() / width;
        assert!(self.seen.len() == (rows + kernel - 1) * width);
        assert!(self.taps.len() == kernel * width && self.out.len() == rows * width);
        if let Some((x, gain)) = self.added_to {
            assert!(x.len() == rows * width && gain.len() == width);
        }
        let whole = width / I::LANES * I::LANES;
        for row in 0..rows {
            for at in (0..whole).step_by(I::LANES) {
                // SAFETY: a vector from `at` on is inside each row; the instructions are there.
                unsafe {
                    let mut sum = I::load(self.bias.as_ptr().add(at));
                    for tap in 0..kernel {
                        let seen = I::load(self.seen.as_ptr().add((row + tap) * width + at));
                        let weight = I::load(self.taps.as_ptr().add(tap * width + at));
                        sum = I::fma(weight, seen, sum);
                    }
                    if let Some((x, gain)) = self.added_to {
                        let x = I::load(x.as_ptr().add(row * width + at));
                        sum = I::fma(I::load(gain.as_ptr().add(at)), sum, x);
                    }
                    I::store(self.out.as_mut_ptr().add(row * width + at), sum);
                }
            }
            for at in whole..width {
                let mut sum = self.bias[at];
                for tap in 0..kernel {
                    sum += self.taps[tap * width + at] * self.seen[(row + tap) * width + at];
                }
                if let Some((x, gain)) = self.added_to {
                    sum = x[row * width + at] + gain[at] * sum;
                }
                self.out[row * width + at] = sum;
            }
        }
    }
}

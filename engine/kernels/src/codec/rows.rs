//! What is done to rows between the matrices: inputs put side by side, norms and the depthwise
//! convolution. Knows nothing of the order.
#![expect(unsafe_code, reason = "shared buffers and vector loads")]
// Sound for the reasons given in `pass.rs`: each call writes rows that are in one step, and buffers
// of its worker's own. Vector loads lie inside slices whose lengths are checked.

use std::ops::Range;

use super::layers::Layer;
use super::pass::Pass;
use crate::isa::{Isa, Kernel, dispatch};
use crate::norm::rms_norm;
use crate::shared::{LINE, round_up};
use crate::weights::Weights;

/// Rows that are mixed together.
pub(super) fn tile_rows(layer: &Layer) -> usize {
    const FLOATS: usize = 8192;
    (FLOATS / layer.inputs).clamp(1, 64)
}

/// A worker's floats: normalised rows and those before, and the vectors of the block.
pub(super) fn own_floats(layer: &Layer) -> usize {
    let rows = tile_rows(layer) + layer.history;
    (rows + layer.kernel + 2) * layer.inputs
}

impl Pass<'_, '_> {
    /// Puts the inputs of some outputs of a convolution side by side, as its weights have them.
    ///
    /// # Safety
    /// The rows are in one step; the stream is complete.
    pub(super) unsafe fn gather(&self, at: usize, rows: Range<usize>) {
        let layer = &self.layers[at];
        let (width, window) = (layer.inputs, layer.window());
        for row in rows {
            let from = row * layer.stride * width;
            // SAFETY: as the caller promises.
            let (from, to) = unsafe {
                (
                    self.stream(at).get(from..from + window),
                    self.gathered.get_mut(row * window..(row + 1) * window),
                )
            };
            for (channel, to) in to.chunks_exact_mut(layer.kernel).enumerate() {
                let from = from[channel..].iter().step_by(width);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Adds up the products of some times, and the bias.
    ///
    /// # Safety
    /// The times are in one step; the products are complete.
    pub(super) unsafe fn overlap(&self, at: usize, times: Range<usize>) {
        let layer = &self.layers[at];
        let bias = self.conv(at).bias;
        let (width, kernel, stride) = (layer.outputs, layer.kernel, layer.stride);
        let (products, target) = (layer.products(), self.target(at));
        for time in times {
            // SAFETY: as the caller promises.
            let (both, out) = unsafe {
                let out = time * stride * width..(time + 1) * stride * width;
                let both = time * products..(time + 2) * products;
                (self.products.get(both), target.get_mut(out))
            };
            let (before, now) = both.split_at(products);
            let both = before.chunks_exact(kernel).zip(now.chunks_exact(kernel));
            for (channel, (before, now)) in both.enumerate() {
                let bias = bias.get(channel);
                let both = now[..stride].iter().zip(&before[stride..]);
                let out = out[channel..].iter_mut().step_by(width);
                for (out, (now, before)) in out.zip(both) {
                    *out = bias + now + before;
                }
            }
        }
    }

    /// What a block does before its inner rows, to some rows: the first norm, the depthwise
    /// convolution, and the second norm.
    ///
    /// # Safety
    /// The rows are in one step; the stream is complete.
    pub(super) unsafe fn mix(&self, at: usize, rows: Range<usize>, worker: usize) {
        let layer = &self.layers[at];
        let block = self.block(at);
        let width = layer.inputs;
        let eps = self.shape.norm_eps;
        let own = round_up(own_floats(layer), LINE);
        debug_assert!(self.own.len() >= self.threads * own);
        let tile = tile_rows(layer);
        // SAFETY: as the caller promises; `own` is the worker's.
        unsafe {
            let stride = self.own.len() / self.threads;
            let own = self.own.get_mut(worker * stride..(worker + 1) * stride);
            let (taps, own) = own.split_at_mut(layer.kernel * width);
            let (bias, own) = own.split_at_mut(width);
            let (gamma, own) = own.split_at_mut(width);
            by_taps(block.mixer.weight_numbers(), layer.kernel, taps);
            block.mixer.bias.widen_into(0, bias);
            block.gamma.widen_into(0, gamma);
            for first in rows.clone().step_by(tile) {
                let count = tile.min(rows.end - first);
                let seen = count + layer.history;
                let x = self.stream(at).get(first * width..(first + seen) * width);
                let normed = &mut own[..seen * width];
                for (x, normed) in x.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
                    rms_norm(self.level, x, block.norm, eps, normed);
                }
                let range = first * width..(first + count) * width;
                let out = self.target(at).get_mut(range.clone());
                let mix = Mix {
                    x: &x[layer.history * width..],
                    normed,
                    taps,
                    bias,
                    gamma,
                    out,
                };
                dispatch(self.level, mix);
                let (out, normed) = (
                    self.target(at).get(range.clone()),
                    self.normed.get_mut(range),
                );
                for (out, normed) in out.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
                    rms_norm(self.level, out, block.ffn_norm, eps, normed);
                }
            }
        }
    }
}

/// The kernels of a depthwise convolution, tap by tap.
fn by_taps(weights: Weights<'_>, kernel: usize, taps: &mut [f32]) {
    let width = taps.len() / kernel;
    for (tap, taps) in taps.chunks_exact_mut(width).enumerate() {
        for (channel, to) in taps.iter_mut().enumerate() {
            *to = weights.get(channel * kernel + tap);
        }
    }
}

/// `out = x + gamma * (bias + taps * normed)`, row by row.
struct Mix<'a> {
    x: &'a [f32],
    /// The rows of `x`, and before them those that the first one sees.
    normed: &'a [f32],
    taps: &'a [f32],
    bias: &'a [f32],
    gamma: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Mix<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let width = self.bias.len();
        let rows = self.out.len() / width;
        let kernel = self.taps.len() / width;
        assert!(self.x.len() == rows * width && self.gamma.len() == width);
        assert!(self.normed.len() == (rows + kernel - 1) * width);
        assert!(self.taps.len() == kernel * width && self.out.len() == rows * width);
        let whole = width / I::LANES * I::LANES;
        for row in 0..rows {
            for at in (0..whole).step_by(I::LANES) {
                // SAFETY: a vector from `at` on is inside each row; the instructions are there.
                unsafe {
                    let mut sum = I::load(self.bias.as_ptr().add(at));
                    for tap in 0..kernel {
                        let normed = I::load(self.normed.as_ptr().add((row + tap) * width + at));
                        sum = I::fma(
                            I::load(self.taps.as_ptr().add(tap * width + at)),
                            normed,
                            sum,
                        );
                    }
                    let x = I::load(self.x.as_ptr().add(row * width + at));
                    let gamma = I::load(self.gamma.as_ptr().add(at));
                    I::store(
                        self.out.as_mut_ptr().add(row * width + at),
                        I::fma(gamma, sum, x),
                    );
                }
            }
            for at in whole..width {
                let mut sum = self.bias[at];
                for tap in 0..kernel {
                    sum += self.taps[tap * width + at] * self.normed[(row + tap) * width + at];
                }
                self.out[row * width + at] = self.x[row * width + at] + self.gamma[at] * sum;
            }
        }
    }
}

//! What a block does to rows before its matrices: norms and the depthwise convolution. Knows
//! nothing of the order.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `pass.rs`: each call writes rows that are in one step, and buffers
// of its worker's own.

use std::ops::Range;

use super::layers::Layer;
use super::pass::Pass;
use crate::conv::{Depthwise, by_taps};
use crate::isa::dispatch;
use crate::norm::rms_norm;
use crate::shared::{LINE, round_up};

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
            by_taps(block.mixer.numbers(), layer.kernel, taps);
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
                let mix = Depthwise {
                    seen: normed,
                    taps,
                    bias,
                    added_to: Some((&x[layer.history * width..], gamma)),
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

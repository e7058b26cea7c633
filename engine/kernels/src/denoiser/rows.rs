//! What a diffusion head does to a row between its layers: activations, and the norm that a
//! condition shifts and scales. Knows nothing of the order.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `mod.rs`: each call writes a row, which is in one step.

use super::parts::{DenoiserShape, DenoiserWeights};
use super::scratch::DenoiserScratch;
use crate::level::Level;
use crate::norm::rms_norm;
use crate::quant::Octet;
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::weights::Weights;

/// The longest wave's period, over two pi.
const PERIOD_MAX: f64 = 10_000.0;

/// The cosines of a time at falling frequencies, then the sines.
pub fn sinusoids(time: f32, out: &mut [f32]) {
    let count = out.len() / 2;
    let (cosines, sines) = out.split_at_mut(count);
    for (at, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
        let frequency = (-PERIOD_MAX.ln() * at as f64 / count as f64).exp() as f32;
        let angle = f64::from(time * frequency);
        (*cosine, *sine) = (angle.cos() as f32, angle.sin() as f32);
    }
}

/// `x / (1 + e^-x)`, in place.
pub(super) fn silu_all(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp());
}

/// The rows of a step.
pub(super) struct Rows<'a, 'w> {
    shape: &'a DenoiserShape,
    weights: &'a DenoiserWeights<'w>,
    level: Level,
    rows: usize,
    time: usize,
    /// Rows of all times.
    all: usize,
    pub stream: Shared<'a, f32>,
    pub normed: Shared<'a, f32>,
    pub added: Shared<'a, f32>,
    pub inner: Shared<'a, f32>,
    pub rounded: Shared<'a, Octet>,
    modulations: &'a [f32],
    ones: &'a [f32],
}

impl<'a, 'w> Rows<'a, 'w> {
    pub fn new(
        shape: &'a DenoiserShape,
        weights: &'a DenoiserWeights<'w>,
        scratch: &'a mut DenoiserScratch,
        level: Level,
        (rows, time): (usize, usize),
    ) -> Self {
        Rows {
            shape,
            weights,
            level,
            rows,
            time,
            all: rows * scratch.times_ready,
            stream: Shared::new(&mut scratch.stream),
            normed: Shared::new(&mut scratch.normed),
            added: Shared::new(&mut scratch.added),
            inner: Shared::new(&mut scratch.inner),
            rounded: Shared::new(Scratch::rounded(&mut scratch.rounded)),
            modulations: &scratch.modulations,
            ones: &scratch.ones,
        }
    }

    /// What a layer's modulation says of a row: so many parts of it.
    fn modulation(&self, layer: usize, row: usize) -> &[f32] {
        let hidden = self.shape.hidden;
        let parts = if layer < self.shape.layers { 3 } else { 2 };
        let at = self.time * self.rows + row;
        let first = (layer * self.all * 3 + at * parts) * hidden;
        &self.modulations[first..first + parts * hidden]
    }

    /// Adds what the layer before gives, as much of it as its gate lets through, and normalises the
    /// row for this one, or for the end.
    ///
    /// # Safety
    /// The row is in one step, and what the layer before gives is complete.
    pub unsafe fn modulate(&self, layer: usize, row: usize) {
        let hidden = self.shape.hidden;
        let range = row * hidden..(row + 1) * hidden;
        // SAFETY: as the caller promises.
        let (stream, normed) = unsafe {
            let stream = self.stream.get_mut(range.clone());
            (stream, self.normed.get_mut(range.clone()))
        };
        if let Some(before) = layer.checked_sub(1) {
            let gate = &self.modulation(before, row)[2 * hidden..];
            // SAFETY: as the caller promises.
            let added = unsafe { self.added.get(range) };
            let terms = gate.iter().zip(added).map(|(gate, added)| gate * added);
            stream
                .iter_mut()
                .zip(terms)
                .for_each(|(x, term)| *x += term);
        }
        let norm = match self.weights.layers.get(layer) {
            Some(layer) => layer.norm,
            None => Weights::F32(self.ones),
        };
        rms_norm(self.level, stream, norm, self.shape.norm_eps, normed);
        let (shift, scale) = self.modulation(layer, row).split_at(hidden);
        for ((x, shift), scale) in normed.iter_mut().zip(shift).zip(scale) {
            *x = *x * (1.0 + scale) + shift;
        }
    }
}

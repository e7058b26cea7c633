//! What a vocoder does to rows between its products. Knows nothing of the order.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `pass.rs`: each call writes rows that are in one step, and buffers
// of its worker's own.

use std::ops::Range;

use super::pass::Pass;
use super::snake::SnakeRows;
use super::tasks::{Memory, Place, Shown, SnakeOf, Spread, Window};
use crate::conv::{Depthwise, by_taps, gather, overlap};
use crate::isa::dispatch;
use crate::norm::rms_norm;
use crate::weights::Weights;

impl<'a, 'w: 'a> Pass<'a, 'w> {
    /// The entry of each frame's first code, and beside it the sum of the others'.
    ///
    /// # Safety
    /// The frames are in one step.
    pub(super) unsafe fn look(&self, frames: Range<usize>, worker: usize) {
        let width = self.shape.entry;
        let inner = self.memory(Memory::Inner);
        let (own, floats) = self.own();
        // SAFETY: the worker's.
        let entry = unsafe { own.get_mut(worker * floats..worker * floats + width) };
        for frame in frames {
            let codes = &self.codes[frame * self.shape.quantisers..][..self.shape.quantisers];
            // SAFETY: as the caller promises.
            let row = unsafe { inner.get_mut(frame * 2 * width..(frame + 1) * 2 * width) };
            let (first, rest) = row.split_at_mut(width);
            rest.fill(0.0);
            for (at, (code, codebook)) in codes.iter().zip(&self.weights.codebooks).enumerate() {
                let code = *code as usize;
                if at == 0 {
                    codebook.row_into(code, first);
                } else {
                    codebook.row_into(code, entry);
                    let both = rest.iter_mut().zip(&*entry);
                    both.for_each(|(sum, x)| *sum += x);
                }
            }
        }
    }

    /// # Safety
    /// The rows are in one step; the transformer's stream is complete.
    pub(super) unsafe fn norm(&self, rows: Range<usize>) {
        let (width, eps) = (self.shape.block.hidden, self.shape.block.norm_eps);
        for row in rows {
            let range = row * width..(row + 1) * width;
            // SAFETY: as the caller promises.
            let (x, out) = unsafe {
                (
                    self.memory(Memory::Hidden).get(range.clone()),
                    self.memory(Memory::Inner).get_mut(range),
                )
            };
            rms_norm(self.level, x, self.weights.norm, eps, out);
        }
    }

    /// Puts the inputs of some outputs of a convolution side by side.
    ///
    /// # Safety
    /// The rows are in one step; what they see is complete.
    pub(super) unsafe fn gather(&self, window: &Window, rows: Range<usize>) {
        let Window {
            width,
            kernel,
            apart,
            ..
        } = *window;
        let (seen, inputs) = (((kernel - 1) * apart + 1) * width, kernel * width);
        for row in rows {
            // SAFETY: as the caller promises.
            let (from, to) = unsafe {
                (
                    self.memory(Memory::Seen)
                        .get(row * width..row * width + seen),
                    self.memory(Memory::Gathered)
                        .get_mut(row * inputs..(row + 1) * inputs),
                )
            };
            gather(from, width, kernel, apart, to);
        }
    }

    /// Adds up the products of some times, and the bias.
    ///
    /// # Safety
    /// The times are in one step; the products are complete.
    pub(super) unsafe fn overlap(&self, spread: &Spread, times: Range<usize>) {
        let bias = self.spread_conv(spread).bias;
        let (products, before) = (spread.products(), spread.before());
        let each = spread.stride * spread.outputs;
        let taps = (spread.kernel, spread.stride);
        let (all, target) = (self.memory(Memory::Products), self.rows(spread.to));
        for time in times {
            // SAFETY: as the caller promises.
            let (seen, out) = unsafe {
                (
                    all.get(time * products..(time + 1) * products + before),
                    target.get_mut(time * each..(time + 1) * each),
                )
            };
            let (before, now) = seen.split_at(before);
            let before = Some(before).filter(|before| !before.is_empty());
            overlap((before, now), taps, bias, out);
        }
    }

    /// The depthwise convolution and the norm of a first stage.
    ///
    /// # Safety
    /// The rows are in one step; what they see is complete.
    pub(super) unsafe fn mix(&self, stage: usize, rows: Range<usize>, worker: usize) {
        let weights = &self.weights.upsample[stage];
        let (width, kernel) = (self.shape.latent, self.shape.kernel);
        let (own, floats) = self.own();
        let past = (kernel - 1) * width;
        // SAFETY: as the caller promises; `own` is the worker's.
        let (own, seen, out) = unsafe {
            let range = rows.start * width..rows.end * width;
            (
                own.get_mut(worker * floats..(worker + 1) * floats),
                self.memory(Memory::Seen).get(range.start..range.end + past),
                self.memory(Memory::Inner).get_mut(range),
            )
        };
        let (taps, own) = own.split_at_mut(kernel * width);
        let bias = &mut own[..width];
        by_taps(weights.mixer.numbers(), kernel, taps);
        weights.mixer.bias.widen_into(0, bias);
        let mix = Depthwise {
            seen,
            taps,
            bias,
            added_to: None,
            out,
        };
        // SAFETY: levels in use are supported.
        unsafe { dispatch(self.level, mix) };
        for row in out.chunks_exact_mut(width) {
            let eps = f64::from(self.shape.layer_norm_eps);
            layer_norm(row, weights.norm, weights.norm_bias, eps);
        }
    }

    /// # Safety
    /// The rows are in one step, and complete.
    pub(super) unsafe fn snake(
        &self,
        of: SnakeOf,
        from: Place,
        to: Place,
        width: usize,
        rows: Range<usize>,
        worker: usize,
    ) {
        let w = self.weights;
        let snake = match of {
            SnakeOf::Stage(stage) => w.stages[stage].snake,
            SnakeOf::Unit1(stage, unit) => w.stages[stage].units[unit].snake1,
            SnakeOf::Unit2(stage, unit) => w.stages[stage].units[unit].snake2,
            SnakeOf::Last => w.snake,
        };
        let (own, floats) = self.own();
        let range = rows.start * width..rows.end * width;
        // SAFETY: as the caller promises; `own` is the worker's.
        unsafe {
            let own = own.get_mut(worker * floats..worker * floats + 2 * width);
            let (frequency, gain) = own.split_at_mut(width);
            snake.frequency.widen_into(0, frequency);
            snake.gain.widen_into(0, gain);
            let in_place = from == to;
            let snake = SnakeRows {
                from: (!in_place).then(|| self.rows(from).get(range.clone())),
                to: self.rows(to).get_mut(range),
                frequency,
                gain,
            };
            dispatch(self.level, snake);
        }
    }

    /// Copies a stage out.
    ///
    /// # Safety
    /// The frames are in one step; their rows are complete.
    pub(super) unsafe fn show(&self, stage: &Shown, frames: Range<usize>) {
        let floats = stage.frame();
        let range = frames.start * floats..frames.end * floats;
        let to = stage.before * self.room;
        // SAFETY: as the caller promises.
        unsafe {
            let rows = self.rows(stage.from).get(range.clone());
            let out = self.shown.get_mut(to + range.start..to + range.end);
            out.copy_from_slice(rows);
        }
    }

    /// # Safety
    /// The samples are in one step, and complete.
    pub(super) unsafe fn clamp(&self, samples: Range<usize>) {
        // SAFETY: as the caller promises.
        let samples = unsafe { self.audio.get_mut(samples) };
        samples.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
    }
}

/// Less its mean, over its deviation, times weights, plus biases; in place.
fn layer_norm(row: &mut [f32], weight: Weights<'_>, bias: Weights<'_>, eps: f64) {
    let count = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = row.iter().map(|x| (f64::from(*x) - mean).powi(2));
    let scale = 1.0 / (squares.sum::<f64>() / count + eps).sqrt();
    for (at, x) in row.iter_mut().enumerate() {
        let normed = ((f64::from(*x) - mean) * scale) as f32;
        *x = normed * weight.get(at) + bias.get(at);
    }
}

//! A diffusion head: what a noisy latent is off, given a condition and a time; and the connectors
//! that turn latents into rows of a transformer. Knows nothing of schedules or of what is denoised.
//!
//! A frame takes several steps over the same conditions, and every frame the same times. So times
//! are embedded once a run ([`embed_times`]), and what conditions become at each of them once a
//! frame ([`condition`]), for all steps together: the weights that this takes are read once. A step
//! ([`denoise_step`]) reads the layers.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because each phase writes a buffer that it does not read, but for rows of the step's own;
// all are borrowed exclusively.

mod chain;
mod connector;
mod parts;
mod rows;
mod scratch;

pub use connector::{Between, connect};
pub use parts::{DenoiserLayer, DenoiserShape, DenoiserWeights};
pub use rows::sinusoids;
pub use scratch::{ConnectScratch, ConnectScratchSize, DenoiserScratch, DenoiserScratchSize};

use super::linear::Then;
use super::shared::Shared;
use super::team::Team;
use super::weights::Matrix;
use chain::{Chain, Layer};
use rows::silu_all;

/// Embeds the times of the steps of a run, which [`denoise_step`] takes by their places.
///
/// # Panics
/// If there are more than `scratch` has room for, or sizes do not agree.
pub fn embed_times(
    team: &Team,
    shape: &DenoiserShape,
    weights: &DenoiserWeights<'_>,
    times: &[f32],
    scratch: &mut DenoiserScratch,
) {
    check(shape, weights, scratch);
    let rows = times.len();
    assert!(rows <= scratch.times, "{rows} times of {}", scratch.times);
    (scratch.times_ready, scratch.rows_ready) = (rows, 0);
    if rows == 0 {
        return;
    }
    let width = shape.frequency;
    for (time, out) in times.iter().zip(scratch.sinusoids.chunks_exact_mut(width)) {
        sinusoids(*time, out);
    }
    let first = Shared::new(&mut scratch.sinusoids);
    let inner = Shared::new(&mut scratch.stream);
    let out = Shared::new(&mut scratch.embeddings);
    let links = |phase| match phase {
        0 => plain(weights.time_fc1, Then::Store, first, inner, rows),
        1 => None,
        _ => plain(weights.time_fc2, Then::Store, inner, out, rows),
    };
    let row = |_, row: usize| {
        // SAFETY: the row is in one step, and the phase before is over.
        silu_all(unsafe { inner.get_mut(row * shape.hidden..(row + 1) * shape.hidden) });
    };
    let bytes = rows * (weights.time_fc1.bytes() + weights.time_fc2.bytes());
    // SAFETY: the layers write another buffer than they read.
    unsafe { Chain::new(team, (3, rows), bytes, links, row) }.run();
}

/// Prepares a frame: what its conditions, a row for each row that is denoised, become in every
/// layer at every time that is embedded.
///
/// # Panics
/// If there are more rows than `scratch` has room for, or sizes do not agree.
pub fn condition(
    team: &Team,
    shape: &DenoiserShape,
    weights: &DenoiserWeights<'_>,
    conditions: &[f32],
    scratch: &mut DenoiserScratch,
) {
    check(shape, weights, scratch);
    let (hidden, times) = (shape.hidden, scratch.times_ready);
    let rows = conditions.len() / hidden;
    assert!(conditions.len() == rows * hidden && rows <= scratch.rows);
    // SAFETY: the first layer reads it.
    let x = unsafe { Shared::reading(conditions) };
    let projected = Shared::new(&mut scratch.stream);
    let embeddings = Shared::new(&mut scratch.embeddings);
    let activated = Shared::new(&mut scratch.conditions);
    let modulations = Shared::new(&mut scratch.modulations);
    let all = rows * times;
    scratch.rows_ready = rows;
    if all == 0 {
        return;
    }
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let stride = scratch.own.len() / scratch.threads;
    let panels = (Shared::new(&mut scratch.own), stride);
    let links = |phase| match phase {
        0 => plain(weights.cond_proj, Then::Store, x, projected, rows),
        1 => None,
        _ => {
            let at = phase - 2;
            let matrix = match weights.layers.get(at) {
                Some(layer) => layer.modulation,
                None => weights.final_modulation,
            };
            let out = modulations.part(at * all * 3 * hidden..modulations.len());
            // Conditions at all times are many rows.
            let layer = plain(matrix, Then::Store, activated, out, all)?;
            Some(Layer {
                panels: Some(panels),
                ..layer
            })
        }
    };
    let row = |_, at: usize| {
        let (time, row) = (at / rows, at % rows);
        let range = |row: usize| row * hidden..(row + 1) * hidden;
        // SAFETY: the row is in one step, and the phase before is over.
        let (out, row, time) = unsafe {
            (
                activated.get_mut(range(at)),
                projected.get(range(row)),
                embeddings.get(range(time)),
            )
        };
        let sums = row.iter().zip(time).map(|(row, time)| row + time);
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
        silu_all(out);
    };
    let bytes = all * weights.condition_bytes();
    // SAFETY: the layers write another buffer than they read, and so do the rows.
    unsafe { Chain::new(team, (3 + shape.layers, all), bytes, links, row) }.run();
}

/// What the rows of `noisy` are off at the time at place `time`, into `out`, under the conditions
/// that [`condition`] was given. A row's numbers depend neither on the other rows nor on the number
/// of threads.
///
/// # Panics
/// If the time or the conditions are not prepared, or sizes do not agree.
pub fn denoise_step(
    team: &Team,
    shape: &DenoiserShape,
    weights: &DenoiserWeights<'_>,
    time: usize,
    noisy: &[f32],
    out: &mut [f32],
    scratch: &mut DenoiserScratch,
) {
    check(shape, weights, scratch);
    let rows = noisy.len() / shape.latent;
    assert!(noisy.len() == rows * shape.latent && out.len() == noisy.len());
    let (ready, conditions) = (scratch.times_ready, scratch.rows_ready);
    assert!(time < ready, "time {time} of {ready}");
    assert!(
        rows == conditions,
        "{rows} rows under {conditions} conditions"
    );
    if rows == 0 {
        return;
    }
    let steps = rows::Rows::new(shape, weights, scratch, team.level(), (rows, time));
    // SAFETY: the first layer reads it.
    let x = unsafe { Shared::reading(noisy) };
    let out = Shared::new(out);
    let last = 1 + 3 * shape.layers;
    let links = |phase: usize| match (phase, phase.wrapping_sub(1) % 3) {
        (0, _) => plain(weights.noisy_proj, Then::Store, x, steps.stream, rows),
        (phase, _) if phase > last => {
            plain(weights.final_linear, Then::Store, steps.normed, out, rows)
        }
        (_, 0) => None,
        (_, part) => {
            let weights = &weights.layers[(phase - 1) / 3];
            let layer = if part == 1 {
                let both = weights.gate.above(weights.up);
                plain(both, Then::SwiGlu, steps.normed, steps.inner, rows)
            } else {
                plain(weights.down, Then::Store, steps.inner, steps.added, rows)
            };
            let rounded = steps.rounded;
            layer.map(|layer| Layer { rounded, ..layer })
        }
    };
    // SAFETY: the row is in one step, and the phase before is over.
    let row = |phase: usize, row: usize| unsafe { steps.modulate((phase - 1) / 3, row) };
    let bytes = rows * weights.step_bytes();
    // SAFETY: the layers write another buffer than they read, and so do the rows, but for the row
    // of the stream that is their own.
    unsafe { Chain::new(team, (last + 2, rows), bytes, links, row) }.run();
}

/// One step by itself: [`embed_times`] for `time`, [`condition`] and [`denoise_step`]. What was
/// prepared before is forgotten.
///
/// # Panics
/// If sizes do not agree, or there are more rows than `scratch` has room for.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn denoise(
    team: &Team,
    shape: &DenoiserShape,
    weights: &DenoiserWeights<'_>,
    noisy: &[f32],
    time: f32,
    conditions: &[f32],
    out: &mut [f32],
    scratch: &mut DenoiserScratch,
) {
    embed_times(team, shape, weights, &[time], scratch);
    condition(team, shape, weights, conditions, scratch);
    denoise_step(team, shape, weights, 0, noisy, out, scratch);
}

fn check(shape: &DenoiserShape, weights: &DenoiserWeights<'_>, scratch: &DenoiserScratch) {
    weights.check(shape);
    assert!(*shape == scratch.shape, "scratch of another shape");
}

/// Without quantised weights.
fn plain<'a>(
    weights: Matrix<'a>,
    then: Then,
    x: Shared<'a, f32>,
    out: Shared<'a, f32>,
    rows: usize,
) -> Option<Layer<'a>> {
    Some(Layer {
        weights,
        bias: None,
        then,
        x,
        out,
        rows,
        panels: None,
        rounded: Shared::new(&mut []),
    })
}

#[cfg(test)]
mod tests;

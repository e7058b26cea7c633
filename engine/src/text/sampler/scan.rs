//! The passes over a whole vocabulary of logits, which are most of what sampling costs.
//! They must not know what happens to the tokens they find.

use super::TextError;
use super::ranking::weight;

/// The token with the largest logit, the lowest id among equals; finds bad logits on the way.
/// Chunk by chunk: what is asked of a whole chunk has no branches and is vectorised.
pub(super) fn likeliest(logits: &[f32]) -> Result<u32, TextError> {
    const CHUNK: usize = 1024;
    let mut best = (0, f32::NEG_INFINITY);
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        let is_bad = |logit: f32| logit.is_nan() | (logit == f32::INFINITY);
        if chunk.iter().fold(false, |bad, &logit| bad | is_bad(logit)) {
            let at = chunk.iter().position(|&logit| is_bad(logit)).unwrap_or(0);
            return Err(TextError::NonFiniteLogits {
                token: (index * CHUNK + at) as u32,
                value: chunk[at],
            });
        }
        let peak = largest(chunk);
        if peak > best.1 {
            let at = chunk.iter().position(|&logit| logit == peak).unwrap_or(0);
            best = (index * CHUNK + at, peak);
        }
    }
    if best.1 == f32::NEG_INFINITY {
        return Err(TextError::NothingToSample {
            logits: logits.len(),
        });
    }
    Ok(best.0 as u32)
}

/// The numbers are not NaN.
fn largest(numbers: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 8];
    for chunk in numbers.chunks(lanes.len()) {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, number);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// One pass that keeps a few more than k and cuts back when full: no sort of the vocabulary.
pub(super) fn kth_largest(logits: &[f32], k: usize, top: &mut Vec<f32>) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let full = top.capacity();
    let mut floor = f32::NEG_INFINITY;
    top.clear();
    for &logit in logits {
        if logit > floor {
            if top.len() == full {
                top.select_nth_unstable_by(k - 1, descending);
                top.truncate(k);
                floor = top[k - 1];
            }
            top.push(logit);
        }
    }
    if top.len() < k {
        return f32::NEG_INFINITY;
    }
    *top.select_nth_unstable_by(k - 1, descending).1
}

/// What all tokens weigh together: a sum in a fixed order that leaves eight additions in flight.
pub(super) fn total_weight(logits: &[f32], peak: f32, temperature: f32) -> f64 {
    // Weighed by the chunk and then added: both loops are vectorised.
    let mut weights = [0.0; 256];
    let mut lanes = [0.0; 8];
    for chunk in logits.chunks(weights.len()) {
        for (slot, &logit) in weights.iter_mut().zip(chunk) {
            *slot = weight(logit, peak, temperature);
        }
        for eight in weights[..chunk.len()].chunks(lanes.len()) {
            for (lane, &weight) in lanes.iter_mut().zip(eight) {
                *lane += f64::from(weight);
            }
        }
    }
    lanes.iter().sum()
}

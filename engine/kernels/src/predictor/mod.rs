//! A small transformer that predicts the codes of a frame, one after another: each code is chosen
//! by the caller, and its embedding is what the next step begins with. All steps of a frame are one
//! region of the team, and nothing is allocated between them. Knows nothing of sampling, or of what
//! codes stand for.

mod frame;
mod parts;
mod scratch;

pub use parts::{PredictorShape, PredictorWeights};
pub use scratch::{PredictorScratch, PredictorScratchSize};

use std::sync::Mutex;

use super::cache::LayerCache;
use super::rope::RopeTable;
use super::scratch::Scratch;
use super::shared::Shared;
use super::team::Team;
use frame::{Choice, Frame};

/// Chooses the code of a step from its logits, which it may change.
pub type Choose<'a> = dyn FnMut(usize, &mut [f32]) -> u32 + Send + 'a;

/// Predicts the codes of a frame that begins with the two `rows`, into `codes`; `sum` becomes the
/// sum of their embeddings. `choose` runs on one thread of the team while the others wait. Its
/// choices decide the result together with the rows: the number of threads changes no bit.
///
/// # Panics
/// If sizes do not agree, `rope` is too short, `scratch` was made for another shape or team, or a
/// code is chosen that there is not.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn predict_codes<'a>(
    team: &Team,
    shape: &PredictorShape,
    weights: &PredictorWeights<'_>,
    rope: &RopeTable,
    rows: &[f32],
    choose: &'a mut Choose<'a>,
    codes: &'a mut [u32],
    sum: &'a mut [f32],
    scratch: &'a mut PredictorScratch,
) {
    weights.check(shape);
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let (count, positions) = (shape.steps, shape.positions());
    assert!(codes.len() == count, "{} codes of {count}", codes.len());
    assert!(sum.len() == shape.input && rows.len() == scratch::ROWS * shape.input);
    let table = rope.positions();
    assert!(
        positions <= table,
        "{positions} positions in a table of {table}"
    );
    sum.fill(0.0);
    if count == 0 {
        return;
    }
    if weights.projection.is_some() {
        scratch.inputs.copy_from_slice(rows);
    } else {
        scratch.hidden.copy_from_slice(rows);
    }
    let frame = Frame {
        shape,
        weights,
        rope,
        level: team.level(),
        threads: team.threads(),
        inputs: Shared::new(&mut scratch.inputs),
        hidden: Shared::new(&mut scratch.hidden),
        logits: Shared::new(&mut scratch.logits),
        rounded: Shared::new(Scratch::rounded(&mut scratch.rounded)),
        caches: scratch.caches.iter_mut().map(LayerCache::share).collect(),
        buffers: scratch.block.share(),
        choice: Mutex::new(Choice { choose, codes, sum }),
        lengths: Default::default(),
    };
    team.run(&frame.ready());
}

#[cfg(test)]
mod tests;

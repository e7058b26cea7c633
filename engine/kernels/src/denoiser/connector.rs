//! What turns latents into rows that a transformer takes: two linear layers and a norm, or
//! an activation, between them. Knows nothing of where either comes from.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because each phase writes a buffer of its own, and rows are in one step.

use super::chain::{Chain, Layer};
use super::rows::silu_all;
use super::scratch::ConnectScratch;
use crate::linear::Then;
use crate::norm::rms_norm;
use crate::shared::Shared;
use crate::team::Team;
use crate::weights::{Matrix, Weights};

/// What stands between the two layers.
#[derive(Clone, Copy, Debug)]
pub enum Between<'a> {
    /// A norm, and what is added to its mean square.
    Norm(Weights<'a>, f32),
    /// `x * sigmoid(x)`.
    Silu,
}

/// `out = fc2(between(fc1(x)))` for each row of `x`, with biases. A row's numbers depend neither on
/// the other rows nor on the number of threads.
///
/// # Panics
/// If sizes do not agree.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn connect(
    team: &Team,
    fc1: Matrix<'_>,
    bias1: Weights<'_>,
    between: Between<'_>,
    fc2: Matrix<'_>,
    bias2: Weights<'_>,
    x: &[f32],
    out: &mut [f32],
    scratch: &mut ConnectScratch,
) {
    let (width, inputs, outputs) = (fc1.rows(), fc1.cols(), fc2.rows());
    assert!(bias1.len() == width && fc2.cols() == width);
    if let Between::Norm(norm, _) = between {
        assert!(norm.len() == width);
    }
    assert!(bias2.len() == outputs && width <= scratch.width);
    let rows = x.len() / inputs;
    assert!(x.len() == rows * inputs && out.len() == rows * outputs);
    let most = scratch.rows;
    for (x, out) in x.chunks(most * inputs).zip(out.chunks_mut(most * outputs)) {
        let rows = x.len() / inputs;
        // SAFETY: the first layer reads it.
        let x = unsafe { Shared::reading(x) };
        let out = Shared::new(out);
        let inner = Shared::new(&mut scratch.inner);
        let normed = Shared::new(&mut scratch.normed);
        let layer = |weights, bias, x, out| {
            Some(Layer {
                weights,
                bias: Some(bias),
                then: Then::Store,
                x,
                out,
                rows,
                panels: None,
                // Connectors are kept as they are.
                rounded: Shared::new(&mut []),
            })
        };
        let links = |phase| match phase {
            0 => layer(fc1, bias1, x, inner),
            1 => None,
            _ => layer(fc2, bias2, normed, out),
        };
        let row = |_, row: usize| {
            let range = row * width..(row + 1) * width;
            // SAFETY: the row is in one step, and the phase before is over.
            let (inner, normed) = unsafe { (inner.get(range.clone()), normed.get_mut(range)) };
            match between {
                Between::Norm(norm, eps) => rms_norm(team.level(), inner, norm, eps, normed),
                Between::Silu => {
                    normed.copy_from_slice(inner);
                    silu_all(normed);
                }
            }
        };
        let bytes = rows * (fc1.bytes() + fc2.bytes());
        // SAFETY: each phase writes another buffer than it reads.
        unsafe { Chain::new(team, (3, rows), bytes, links, row) }.run();
    }
}

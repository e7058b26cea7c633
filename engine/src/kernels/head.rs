//! The two ends of a model: a token's row of the embedding, and the scores of all tokens.
//! Knows nothing of what a token means.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `block.rs`: each worker writes its own buffer and its own outputs.

use super::block::BlockShape;
use super::linear::{Epilogue, Linear, Then};
use super::norm::rms_norm;
use super::scratch::Scratch;
use super::shared::{LINE, Shared, round_up};
use super::team::Team;
use super::weights::{Matrix, Weights};

/// The row of `table` for `token`, widened into `out`.
///
/// # Panics
/// If there is no such row, or `out` is not as long as one.
pub fn embed(table: Matrix<'_>, token: usize, out: &mut [f32]) {
    assert!(token < table.rows(), "token {token} of {}", table.rows());
    assert!(
        out.len() == table.cols(),
        "a row of {} into {}",
        table.cols(),
        out.len()
    );
    table.row_into(token, out);
}

/// `out = head * norm(hidden_row)`, over the whole vocabulary.
///
/// # Panics
/// If the lengths do not agree, or `scratch` was made for another shape or team.
pub fn logits(
    team: &Team,
    norm: Weights<'_>,
    eps: f32,
    hidden_row: &[f32],
    head: Matrix<'_>,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let BlockShape { hidden, .. } = scratch.shape;
    assert!(hidden_row.len() == hidden && norm.len() == hidden && head.cols() == hidden);
    assert!(
        out.len() == head.rows(),
        "{} logits into {}",
        head.rows(),
        out.len()
    );
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let stride = round_up(hidden, LINE);
    let own = Shared::new(&mut scratch.own_normed);
    let tiles = Shared::new(&mut scratch.tiles);
    let out = Shared::new(out);
    let level = team.level();
    team.run(|worker| {
        let start = worker.index() * stride;
        // SAFETY: each worker uses its own piece; `out` is written in disjoint shares.
        unsafe {
            let normed = own.get_mut(start..start + hidden);
            rms_norm(level, hidden_row, norm, eps, normed);
            let epilogue = Epilogue {
                then: Then::Store,
                bias: None,
                out,
                stride: head.rows(),
            };
            let x = Shared::new(normed);
            Linear {
                weights: head,
                x,
                x_stride: hidden,
                rows: 1,
                epilogue,
                tiles,
            }
            .run(level, worker);
        }
    });
}

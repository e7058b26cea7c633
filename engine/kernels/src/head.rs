//! The two ends of a model: a token's row of the embedding, and the scores of all tokens.
//! Knows nothing of what a token means.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `block.rs`: each worker writes its own row, and each step its own outputs.

use super::block::BlockShape;
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::norm::rms_norm;
use super::quant::Octet;
use super::scratch::Scratch;
use super::shared::{LINE, Shared, round_up};
use super::team::{Region, Steps, Team};
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
    let outputs = head.rows();
    team.run(&Logits {
        norm,
        eps,
        hidden_row,
        head,
        own: Shared::new(&mut scratch.own_normed),
        tiles: Shared::new(&mut scratch.tiles),
        rounded: Shared::new(Scratch::rounded(&mut scratch.rounded)),
        epilogue: Epilogue {
            then: Then::Store,
            bias: None,
            out: Shared::new(out),
            stride: outputs,
        },
        team: (team.level(), team.threads()),
    });
}

struct Logits<'a> {
    norm: Weights<'a>,
    eps: f32,
    hidden_row: &'a [f32],
    head: Matrix<'a>,
    own: Shared<'a, f32>,
    tiles: Shared<'a, f32>,
    rounded: Shared<'a, Octet>,
    epilogue: Epilogue<'a>,
    team: (Level, usize),
}

impl<'a> Logits<'a> {
    fn linear(&self, x: Shared<'a, f32>) -> Linear<'a> {
        Linear {
            weights: self.head,
            x,
            x_stride: self.hidden_row.len(),
            rows: 1,
            epilogue: self.epilogue,
            tiles: self.tiles,
            rounded: self.rounded,
        }
    }
}

impl Region for Logits<'_> {
    fn phases(&self) -> usize {
        let (level, threads) = self.team;
        self.linear(self.own).phases(level, threads)
    }

    fn open(&self, phase: usize) -> usize {
        let (level, threads) = self.team;
        self.linear(self.own).steps(level, phase, threads)
    }

    fn bytes(&self) -> usize {
        self.head.bytes()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (level, _) = self.team;
        let hidden = self.hidden_row.len();
        let start = steps.worker() * round_up(hidden, LINE);
        // SAFETY: each worker uses its own row; `out` is written in disjoint steps.
        unsafe {
            let normed = self.own.get_mut(start..start + hidden);
            rms_norm(level, self.hidden_row, self.norm, self.eps, normed);
            self.linear(Shared::new(normed)).work(level, phase, steps);
        }
    }
}

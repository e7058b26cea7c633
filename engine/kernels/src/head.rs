//! The two ends of a model: a token's row of the embedding, and the scores of all tokens.
//! Knows nothing of what a token means.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `block/pass.rs`: each worker writes its own row, and each step its own outputs.

use super::block::BlockShape;
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::norm::rms_norm;
use super::quant::Octet;
use super::run::RunKind;
use super::scratch::Scratch;
use super::shared::{LINE, Shared, round_up};
use super::team::{Cut, Region, Steps, Team};
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

/// `out = head * norm(row)` for each row of `hidden`, over the whole vocabulary: the same bits for a
/// row whatever stands beside it.
///
/// # Panics
/// If the lengths do not agree, or `scratch` was made for another shape or team.
pub fn logits(
    team: &Team,
    norm: Weights<'_>,
    eps: f32,
    hidden: &[f32],
    head: Matrix<'_>,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let BlockShape { hidden: width, .. } = scratch.shape;
    assert!(norm.len() == width && head.cols() == width);
    let (rows, outputs) = (hidden.len() / width, head.rows());
    assert!(
        hidden.len() == rows * width && out.len() == rows * outputs,
        "{} floats, {} logits",
        hidden.len(),
        out.len()
    );
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let most = scratch.max_rows;
    let chunks = hidden.chunks(most * width);
    for (hidden, out) in chunks.zip(out.chunks_mut(most * outputs)) {
        team.run(&Logits {
            norm,
            eps,
            width,
            hidden,
            head: &head,
            own: Shared::new(&mut scratch.own_normed),
            normed: Shared::new(&mut scratch.normed),
            tiles: Shared::new(&mut scratch.tiles),
            rounded: Shared::new(Scratch::rounded(&mut scratch.rounded)),
            epilogue: Epilogue {
                then: Then::Store,
                bias: None,
                gain: None,
                out: Shared::new(out),
                stride: outputs,
            },
            team: (team.level(), team.threads()),
        });
    }
}

struct Logits<'a> {
    norm: Weights<'a>,
    eps: f32,
    width: usize,
    hidden: &'a [f32],
    head: &'a Matrix<'a>,
    /// A row for each worker, where there is one in all.
    own: Shared<'a, f32>,
    normed: Shared<'a, f32>,
    tiles: Shared<'a, f32>,
    rounded: Shared<'a, Octet>,
    epilogue: Epilogue<'a>,
    team: (Level, usize),
}

impl<'a> Logits<'a> {
    fn rows(&self) -> usize {
        self.hidden.len() / self.width
    }

    /// The phases of the norms come first: of several rows.
    fn norm_phases(&self) -> usize {
        usize::from(self.rows() > 1)
    }

    fn norm_cut(&self) -> Cut {
        Cut::pieces(4, self.rows(), self.team.1)
    }

    fn linear(&self, x: Shared<'a, f32>) -> Linear<'a> {
        Linear {
            weights: self.head,
            x,
            x_stride: self.width,
            rows: self.rows(),
            kind: RunKind::Decode,
            epilogue: self.epilogue,
            tiles: self.tiles,
            rounded: self.rounded,
        }
    }
}

impl Region for Logits<'_> {
    fn phases(&self) -> usize {
        let (level, threads) = self.team;
        self.norm_phases() + self.linear(self.normed).phases(level, threads)
    }

    fn open(&self, phase: usize) -> usize {
        let (level, threads) = self.team;
        match phase.checked_sub(self.norm_phases()) {
            None => self.norm_cut().steps(),
            Some(phase) => self.linear(self.normed).steps(level, phase, threads),
        }
    }

    fn bytes(&self) -> usize {
        self.rows() * self.head.bytes()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (level, _) = self.team;
        let width = self.width;
        let row = |row: usize| row * width..(row + 1) * width;
        // SAFETY: each worker uses its own row, or rows in one step each; `out` is written in disjoint
        // steps.
        unsafe {
            match phase.checked_sub(self.norm_phases()) {
                None => {
                    let cut = self.norm_cut();
                    for at in steps.flat_map(|step| cut.piece(step)) {
                        let normed = self.normed.get_mut(row(at));
                        rms_norm(level, &self.hidden[row(at)], self.norm, self.eps, normed);
                    }
                }
                Some(phase) if self.rows() > 1 => {
                    self.linear(self.normed).work(level, phase, steps);
                }
                Some(phase) => {
                    let start = steps.worker() * round_up(width, LINE);
                    let normed = self.own.get_mut(start..start + width);
                    rms_norm(level, self.hidden, self.norm, self.eps, normed);
                    self.linear(Shared::new(normed)).work(level, phase, steps);
                }
            }
        }
    }
}

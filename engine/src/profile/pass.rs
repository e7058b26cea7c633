//! The timing of one pass over all layers: of a prompt, or of the next token of each sequence.

use std::time::Duration;

use offload::StackId;

use super::stage::{Stage, StageTimes};
use crate::machine::CoreTime;

/// What a pass is for. The caller that makes the passes says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PassKind {
    /// Reads a prompt, or a part of one, for some of its sequences.
    Prompt,
    /// The next token of every sequence.
    #[default]
    Decode,
}

/// What one pass took, as the host's clock saw it, from embedding to the token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassTiming {
    pub kind: PassKind,
    /// Whose layers it went through.
    pub stack: StackId,
    /// What it gave: a token for each sequence.
    pub units: usize,
    /// Rows that went through: the prompt's tokens, or one for each sequence.
    pub rows: usize,
    /// Of the first row: as many positions were in the cache.
    pub position: usize,
    /// Positions that the last row of each sequence sees, over all sequences.
    pub seen: usize,
    pub total: Duration,
    pub stages: StageTimes,
    /// Of the time since the pass that last looked at the cores; most passes are too short to.
    pub cores: CoreTime,
}

impl PassTiming {
    /// Inside the blocks.
    pub fn compute(&self) -> Duration {
        [
            Stage::Widen,
            Stage::Norm,
            Stage::Attention,
            Stage::Mlp,
            Stage::Projection,
        ]
        .into_iter()
        .map(|stage| self.stages[stage].wall)
        .sum()
    }

    /// Waiting for streamed blocks.
    pub fn stalled(&self) -> Duration {
        self.stages[Stage::Transfer].wall
    }

    /// Adds another pass to a sum of passes.
    pub fn add(&mut self, other: &Self) {
        self.units += other.units;
        self.rows += other.rows;
        self.seen += other.seen;
        self.total += other.total;
        self.stages += &other.stages;
        self.cores.add(&other.cores);
    }
}

//! The timing of one pass over all layers: a prompt, or one generated token.

use std::time::Duration;

use super::stage::{Stage, StageTimes};
use crate::machine::CoreTime;

/// What one pass took, as the host's clock saw it, from embedding to the token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassTiming {
    /// Rows that went through: the prompt's tokens, or 1.
    pub rows: usize,
    /// Of the first row: as many positions were in the cache.
    pub position: usize,
    pub total: Duration,
    pub stages: StageTimes,
    /// Of the time since the pass that last looked at the cores; most passes are too short to.
    pub cores: CoreTime,
}

impl PassTiming {
    /// Inside the blocks.
    pub fn compute(&self) -> Duration {
        [Stage::Norm, Stage::Attention, Stage::Mlp]
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
        self.rows += other.rows;
        self.total += other.total;
        self.stages += &other.stages;
        self.cores.add(&other.cores);
    }
}

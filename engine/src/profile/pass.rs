//! The timing of one pass over all layers: a prompt, or one generated token.

use std::time::Duration;

/// Parts of one pass, as the host's clock saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassTiming {
    /// Rows that went through: the prompt's tokens, or 1.
    pub rows: usize,
    pub total: Duration,
    /// Inside the blocks.
    pub compute: Duration,
    /// Waiting for streamed blocks.
    pub stalled: Duration,
    /// Final norm and head.
    pub head: Duration,
    /// Choosing the token from the logits.
    pub sampling: Duration,
}

impl PassTiming {
    /// Everything that is neither a block's compute nor a wait for one.
    pub fn other(&self) -> Duration {
        self.total.saturating_sub(self.compute + self.stalled)
    }
}

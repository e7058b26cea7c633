//! Busy is not efficient: what a token reads of memory, beside how fast this memory can be read.

use super::window::Window;

/// The memory's limit on decode, measured on this machine in this run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryLimit {
    /// What all compute threads reach together with plain reads.
    pub gbps: f64,
    /// Weights that a pass of one row reads: every layer, and the head.
    pub weight_bytes: u64,
    /// Keys and values that a row reads for each position it sees.
    pub cache_bytes_per_position: u64,
}

/// A rate, and the share of its limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utilisation {
    pub gbps: f64,
    pub share: f64,
}

impl MemoryLimit {
    /// Bytes of weights and cache a token, over the time in which it was not waiting for layers.
    /// `None` for a window without tokens.
    pub fn utilisation(&self, window: &Window) -> Option<Utilisation> {
        let positions = window.mean_positions()?;
        let bytes = self.weight_bytes as f64 + self.cache_bytes_per_position as f64 * positions;
        let gbps = bytes / (window.token_ms() - window.stalled_ms()) / 1e6;
        Some(Utilisation {
            gbps,
            share: gbps / self.gbps,
        })
    }
}

//! What is known about each load once it has been used: the raw material of every report.

use std::fmt;
use std::time::{Duration, Instant};

use crate::block::BlockId;

/// Whether a load was ahead of its visit. Exact and known to the host; how long the visit then
/// waited is a separate number (a link-bound run stalls on loads that are all `Async`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// Issued before the visit asked for the block.
    Async,
    /// Issued because the visit asked.
    Sync,
}

impl fmt::Display for LoadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async => "ASYNC",
            Self::Sync => "SYNC",
        })
    }
}

/// One visit of one streamed block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadRecord {
    pub block: BlockId,
    /// The slot it came through.
    pub slot: u16,
    pub kind: LoadKind,
    /// Bytes that crossed the link.
    pub bytes: u64,
    /// When the load was ordered: its slot became free and the itinerary said what comes next (or
    /// when it was issued in fact, if that was late); without prefetch, when the visit
    /// asked. The link begins at `copy_from`.
    pub issued_at: Instant,
    /// When the link moved the first byte, and when the last had landed.
    pub copy_from: Instant,
    pub copy_to: Instant,
    /// When the visit asked for the block.
    pub asked_at: Instant,
    /// How long compute waited for it.
    pub pre: Duration,
    /// When the visit was over and its slot was about to be given back.
    pub visit_to: Instant,
    /// How long giving the slot back took.
    pub post: Duration,
    /// How long holding the bytes against their checksums took, on a thread of its own; zero
    /// where they are not verified.
    pub verify: Duration,
}

impl LoadRecord {
    /// When the visit's work began: the block was there.
    pub fn visit_from(&self) -> Instant {
        self.asked_at + self.pre
    }

    /// How long the link was at it.
    pub fn copy(&self) -> Duration {
        self.copy_to.saturating_duration_since(self.copy_from)
    }
}

//! All working memory of a projector, allocated once for the most positions that go through
//! together. Knows sizes only.

use super::ProjectorShape;
use crate::level::Level;
use crate::shared::Buffer;
use crate::team::Team;

/// How much working memory projectors of a shape take: what a plan counts, and a [`FuseScratch`] is
/// made from. In floats of each buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseScratchSize {
    shape: ProjectorShape,
    rows: usize,
    threads: usize,
    joined: usize,
}

impl FuseScratchSize {
    /// For chunks of up to `rows` positions of projectors of `shape`, computed by so many threads at
    /// `level`. More positions are computed chunk by chunk.
    pub fn of(level: Level, threads: usize, shape: &ProjectorShape, rows: usize) -> Self {
        let _ = level;
        let (rows, threads) = (rows.max(1), threads.max(1));
        FuseScratchSize {
            shape: *shape,
            rows,
            threads,
            joined: rows * shape.input(),
        }
    }

    /// Bytes that a [`FuseScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        Buffer::bytes_for(self.joined)
    }
}

/// Working memory of [`fuse`](super::fuse).
#[derive(Debug)]
pub struct FuseScratch {
    pub(super) shape: ProjectorShape,
    pub(super) rows: usize,
    pub(super) threads: usize,
    /// The channels of both caches.
    pub(super) joined: Buffer,
}

impl FuseScratch {
    /// Memory for chunks of up to `rows` positions of projectors of `shape`, computed by `team`.
    pub fn new(team: &Team, shape: &ProjectorShape, rows: usize) -> Self {
        let size = FuseScratchSize::of(team.level(), team.threads(), shape, rows);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &FuseScratchSize) -> Self {
        FuseScratch {
            shape: size.shape,
            rows: size.rows,
            threads: size.threads,
            joined: Buffer::zeroed(size.joined),
        }
    }

    /// Positions that one chunk holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.joined.bytes()
    }
}

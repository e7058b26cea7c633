//! All working memory of a projector, allocated once for the most positions that go through
//! together. Knows sizes only.

use super::{ProjectorShape, pass};
use crate::level::Level;
use crate::linear;
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
    residual: usize,
    gates: usize,
    stream: usize,
    inner: usize,
    tiles: usize,
    stages: usize,
}

impl FuseScratchSize {
    /// For chunks of up to `rows` positions of projectors of `shape`, computed by so many threads
    /// at `level`. More positions are computed chunk by chunk.
    pub fn of(level: Level, threads: usize, shape: &ProjectorShape, rows: usize) -> Self {
        let (rows, threads) = (rows.max(1), threads.max(1));
        let ProjectorShape {
            hidden,
            intermediate,
            target_heads,
            ..
        } = *shape;
        let inner = hidden.max(intermediate);
        let layers = [
            (hidden, shape.input()),
            (inner, hidden),
            (hidden, inner),
            (shape.output().max(target_heads), hidden),
        ];
        let tiles = |(outputs, cols)| linear::tile_floats(level, rows, outputs, cols, threads);
        FuseScratchSize {
            shape: *shape,
            rows,
            threads,
            joined: rows * shape.input(),
            residual: rows * shape.output(),
            gates: rows * target_heads,
            stream: rows * hidden,
            inner: rows * inner,
            tiles: layers.into_iter().map(tiles).max().unwrap_or(0),
            stages: pass::stages(shape),
        }
    }

    /// Bytes that a [`FuseScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let lane = [self.stream, self.stream, self.inner, self.tiles];
        let half = [self.joined, self.residual, self.gates];
        let bytes = |floats: &[usize]| -> usize {
            let buffers = floats.iter().copied();
            buffers.map(Buffer::bytes_for).sum()
        };
        2 * (bytes(&half) + 2 * bytes(&lane)) + self.stages * size_of::<usize>()
    }
}

/// Working memory of [`fuse`](super::fuse).
#[derive(Debug)]
pub struct FuseScratch {
    pub(super) shape: ProjectorShape,
    pub(super) rows: usize,
    pub(super) threads: usize,
    /// Of keys, and of values.
    pub(super) halves: [HalfScratch; 2],
    /// The phase after each stage's last.
    pub(super) ends: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct HalfScratch {
    /// The channels of both caches.
    pub joined: Buffer,
    pub residual: Buffer,
    /// A number a head of the target, before the sigmoid.
    pub gates: Buffer,
    /// On the way to the residual, and to the gates.
    pub lanes: [LaneScratch; 2],
}

#[derive(Debug)]
pub(super) struct LaneScratch {
    /// What blocks add to.
    pub stream: Buffer,
    pub normed: Buffer,
    /// The inner rows of a block.
    pub inner: Buffer,
    /// Activations, weights and sums as tiles: the lanes are multiplied side by side.
    pub tiles: Buffer,
}

impl FuseScratch {
    /// Memory for chunks of up to `rows` positions of projectors of `shape`, computed by `team`.
    pub fn new(team: &Team, shape: &ProjectorShape, rows: usize) -> Self {
        let size = FuseScratchSize::of(team.level(), team.threads(), shape, rows);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &FuseScratchSize) -> Self {
        let lane = || LaneScratch {
            stream: Buffer::zeroed(size.stream),
            normed: Buffer::zeroed(size.stream),
            inner: Buffer::zeroed(size.inner),
            tiles: Buffer::zeroed(size.tiles),
        };
        let half = || HalfScratch {
            joined: Buffer::zeroed(size.joined),
            residual: Buffer::zeroed(size.residual),
            gates: Buffer::zeroed(size.gates),
            lanes: [lane(), lane()],
        };
        FuseScratch {
            shape: size.shape,
            rows: size.rows,
            threads: size.threads,
            halves: [half(), half()],
            ends: vec![0; size.stages],
        }
    }

    /// Positions that one chunk holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let halves = self.halves.iter().map(HalfScratch::bytes);
        halves.sum::<usize>() + size_of_val(&*self.ends)
    }
}

impl HalfScratch {
    fn bytes(&self) -> usize {
        let lanes = self.lanes.iter();
        let lanes = lanes.flat_map(|lane| [&lane.stream, &lane.normed, &lane.inner, &lane.tiles]);
        let all = [&self.joined, &self.residual, &self.gates].into_iter();
        all.chain(lanes).map(Buffer::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::Pairing;

    #[test]
    fn the_size_is_what_is_allocated() {
        let shape = ProjectorShape {
            source_heads: 2,
            source_dim: 24,
            source_keys: Pairing::Halves,
            target_heads: 3,
            target_dim: 20,
            target_keys: Pairing::Halves,
            hidden: 40,
            intermediate: 56,
            layers: 4,
        };
        for level in crate::testing::levels() {
            for (threads, rows) in [(1, 1), (3, 40), (2, 256)] {
                let team = Team::with_level(threads, level);
                let size = FuseScratchSize::of(level, threads, &shape, rows);
                let scratch = FuseScratch::new(&team, &shape, rows);
                assert_eq!(scratch.bytes(), size.bytes());
                assert_eq!(scratch.rows(), rows);
            }
        }
    }
}

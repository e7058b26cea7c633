//! Attention of a chunk of rows over a layer's cache, which already holds the chunk's own keys and
//! values. Work is cut into units: a key-value head, a few rows with all the query heads that
//! share it, and (when there is one row and a long context) a stretch of positions; each reads its
//! keys and values once, tile by tile, with a running softmax. Memory does not grow with the
//! context. Knows nothing of projections.
#![expect(unsafe_code, reason = "hands shared buffers to vector kernels")]
// Sound because each unit writes its own rows and heads of the output, or its own partial result,
// and no worker writes the cache or the queries while attention runs.

mod vector;

use super::cache::SharedCache;
use super::isa::{MAX_LANES, dispatch};
use super::level::Level;
use super::shared::{Shared, round_up};
use super::team::Worker;

/// Queries (rows times heads of a group) that a unit aims at.
const UNIT_QUERIES: usize = 16;
/// Positions a tile.
pub(crate) const TILE: usize = 64;
/// Stretches of positions that one row's context is cut into at most.
const STRETCHES_MAX: usize = 16;
/// Positions below which a stretch is not worth a unit of its own.
const STRETCH_MIN: usize = 256;

/// Attention of `rows` rows at positions `position..`.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a row sees, itself included; `None` for all.
    pub window: Option<usize>,
    pub position: usize,
    pub rows: usize,
    pub cache: SharedCache<'a>,
    /// Queries: row `t`, head `h` at `t * q_stride + h * head_dim`.
    pub q: Shared<'a, f32>,
    pub q_stride: usize,
    /// Outputs: row `t`, head `h` at `t * heads * head_dim + h * head_dim`.
    pub out: Shared<'a, f32>,
    /// Partial results of one row cut by positions: see [`partial_floats`].
    pub partials: Shared<'a, f32>,
    /// A piece of [`worker_floats`] for each worker.
    pub work: Shared<'a, f32>,
}

/// Queries of the largest unit.
fn unit_queries_max(heads: usize, kv_heads: usize) -> usize {
    round_up(UNIT_QUERIES.max(heads / kv_heads), 4)
}

/// Floats of working memory a worker.
pub(crate) fn worker_floats(heads: usize, kv_heads: usize, head_dim: usize) -> usize {
    let queries = unit_queries_max(heads, kv_heads);
    let dim = round_up(head_dim, MAX_LANES);
    // The queries, the accumulated values, the scores of a tile, and a maximum and a sum each.
    queries * (2 * dim + TILE + 2 * MAX_LANES)
}

/// Floats for the partial results of one row.
pub(crate) fn partial_floats(heads: usize, head_dim: usize) -> usize {
    STRETCHES_MAX * heads * partial_stride(head_dim)
}

/// A partial result: the accumulated values, then the maximum and the sum.
fn partial_stride(head_dim: usize) -> usize {
    round_up(head_dim, MAX_LANES) + MAX_LANES
}

/// How one row's context is cut: a function of the context alone, so that results do not depend on
/// the number of threads. Returns positions a stretch and stretches.
fn stretches(first: usize, end: usize) -> (usize, usize) {
    let tiles = end.div_ceil(TILE) - first / TILE;
    let tiles_each = tiles.div_ceil(STRETCHES_MAX).max(STRETCH_MIN / TILE);
    (tiles_each * TILE, tiles.div_ceil(tiles_each))
}

impl Attention<'_> {
    /// Every worker's part; ends without a barrier.
    ///
    /// # Safety
    /// All workers call it with the same values; nobody writes the queries or the cache, nor uses
    /// the other buffers, until the barrier after it; `level` is supported.
    pub unsafe fn run(&self, level: Level, worker: &Worker<'_>) {
        assert!(
            self.position + self.rows <= self.cache.capacity,
            "the cache is too small"
        );
        let group = self.heads / self.kv_heads;
        if self.rows == 1 {
            let first = self.first_visible(self.position);
            let (length, count) = stretches(first, self.position + 1);
            if count > 1 {
                // SAFETY: passed on from the caller.
                return unsafe { self.one_row(level, worker, first, length, count) };
            }
        }
        let unit_rows = (UNIT_QUERIES / group).max(1);
        let row_units = self.rows.div_ceil(unit_rows);
        let units = row_units * self.kv_heads;
        worker.deal(units, 1, |piece| {
            let unit = piece.start;
            let (kv_head, row) = (unit % self.kv_heads, unit / self.kv_heads * unit_rows);
            let rows = row..(row + unit_rows).min(self.rows);
            let end = self.position + rows.end;
            let first = self.first_visible(self.position + rows.start) / TILE * TILE;
            let unit = vector::Unit {
                attention: self,
                kv_head,
                rows,
                first,
                end,
                partial: None,
            };
            // SAFETY: passed on; the unit's outputs are its own.
            unsafe {
                dispatch(
                    level,
                    vector::Attend {
                        unit,
                        worker: worker.index(),
                    },
                )
            };
        });
    }

    fn first_visible(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// # Safety
    /// As for `run`.
    unsafe fn one_row(
        &self,
        level: Level,
        worker: &Worker<'_>,
        first: usize,
        length: usize,
        count: usize,
    ) {
        let start = first / TILE * TILE;
        worker.deal(self.kv_heads * count, 1, |piece| {
            let unit = piece.start;
            let (kv_head, stretch) = (unit % self.kv_heads, unit / self.kv_heads);
            let first = start + stretch * length;
            let end = (first + length).min(self.position + 1);
            let partial = Some(stretch);
            let unit = vector::Unit {
                attention: self,
                kv_head,
                rows: 0..1,
                first,
                end,
                partial,
            };
            // SAFETY: passed on; the unit's partial results are its own.
            unsafe {
                dispatch(
                    level,
                    vector::Attend {
                        unit,
                        worker: worker.index(),
                    },
                )
            };
        });
        worker.barrier();
        for head in worker.share(self.heads, 1) {
            // SAFETY: all partial results are complete, and each head has one owner.
            unsafe {
                dispatch(
                    level,
                    vector::Combine {
                        attention: self,
                        head,
                        count,
                    },
                )
            };
        }
    }
}

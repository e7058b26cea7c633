//! Attention of a chunk of rows over a layer's cache, which already holds the chunk's own keys and
//! values. Work is cut into units: a key-value head, a few rows with all the query heads that
//! share it, or a single row of a decode or a draft and a stretch of its long context; each reads
//! its keys and values once, tile by tile, with a running softmax. Memory does not grow with the
//! context. Knows nothing of projections.
#![expect(unsafe_code, reason = "hands shared buffers to vector kernels")]
// Sound because each unit writes its own rows and heads of the output, or its own partial result,
// and no worker writes the cache or the queries while attention runs.

mod vector;

use super::cache::{SharedCache, SharedRows};
use super::isa::{MAX_LANES, dispatch};
use super::level::Level;
use super::shared::{Shared, round_up};
use super::team::Cut;

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
    /// Its first row among those of queries and outputs.
    pub first_row: usize,
    /// A single row whose context may be cut into stretches: which of the places for partial results is
    /// its own.
    pub cut: Option<usize>,
    pub cache: SharedCache<'a>,
    /// Queries: row `t`, head `h` at `(first_row + t) * q_stride + h * head_dim`.
    pub q: Shared<'a, f32>,
    pub q_stride: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Outputs: row `t`, head `h` at `((first_row + t) * heads + h) * head_dim`.
    pub out: Shared<'a, f32>,
    /// Partial results of rows that are cut by positions: see [`partial_floats`].
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

/// Rows whose contexts can be cut at the same time.
pub(crate) const CUT_ROWS_MAX: usize = 16;

/// Floats for the partial results of up to `rows` rows.
pub(crate) fn partial_floats(rows: usize, heads: usize, head_dim: usize) -> usize {
    rows.min(CUT_ROWS_MAX) * row_partial_floats(heads, head_dim)
}

fn row_partial_floats(heads: usize, head_dim: usize) -> usize {
    STRETCHES_MAX * heads * partial_stride(head_dim)
}

/// A partial result: the accumulated values, then the maximum and the sum.
fn partial_stride(head_dim: usize) -> usize {
    round_up(head_dim, MAX_LANES) + MAX_LANES
}

/// The first position that the one at `position` sees.
fn first_visible(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Whether the context of a single row at `position` is cut.
pub(crate) fn is_cut(window: Option<usize>, position: usize) -> bool {
    stretches(first_visible(window, position), position + 1).1 > 1
}

/// How one row's context is cut: a function of the context alone, so that results do not depend on
/// the number of threads. Returns positions a stretch and stretches.
fn stretches(first: usize, end: usize) -> (usize, usize) {
    let tiles = end.div_ceil(TILE) - first / TILE;
    let tiles_each = tiles.div_ceil(STRETCHES_MAX).max(STRETCH_MIN / TILE);
    (tiles_each * TILE, tiles.div_ceil(tiles_each))
}

impl Attention<'_> {
    /// Phases of a region: one, and where one row's context is cut another that combines the
    /// results.
    pub const PHASES: usize = 2;

    /// Steps of a phase.
    pub fn steps(&self, phase: usize, threads: usize) -> usize {
        match (phase, self.stretches()) {
            (0, None) => self.rows.div_ceil(self.unit_rows()) * self.kv_heads,
            (0, Some((_, count))) => self.kv_heads * count,
            (_, None) => 0,
            (_, Some(_)) => self.combine_cut(threads).steps(),
        }
    }

    /// One step of a phase, by this worker of so many.
    ///
    /// # Safety
    /// The step is of that phase; no other code writes the queries or the cache, or uses the other
    /// buffers, until the last phase is over; `level` is supported.
    pub unsafe fn step(
        &self,
        level: Level,
        phase: usize,
        step: usize,
        (worker, threads): (usize, usize),
    ) {
        assert!(
            self.position + self.rows <= self.cache.capacity,
            "the cache is too small"
        );
        // SAFETY: passed on from the caller.
        unsafe {
            match (phase, self.stretches()) {
                (0, None) => self.rows(level, step, worker),
                (0, Some(stretches)) => self.one_row(level, stretches, step, worker),
                (_, None) => unreachable!("a phase without steps"),
                (_, Some((_, count))) => self.combine(level, count, step, threads),
            }
        }
    }

    /// How the context is cut, where it is: positions a stretch, and stretches.
    fn stretches(&self) -> Option<(usize, usize)> {
        let cut = stretches(self.first_visible(self.position), self.position + 1);
        (self.cut.is_some() && cut.1 > 1).then_some(cut)
    }

    fn unit_rows(&self) -> usize {
        (UNIT_QUERIES / (self.heads / self.kv_heads)).max(1)
    }

    fn combine_cut(&self, threads: usize) -> Cut {
        Cut::pieces(1, self.heads, threads)
    }

    fn first_visible(&self, position: usize) -> usize {
        first_visible(self.window, position)
    }

    /// # Safety
    /// As for `work`.
    unsafe fn rows(&self, level: Level, step: usize, worker: usize) {
        let unit_rows = self.unit_rows();
        let (kv_head, row) = (step % self.kv_heads, step / self.kv_heads * unit_rows);
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
        unsafe { self.attend(level, unit, worker) };
    }

    /// # Safety
    /// As for `work`.
    unsafe fn one_row(
        &self,
        level: Level,
        (length, _): (usize, usize),
        step: usize,
        worker: usize,
    ) {
        let start = self.first_visible(self.position) / TILE * TILE;
        let (kv_head, stretch) = (step % self.kv_heads, step / self.kv_heads);
        let first = start + stretch * length;
        let end = (first + length).min(self.position + 1);
        let unit = vector::Unit {
            attention: self,
            kv_head,
            rows: 0..1,
            first,
            end,
            partial: Some(stretch),
        };
        // SAFETY: passed on; the unit's partial results are its own.
        unsafe { self.attend(level, unit, worker) };
    }

    /// Where the partial results of the row begin.
    fn partials_at(&self) -> usize {
        self.cut.unwrap_or(0) * row_partial_floats(self.heads, self.head_dim)
    }

    /// One unit, in the numbers of the cache.
    ///
    /// # Safety
    /// As for `work`; the unit is this worker's alone.
    unsafe fn attend(&self, level: Level, unit: vector::Unit<'_>, worker: usize) {
        // SAFETY: passed on.
        unsafe {
            match self.cache.rows {
                SharedRows::F32(rows) => dispatch(level, vector::Attend { unit, worker, rows }),
                SharedRows::F16(rows) => dispatch(level, vector::Attend { unit, worker, rows }),
                SharedRows::Bf16(rows) => dispatch(level, vector::Attend { unit, worker, rows }),
            }
        }
    }

    /// # Safety
    /// As for `work`; all partial results are complete.
    unsafe fn combine(&self, level: Level, count: usize, step: usize, threads: usize) {
        for head in self.combine_cut(threads).piece(step) {
            let combine = vector::Combine {
                attention: self,
                head,
                count,
            };
            // SAFETY: passed on; each head is in one step.
            unsafe { dispatch(level, combine) };
        }
    }
}

#[cfg(test)]
mod tests;

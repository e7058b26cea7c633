//! One transformer block over a chunk of rows: how the rows of several runs are cut into chunks
//! that go through it together. Knows nothing of models, of tokens, or of where the weights live.

mod parts;
mod pass;
mod rows;

pub use parts::{BlockShape, BlockWeights};
pub(crate) use pass::{Pass, ReadyPass};

use std::ops::Range;

use super::attention::{CUT_ROWS_MAX, is_cut};
use super::rope::RopeTable;
use super::run::{Run, RunKind};
use super::scratch::Scratch;
use super::shared::Shared;
use super::team::Team;

/// Carries `hidden` (rows of `shape.hidden`, updated in place) through one block. The rows are
/// those of the runs, one after the other; each run's keys and values are written to its cache, and
/// each row sees everything before it in its own run's cache, or the last `window` positions
/// including its own. What a row gives does not depend on the other runs. Runs whose products are
/// of a kind share one reading of the weights where they stand together.
///
/// # Panics
/// If sizes do not agree, a cache or the table is too short, or `scratch` was made for another
/// shape or team.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn forward_block(
    team: &Team,
    shape: &BlockShape,
    weights: &BlockWeights<'_>,
    rope: &RopeTable,
    window: Option<usize>,
    runs: &[Run<'_>],
    hidden: &mut [f32],
    scratch: &mut Scratch,
) {
    weights.check(shape);
    let rows: usize = runs.iter().map(|run| run.rows).sum();
    assert!(
        hidden.len() == rows * shape.hidden,
        "{} floats are not {rows} rows",
        hidden.len()
    );
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    for run in runs {
        let (end, capacity) = (run.end(), run.cache.capacity);
        assert!(run.heads == (shape.kv_heads, shape.head_dim));
        assert!(end <= capacity, "{end} positions in a cache of {capacity}");
        assert!(
            end <= rope.positions(),
            "{end} positions in a table of {}",
            rope.positions()
        );
    }
    assert!(window != Some(0), "a window of nothing");
    scratch.phases.clear();
    let (mut first, mut hidden) = (0, hidden);
    while first < rows {
        let (kind, count) = piece(runs, first, window, scratch.max_rows);
        let (rows_of_piece, rest) = hidden.split_at_mut(count * shape.hidden);
        hidden = rest;
        scratch.phases.begin();
        let pass = Pass {
            shape: *shape,
            weights,
            scales: [None; 2],
            rope,
            window,
            runs,
            first,
            rows: count,
            kind,
            level: team.level(),
            threads: team.threads(),
            hidden: Shared::new(rows_of_piece),
            buffers: scratch.share(),
        };
        first += count;
        team.run(&pass.ready());
        scratch.phases.finish();
    }
}

/// The rows from the `first` on that go through the block together: how they are multiplied, and
/// how many they are.
fn piece(
    runs: &[Run<'_>],
    first: usize,
    window: Option<usize>,
    max_rows: usize,
) -> (RunKind, usize) {
    let mut rows = parts(runs, first..usize::MAX).flat_map(|(_, run)| {
        let (kind, position) = (run.kind, run.position);
        (0..run.rows).map(move |row| (kind, position + row))
    });
    let Some((kind, _)) = rows.clone().next() else {
        unreachable!("a piece of no rows")
    };
    let mut cuts = 0;
    let fits = |&(other, position): &(RunKind, usize)| {
        if !kind.is_long() && is_cut(window, position) {
            cuts += 1;
        }
        other.is_long() == kind.is_long() && cuts <= CUT_ROWS_MAX
    };
    (kind, rows.by_ref().take(max_rows).take_while(fits).count())
}

/// What lies in a range of all rows: parts of the runs, each with its first row in the range.
fn parts<'a>(
    runs: &[Run<'a>],
    range: Range<usize>,
) -> impl Iterator<Item = (usize, Run<'a>)> + Clone {
    let mut start = 0;
    runs.iter().filter_map(move |run| {
        let from = start.max(range.start);
        let skipped = from - start;
        start += run.rows;
        let rows = start.min(range.end).saturating_sub(from);
        (rows > 0).then(|| (from - range.start, run.part(skipped, rows)))
    })
}

#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod tests;

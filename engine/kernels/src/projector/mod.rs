//! A cache-to-cache projector: rewrites what one layer of a model keeps of a text with what a layer
//! of another model keeps of it. Knows nothing of models or of which layers belong together.

mod parts;
mod pass;
mod rows;
mod scratch;

pub use parts::{HalfWeights, MlpWeights, ProjectorShape, ProjectorWeights};
pub use scratch::{FuseScratch, FuseScratchSize};

use super::cache::LayerCache;
use super::run::RunKind;
use super::team::Team;
use pass::{Kept, Open, Pass};

/// Adds to the first `positions` positions of `target` what the projector makes of them and of
/// those of `source`. For each half that is open, with `c` the channels of a position, source
/// before target, head by head:
///
/// - `h = first(input(c))`,
/// - `p = out(rest(h))`, the residual,
/// - `w = sigmoid(head_gate(scalar(h)))`, a number a head of the target,
/// - `target += w * p`.
///
/// With `clean`, `c` has the target's channels from there: a target that another source was fused
/// into already takes a residual that is computed from what it was before. A position's numbers
/// depend neither on the other positions nor on the number of threads.
///
/// # Panics
/// If sizes do not agree, a cache is too short, or `scratch` was made for another shape or team.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own with its own lifetime"
)]
pub fn fuse(
    team: &Team,
    shape: &ProjectorShape,
    weights: &ProjectorWeights<'_>,
    source: &LayerCache,
    clean: Option<&LayerCache>,
    target: &mut LayerCache,
    positions: usize,
    scratch: &mut FuseScratch,
) {
    weights.check(shape);
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let base = clean.unwrap_or(target);
    let from = (source, (shape.source_heads, shape.source_dim));
    let own = (shape.target_heads, shape.target_dim);
    for (cache, heads) in [from, (base, own), (&*target, own)] {
        assert!((cache.kv_heads(), cache.head_dim()) == heads);
        let capacity = cache.capacity();
        assert!(
            positions <= capacity,
            "{positions} positions in a cache of {capacity}"
        );
    }
    let halves = [
        (Kept::Keys, weights.key.as_ref()),
        (Kept::Values, weights.value.as_ref()),
    ];
    if halves.iter().all(|(_, half)| half.is_none()) {
        return;
    }
    let kind = RunKind::of_prompt(team.level(), positions);
    let mut first = 0;
    while first < positions {
        let rows = chunk(positions, scratch.rows).min(positions - first);
        let open = halves.into_iter().zip(&mut scratch.halves);
        let open = open.filter_map(|((of, half), scratch)| Some(Open::new(of, half?, scratch)));
        let pass = Pass {
            shape: *shape,
            halves: open.collect(),
            source,
            clean,
            target: target.share(),
            first,
            rows,
            kind,
            level: team.level(),
            threads: team.threads(),
            ends: &[],
        };
        pass.count(&mut scratch.ends);
        team.run(&Pass {
            ends: &scratch.ends,
            ..pass
        });
        first += rows;
    }
}

/// Positions a chunk: about as many in each, so that none reads all weights for a few.
fn chunk(positions: usize, most: usize) -> usize {
    /// What the products take together, of whatever kind.
    const TOGETHER: usize = 16;
    let chunks = positions.div_ceil(most);
    let each = positions.div_ceil(chunks);
    each.next_multiple_of(TOGETHER).min(most)
}

#[cfg(test)]
mod tests;

//! A cache-to-cache projector: rewrites what one layer of a model keeps of a text with what a layer
//! of another model keeps of it. Knows nothing of models or of which layers belong together.

mod parts;
mod scratch;

pub use parts::{HalfWeights, MlpWeights, ProjectorShape, ProjectorWeights};
pub use scratch::{FuseScratch, FuseScratchSize};

use super::cache::LayerCache;
use super::team::Team;
use super::weights::{Matrix, Weights};

/// Added to the mean square in every norm.
const NORM_EPS: f32 = 1e-6;

/// Adds to the first `positions` positions of `target` what the projector makes of them and of
/// those of `source`. For each half that is open, with `c` the channels of a position, source before
/// target, head by head:
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
    for position in 0..positions {
        let base = clean.unwrap_or(target);
        let keys = weights
            .key
            .as_ref()
            .map(|half| residual(shape, half, source, base, position, LayerCache::key_into));
        let values = weights
            .value
            .as_ref()
            .map(|half| residual(shape, half, source, base, position, LayerCache::value_into));
        let (mut key, mut value) = (vec![0.0; shape.target_dim], vec![0.0; shape.target_dim]);
        for head in 0..shape.target_heads {
            target.key_into(head, position, &mut key);
            target.value_into(head, position, &mut value);
            for (row, residual) in [(&mut key, &keys), (&mut value, &values)] {
                if let Some(residual) = residual {
                    let residual = &residual[head * shape.target_dim..];
                    row.iter_mut().zip(residual).for_each(|(x, add)| *x += add);
                }
            }
            target.set(head, position, &key, &value);
        }
    }
}

type Read = fn(&LayerCache, usize, usize, &mut [f32]);

fn residual(
    shape: &ProjectorShape,
    half: &HalfWeights<'_>,
    source: &LayerCache,
    base: &LayerCache,
    position: usize,
    read: Read,
) -> Vec<f32> {
    let mut joined = Vec::new();
    for cache in [source, base] {
        for head in 0..cache.kv_heads() {
            let mut row = vec![0.0; cache.head_dim()];
            read(cache, head, position, &mut row);
            joined.extend(row);
        }
    }
    let mut hidden = linear(&half.input, Some(half.input_bias), &joined);
    block(&half.first, &mut hidden);
    let mut scalar = hidden.clone();
    block(&half.scalar, &mut scalar);
    let gates = linear(&half.head_gate, Some(half.head_gate_bias), &scalar);
    for rest in &half.rest {
        block(rest, &mut hidden);
    }
    let mut out = linear(&half.out, Some(half.out_bias), &hidden);
    for (row, gate) in out.chunks_mut(shape.target_dim).zip(gates) {
        let weight = 1.0 / (1.0 + (-gate).exp());
        row.iter_mut().for_each(|x| *x *= weight);
    }
    out
}

fn block(weights: &MlpWeights<'_>, x: &mut [f32]) {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    let scale = 1.0 / (squares / x.len() as f32 + NORM_EPS).sqrt();
    let normed = x.iter().enumerate();
    let normed: Vec<f32> = normed
        .map(|(i, x)| x * scale * weights.norm.get(i))
        .collect();
    let mut inner = linear(&weights.up, None, &normed);
    inner.iter_mut().for_each(|x| *x = gelu(*x));
    let down = linear(&weights.down, None, &inner);
    x.iter_mut().zip(down).for_each(|(x, down)| *x += down);
}

fn linear(matrix: &Matrix<'_>, bias: Option<Weights<'_>>, x: &[f32]) -> Vec<f32> {
    let mut row = vec![0.0; matrix.cols()];
    let output = |i: usize| {
        matrix.row_into(i, &mut row);
        let sum: f32 = row.iter().zip(x).map(|(w, x)| w * x).sum();
        sum + bias.map_or(0.0, |bias| bias.get(i))
    };
    (0..matrix.rows()).map(output).collect()
}

/// The Gaussian error linear unit, by the series of the error function that has no signs.
fn gelu(x: f32) -> f32 {
    let z = f64::from(x) / std::f64::consts::SQRT_2;
    if z.abs() > 6.0 {
        return x.max(0.0);
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    let erf = std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum;
    (f64::from(x) / 2.0 * (1.0 + erf)) as f32
}

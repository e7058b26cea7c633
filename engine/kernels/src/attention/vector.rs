//! One unit of attention on vectors of f32: scores by dot products, a running softmax, values by
//! multiply-add. Keys and values are widened in registers. Knows nothing of how units were cut or
//! dealt out.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because rows of the cache, the working memory and the partial results are padded to whole
// vectors of every level, positions stay below the capacity that `Attention::run` has checked, and
// the shared buffers bound every range that a pointer is taken from.

use std::ops::Range;

use super::{Attention, TILE, partial_stride, unit_queries_max, worker_floats};
use crate::cache::KeysValues;
use crate::isa::{Element, Isa, Kernel, MAX_LANES};
use crate::linear::dot_tile;

/// Some rows of one group of heads over the positions `first..end`; `first` starts a tile.
pub(super) struct Unit<'a> {
    pub attention: &'a Attention<'a>,
    pub kv_head: usize,
    pub rows: Range<usize>,
    pub first: usize,
    pub end: usize,
    /// The stretch whose partial result this is; `None` for a whole result.
    pub partial: Option<usize>,
}

/// # Safety
/// To dispatch it: `worker` is the calling worker; the rest as for [`Attention::run`].
pub(super) struct Attend<'a, E> {
    pub unit: Unit<'a>,
    pub worker: usize,
    /// Those of the unit's cache.
    pub rows: KeysValues<'a, E>,
}

/// The working memory of a unit, cut up.
struct Work<'a> {
    q: &'a mut [f32],
    acc: &'a mut [f32],
    scores: &'a mut [f32],
    top: &'a mut [f32],
    sum: &'a mut [f32],
}

impl<E: Element> Kernel for Attend<'_, E> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let Attend { unit, worker, rows } = self;
        let a = unit.attention;
        let group = a.heads / a.kv_heads;
        let count = unit.rows.len() * group;
        let dim = a.cache.stride;
        let floats = worker_floats(a.heads, a.kv_heads, a.head_dim);
        let rest = a.work.get_mut(worker * floats..(worker + 1) * floats);
        let queries = unit_queries_max(a.heads, a.kv_heads);
        let (q, rest) = rest.split_at_mut(queries * dim);
        let (acc, rest) = rest.split_at_mut(queries * dim);
        let (scores, rest) = rest.split_at_mut(queries * TILE);
        let (top, sum) = rest.split_at_mut(queries * MAX_LANES);
        let mut work = Work {
            q,
            acc,
            scores,
            top,
            sum,
        };
        load_queries(&unit, work.q);
        work.acc[..queries * dim].fill(0.0);
        work.top[..count].fill(f32::NEG_INFINITY);
        work.sum[..count].fill(0.0);

        let mut tile = unit.first;
        while tile < unit.end {
            let length = TILE.min(unit.end - tile);
            let at = a.cache.at(unit.kv_head, tile);
            let keys = rows.keys.get(at..at + length * dim);
            let values = rows.values.get(at..at + length * dim);
            score_tile::<I, E>(keys, length, dim, count, &mut work);
            soften_tile::<I>(&unit, tile, length, dim, count, &mut work);
            add_values::<I, E>(values, length, dim, count, &mut work);
            tile += length;
        }
        match unit.partial {
            None => store_rows(&unit, &work),
            Some(stretch) => store_partial(&unit, stretch, &work),
        }
    }
}

/// Copies the queries, scaled and padded.
#[inline(always)]
unsafe fn load_queries(unit: &Unit<'_>, q: &mut [f32]) {
    let a = unit.attention;
    let group = a.heads / a.kv_heads;
    q.fill(0.0);
    for (i, row) in unit.rows.clone().enumerate() {
        for g in 0..group {
            let from = (a.first_row + row) * a.q_stride + (unit.kv_head * group + g) * a.head_dim;
            let to = &mut q[(i * group + g) * a.cache.stride..][..a.head_dim];
            for (to, from) in to.iter_mut().zip(a.q.get(from..from + a.head_dim)) {
                *to = from * a.scale;
            }
        }
    }
}

/// Scores of `count` queries (rounded up to 4; the rest are zeros) against a tile's keys.
#[inline(always)]
unsafe fn score_tile<I: Isa, E: Element>(
    keys: &[E],
    length: usize,
    dim: usize,
    count: usize,
    work: &mut Work<'_>,
) {
    for query in (0..count).step_by(4) {
        let q: [*const f32; 4] = std::array::from_fn(|n| work.q.as_ptr().add((query + n) * dim));
        let mut key = 0;
        while key < length {
            // The last keys of a tile that is not full are computed more than once.
            let start = if length >= 4 { key.min(length - 4) } else { 0 };
            let rows: [*const E; 4] =
                std::array::from_fn(|r| keys.as_ptr().add((start + r).min(length - 1) * dim));
            let sums = dot_tile::<I, E, 4, 4, false>(rows, q, dim);
            for (r, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    if start + r < length {
                        work.scores[(query + n) * TILE + start + r] = *sum;
                    }
                }
            }
            key += 4;
        }
    }
}

/// Turns a tile's scores into weights relative to the running maximum, and brings what was
/// accumulated before to the new maximum.
#[inline(always)]
unsafe fn soften_tile<I: Isa>(
    unit: &Unit<'_>,
    tile: usize,
    length: usize,
    dim: usize,
    count: usize,
    work: &mut Work<'_>,
) {
    let a = unit.attention;
    let group = a.heads / a.kv_heads;
    for query in 0..count {
        let position = a.position + unit.rows.start + query / group;
        let scores = &mut work.scores[query * TILE..][..TILE];
        let from = a.first_visible(position).saturating_sub(tile).min(length);
        let to = (position + 1).saturating_sub(tile).min(length);
        if from >= to {
            scores.fill(0.0);
            continue;
        }
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        let mut top = I::splat(work.top[query]);
        for at in (0..TILE).step_by(I::LANES) {
            top = I::max(top, I::load(scores.as_ptr().add(at)));
        }
        let top = I::top(top);
        let shift = I::splat(-top);
        let mut sum = I::splat(0.0);
        for at in (0..TILE).step_by(I::LANES) {
            let weight = I::exp(I::add(I::load(scores.as_ptr().add(at)), shift));
            I::store(scores.as_mut_ptr().add(at), weight);
        }
        // What is masked was held at a tiny weight by the bounds of `exp`: it must be nothing.
        scores[..from].fill(0.0);
        scores[to..].fill(0.0);
        for at in (0..TILE).step_by(I::LANES) {
            sum = I::add(sum, I::load(scores.as_ptr().add(at)));
        }
        let before = work.top[query];
        if before != top {
            let fade = if before == f32::NEG_INFINITY {
                0.0
            } else {
                (before - top).exp()
            };
            work.sum[query] *= fade;
            let fade = I::splat(fade);
            for at in (0..dim).step_by(I::LANES) {
                let acc = work.acc.as_mut_ptr().add(query * dim + at);
                I::store(acc, I::mul(I::load(acc), fade));
            }
        }
        work.top[query] = top;
        work.sum[query] += I::sum(sum);
    }
    // Queries that only fill up the last four.
    for query in count..count.next_multiple_of(4) {
        work.scores[query * TILE..][..TILE].fill(0.0);
    }
}

/// Adds a tile's values, weighted, to each query's accumulator.
#[inline(always)]
unsafe fn add_values<I: Isa, E: Element>(
    values: &[E],
    length: usize,
    dim: usize,
    count: usize,
    work: &mut Work<'_>,
) {
    for query in (0..count).step_by(4) {
        let weights: [*const f32; 4] =
            std::array::from_fn(|n| work.scores.as_ptr().add((query + n) * TILE));
        let acc = work.acc.as_mut_ptr().add(query * dim);
        let mut at = 0;
        while at < dim {
            if at + 2 * I::LANES <= dim {
                add_columns::<I, E, 2>(values.as_ptr().add(at), length, dim, weights, acc.add(at));
                at += 2 * I::LANES;
            } else {
                add_columns::<I, E, 1>(values.as_ptr().add(at), length, dim, weights, acc.add(at));
                at += I::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn add_columns<I: Isa, E: Element, const C: usize>(
    values: *const E,
    length: usize,
    dim: usize,
    weights: [*const f32; 4],
    acc: *mut f32,
) {
    let mut sums: [[I::V; C]; 4] =
        std::array::from_fn(|n| std::array::from_fn(|c| I::load(acc.add(n * dim + c * I::LANES))));
    for key in 0..length {
        let value: [I::V; C] =
            std::array::from_fn(|c| E::load::<I>(values.add(key * dim + c * I::LANES)));
        for n in 0..4 {
            let weight = I::splat(*weights[n].add(key));
            for c in 0..C {
                sums[n][c] = I::fma(weight, value[c], sums[n][c]);
            }
        }
    }
    for (n, sums) in sums.iter().enumerate() {
        for (c, sum) in sums.iter().enumerate() {
            I::store(acc.add(n * dim + c * I::LANES), *sum);
        }
    }
}

#[inline(always)]
unsafe fn store_rows(unit: &Unit<'_>, work: &Work<'_>) {
    let a = unit.attention;
    let group = a.heads / a.kv_heads;
    for (i, row) in unit.rows.clone().enumerate() {
        for g in 0..group {
            let query = i * group + g;
            let to = ((a.first_row + row) * a.heads + unit.kv_head * group + g) * a.head_dim;
            let to = a.out.get_mut(to..to + a.head_dim);
            let scale = 1.0 / work.sum[query];
            for (to, from) in to.iter_mut().zip(&work.acc[query * a.cache.stride..]) {
                *to = from * scale;
            }
        }
    }
}

#[inline(always)]
unsafe fn store_partial(unit: &Unit<'_>, stretch: usize, work: &Work<'_>) {
    let a = unit.attention;
    let group = a.heads / a.kv_heads;
    let dim = a.cache.stride;
    for g in 0..group {
        let stride = partial_stride(a.head_dim);
        let at = a.partials_at() + (stretch * a.heads + unit.kv_head * group + g) * stride;
        let to = a.partials.get_mut(at..at + stride);
        to[..dim].copy_from_slice(&work.acc[g * dim..][..dim]);
        to[dim] = work.top[g];
        to[dim + 1] = work.sum[g];
    }
}

/// The whole result of one head from its partial results.
///
/// # Safety
/// To dispatch it: the partial results are complete and the head is the calling worker's.
pub(super) struct Combine<'a> {
    pub attention: &'a Attention<'a>,
    pub head: usize,
    pub count: usize,
}

impl Kernel for Combine<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let a = self.attention;
        let dim = a.cache.stride;
        let stride = partial_stride(a.head_dim);
        let partial = |stretch: usize| {
            let at = a.partials_at() + (stretch * a.heads + self.head) * stride;
            a.partials.get(at..at + stride)
        };
        let top = (0..self.count).fold(f32::NEG_INFINITY, |top, s| top.max(partial(s)[dim]));
        let to = (a.first_row * a.heads + self.head) * a.head_dim;
        let out = a.out.get_mut(to..to + a.head_dim);
        out.fill(0.0);
        let mut sum = 0.0;
        for stretch in 0..self.count {
            let partial = partial(stretch);
            let fade = (partial[dim] - top).exp();
            sum += partial[dim + 1] * fade;
            out.iter_mut()
                .zip(partial)
                .for_each(|(o, v)| *o += v * fade);
        }
        out.iter_mut().for_each(|o| *o /= sum);
    }
}

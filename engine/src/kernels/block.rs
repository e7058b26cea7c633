//! One transformer block over a chunk of rows: the phases, in order, with a barrier after each.
//! Knows nothing of models, of tokens, or of where the weights live.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because each phase writes buffers that no phase between the same two barriers reads, except
// for elements of the worker's own share: rows (norms, rotation), outputs (linear layers), or rows
// and heads (attention). All buffers are borrowed exclusively for the region.

mod parts;

pub use parts::{BlockShape, BlockWeights};

use super::attention::Attention;
use super::cache::{LayerCache, SharedCache};
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::norm::{rms_norm, rms_norm_in_place};
use super::phases::Phases;
use super::rope::RopeTable;
use super::scratch::Scratch;
use super::shared::{LINE, Shared, round_up};
use super::team::{Team, Worker};
use super::weights::{Matrix, Weights};

/// Carries `hidden` (rows of `shape.hidden`, updated in place) through one block. The rows stand at
/// positions `position..`; their keys and values are written to `cache`, and each row sees
/// everything before it, or the last `window` positions including its own.
///
/// # Panics
/// If sizes do not agree, the cache or the table is too short, or `scratch` was made for another
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
    cache: &mut LayerCache,
    position: usize,
    window: Option<usize>,
    hidden: &mut [f32],
    scratch: &mut Scratch,
) {
    weights.check(shape);
    assert!(
        hidden.len().is_multiple_of(shape.hidden),
        "{} floats are not whole rows",
        hidden.len()
    );
    let rows = hidden.len() / shape.hidden;
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    assert!(cache.kv_heads() == shape.kv_heads && cache.head_dim() == shape.head_dim);
    let end = position + rows;
    assert!(
        end <= cache.capacity(),
        "{end} positions in a cache of {}",
        cache.capacity()
    );
    assert!(
        end <= rope.positions(),
        "{end} positions in a table of {}",
        rope.positions()
    );
    assert!(window != Some(0), "a window of nothing");
    let mut at = position;
    scratch.phases.clear();
    for piece in hidden.chunks_mut(scratch.max_rows * shape.hidden) {
        scratch.phases.begin();
        let pass = Pass {
            shape: *shape,
            weights,
            rope,
            position: at,
            window,
            rows: piece.len() / shape.hidden,
            level: team.level(),
            cache: cache.share(),
            hidden: Shared::new(piece),
            normed: Shared::new(&mut scratch.normed),
            own_normed: Shared::new(&mut scratch.own_normed),
            qkv: Shared::new(&mut scratch.qkv),
            attended: Shared::new(&mut scratch.attended),
            inner: Shared::new(&mut scratch.inner),
            partials: Shared::new(&mut scratch.partials),
            work: Shared::new(&mut scratch.work),
            tiles: Shared::new(&mut scratch.tiles),
            phases: &scratch.phases,
        };
        at += pass.rows;
        // SAFETY: the buffers are borrowed for the region, and every worker calls it.
        team.run(|worker| unsafe { pass.run(worker) });
        scratch.phases.finish();
    }
}

/// One chunk on its way through one block.
struct Pass<'a> {
    shape: BlockShape,
    weights: &'a BlockWeights<'a>,
    rope: &'a RopeTable,
    position: usize,
    window: Option<usize>,
    rows: usize,
    level: Level,
    cache: SharedCache<'a>,
    hidden: Shared<'a, f32>,
    normed: Shared<'a, f32>,
    own_normed: Shared<'a, f32>,
    qkv: Shared<'a, f32>,
    attended: Shared<'a, f32>,
    inner: Shared<'a, f32>,
    partials: Shared<'a, f32>,
    work: Shared<'a, f32>,
    tiles: Shared<'a, f32>,
    phases: &'a Phases,
}

impl<'a> Pass<'a> {
    /// # Safety
    /// Every worker of the region calls it, once, and nothing else uses the buffers.
    unsafe fn run(&self, worker: &Worker<'_>) {
        let w = self.weights;
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = self.shape;
        let qkv_rows = self.shape.qkv_rows();
        // SAFETY: a barrier separates every phase from the one that reads what it wrote.
        unsafe {
            let x = self.norm(w.input_norm, worker);
            self.phase_ends(0, worker);
            self.linear(
                w.qkv,
                w.qkv_bias,
                x,
                hidden,
                Then::Store,
                self.qkv,
                qkv_rows,
                worker,
            );
            worker.barrier();
            self.place(worker);
            worker.barrier();
            self.attention().run(self.level, worker);
            worker.barrier();
            let x = self.attended;
            let width = heads * head_dim;
            self.linear(
                w.out,
                w.out_bias,
                x,
                width,
                Then::Add,
                self.hidden,
                hidden,
                worker,
            );
            worker.barrier();
            self.phase_ends(1, worker);
            let x = self.norm(w.post_norm, worker);
            self.phase_ends(2, worker);
            self.linear(
                w.gate_up,
                w.gate_up_bias,
                x,
                hidden,
                Then::SwiGlu,
                self.inner,
                ffn,
                worker,
            );
            worker.barrier();
            let x = self.inner;
            self.linear(
                w.down,
                w.down_bias,
                x,
                ffn,
                Then::Add,
                self.hidden,
                hidden,
                worker,
            );
        }
    }

    fn phase_ends(&self, index: usize, worker: &Worker<'_>) {
        if worker.index() == 0 {
            self.phases.end(index);
        }
    }

    /// The normalised rows. A single row is cheap enough for each worker to have its own, without
    /// a barrier; several are shared out.
    ///
    /// # Safety
    /// As for `run`; nobody writes the residual stream meanwhile.
    unsafe fn norm(&self, weight: Weights<'_>, worker: &Worker<'_>) -> Shared<'a, f32> {
        let (hidden, eps) = (self.shape.hidden, self.shape.norm_eps);
        // SAFETY: own pieces and own rows; the barrier completes them.
        unsafe {
            if self.rows == 1 {
                let start = worker.index() * round_up(hidden, LINE);
                let own = self.own_normed.get_mut(start..start + hidden);
                rms_norm(self.level, self.hidden.get(0..hidden), weight, eps, own);
                return Shared::new(own);
            }
            for row in worker.share(self.rows, 1) {
                let range = row * hidden..(row + 1) * hidden;
                let out = self.normed.get_mut(range.clone());
                rms_norm(self.level, self.hidden.get(range), weight, eps, out);
            }
            worker.barrier();
            self.normed
        }
    }

    /// # Safety
    /// As for `run`; `x` is complete and `out` is not used until the next barrier.
    #[expect(
        clippy::too_many_arguments,
        reason = "one line a layer where it is called"
    )]
    unsafe fn linear(
        &self,
        weights: Matrix<'a>,
        bias: Option<Weights<'a>>,
        x: Shared<'a, f32>,
        x_stride: usize,
        then: Then,
        out: Shared<'a, f32>,
        stride: usize,
        worker: &Worker<'_>,
    ) {
        let epilogue = Epilogue {
            then,
            bias,
            out,
            stride,
        };
        let linear = Linear {
            weights,
            x,
            x_stride,
            rows: self.rows,
            epilogue,
            tiles: self.tiles,
        };
        // SAFETY: passed on.
        unsafe { linear.run(self.level, worker) }
    }

    /// Norms and turns queries and keys, and writes keys and values to the cache.
    ///
    /// # Safety
    /// As for `run`.
    unsafe fn place(&self, worker: &Worker<'_>) {
        let BlockShape {
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            ..
        } = self.shape;
        let all_heads = heads + 2 * kv_heads;
        for unit in worker.share(self.rows * all_heads, 1) {
            let (row, head) = (unit / all_heads, unit % all_heads);
            let position = self.position + row;
            // SAFETY: one worker has this row and head; each has a cache row of its own.
            unsafe {
                let values = self.qkv.get_mut(unit * head_dim..(unit + 1) * head_dim);
                let norm = if head < heads {
                    self.weights.q_norm
                } else {
                    self.weights.k_norm
                };
                if head < heads + kv_heads {
                    if let Some(weight) = norm {
                        rms_norm_in_place(self.level, values, weight, norm_eps);
                    }
                    self.rope.apply(position, values);
                }
                if head >= heads + kv_heads {
                    let at = self.cache.at(head - heads - kv_heads, position);
                    self.cache
                        .values
                        .get_mut(at..at + head_dim)
                        .copy_from_slice(values);
                } else if head >= heads {
                    let at = self.cache.at(head - heads, position);
                    self.cache
                        .keys
                        .get_mut(at..at + head_dim)
                        .copy_from_slice(values);
                }
            }
        }
    }

    fn attention(&self) -> Attention<'a> {
        Attention {
            heads: self.shape.heads,
            kv_heads: self.shape.kv_heads,
            head_dim: self.shape.head_dim,
            window: self.window,
            position: self.position,
            rows: self.rows,
            cache: self.cache,
            q: self.qkv,
            q_stride: self.shape.qkv_rows(),
            out: self.attended,
            partials: self.partials,
            work: self.work,
        }
    }
}

#[cfg(test)]
mod tests;

//! What a block does to rows between its projections: norms, rotation, and the way into the cache.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `pass.rs`: each step writes rows, or heads of rows, of its own.

use super::{BlockShape, Pass};
use crate::norm::{rms_norm, rms_norm_in_place};
use crate::shared::{LINE, Shared, round_up};
use crate::team::{Cut, Steps};
use crate::weights::Weights;

impl<'a> Pass<'a> {
    pub(super) fn norm_cut(&self) -> Cut {
        Cut::pieces(4, self.rows, self.threads)
    }

    /// Normalises several rows.
    ///
    /// # Safety
    /// The steps are of `norm_cut`; the residual stream is not written meanwhile.
    pub(super) unsafe fn norm(&self, weight: Option<Weights<'_>>, steps: &mut Steps<'_>) {
        let Some(weight) = weight else {
            unreachable!("a norm without weights has no phase")
        };
        let (hidden, eps) = (self.shape.hidden, self.shape.norm_eps);
        let cut = self.norm_cut();
        for row in steps.flat_map(|step| cut.piece(step)) {
            let range = row * hidden..(row + 1) * hidden;
            // SAFETY: the row is in one step.
            unsafe {
                let out = self.buffers.normed.get_mut(range.clone());
                rms_norm(self.level, self.hidden.get(range), weight, eps, out);
            }
        }
    }

    /// Normalises what attention or the feed-forward part gave, and adds it to the residual stream.
    ///
    /// # Safety
    /// The steps are of `norm_cut`; what was given is complete.
    pub(super) unsafe fn norm_and_add(&self, weight: Option<Weights<'_>>, steps: &mut Steps<'_>) {
        let Some(weight) = weight else {
            unreachable!("a norm without weights has no phase")
        };
        let (hidden, eps) = (self.shape.hidden, self.shape.norm_eps);
        let residual = self.shape.residual;
        let cut = self.norm_cut();
        for row in steps.flat_map(|step| cut.piece(step)) {
            let range = row * hidden..(row + 1) * hidden;
            // SAFETY: the row is in one step.
            let (given, stream) = unsafe {
                (
                    self.buffers.normed.get_mut(range.clone()),
                    self.hidden.get_mut(range),
                )
            };
            rms_norm_in_place(self.level, given, weight, eps);
            let terms = given.iter().map(|value| value * residual);
            stream
                .iter_mut()
                .zip(terms)
                .for_each(|(x, term)| *x += term);
        }
    }

    /// Rows, each with its queries and its keys.
    pub(super) fn head_norms_cut(&self) -> Cut {
        Cut::pieces(1, 2 * self.rows, self.threads)
    }

    /// Normalises queries and keys over all heads of a row.
    ///
    /// # Safety
    /// The steps are of `head_norms_cut`; queries and keys are complete.
    pub(super) unsafe fn norm_heads(&self, steps: &mut Steps<'_>) {
        let BlockShape {
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            ..
        } = self.shape;
        let cut = self.head_norms_cut();
        for unit in steps.flat_map(|step| cut.piece(step)) {
            let row = unit / 2 * self.shape.qkv_rows();
            let (norm, first, count) = match unit % 2 {
                0 => (self.weights.q_norm, 0, heads),
                _ => (self.weights.k_norm, heads, kv_heads),
            };
            if let Some(weight) = norm {
                let start = row + first * head_dim;
                // SAFETY: this row's queries, or its keys, are in one step.
                let values = unsafe { self.buffers.qkv.get_mut(start..start + count * head_dim) };
                rms_norm_in_place(self.level, values, weight, norm_eps);
            }
        }
    }

    /// The single row, normalised into this worker's own buffer.
    ///
    /// # Safety
    /// The residual stream is not written meanwhile.
    pub(super) unsafe fn own_norm(
        &self,
        which: usize,
        weight: Weights<'_>,
        steps: &Steps<'_>,
    ) -> Shared<'a, f32> {
        let (hidden, eps) = (self.shape.hidden, self.shape.norm_eps);
        let start = steps.worker() * round_up(hidden, LINE);
        // SAFETY: a piece that is this worker's.
        let own = unsafe { self.buffers.own_normed.get_mut(start..start + hidden) };
        // SAFETY: as the caller promises.
        let row = unsafe { self.hidden.get(0..hidden) };
        rms_norm(self.level, row, weight, eps, own);
        self.buffers.phases.end(which);
        Shared::new(own)
    }

    /// Rows times heads of queries, keys and values.
    pub(super) fn place_cut(&self) -> Cut {
        let each = if self.rows > 1 { 4 } else { 1 };
        let heads = self.shape.heads + 2 * self.shape.kv_heads;
        Cut::pieces(each, self.rows * heads, self.threads)
    }

    /// Norms and turns queries and keys, and writes keys and values to the cache.
    ///
    /// # Safety
    /// The steps are of `place_cut`; queries, keys and values are complete.
    pub(super) unsafe fn place(&self, steps: &mut Steps<'_>) {
        let BlockShape {
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            ..
        } = self.shape;
        let all_heads = heads + 2 * kv_heads;
        let norms_each = !self.weights.norms_all_heads(&self.shape);
        let cut = self.place_cut();
        for unit in steps.flat_map(|step| cut.piece(step)) {
            let (row, head) = (unit / all_heads, unit % all_heads);
            let mut parts = self.parts();
            let Some((first, run)) = parts.find(|(first, run)| row < first + run.rows) else {
                unreachable!("row {row} of {}", self.rows)
            };
            let (position, cache) = (run.position + row - first, run.cache);
            // SAFETY: this row and head are in one step; each has a cache row of its own.
            unsafe {
                let values = self
                    .buffers
                    .qkv
                    .get_mut(unit * head_dim..(unit + 1) * head_dim);
                let norm = if head < heads {
                    self.weights.q_norm
                } else {
                    self.weights.k_norm
                };
                if head < heads + kv_heads {
                    if let Some(weight) = norm.filter(|_| norms_each) {
                        rms_norm_in_place(self.level, values, weight, norm_eps);
                    }
                    self.rope.apply(position, values);
                }
                if head >= heads + kv_heads {
                    let at = cache.at(head - heads - kv_heads, position);
                    cache.rows.write_value(at, values);
                } else if head >= heads {
                    let at = cache.at(head - heads, position);
                    cache.rows.write_key(at, values);
                }
            }
        }
    }
}

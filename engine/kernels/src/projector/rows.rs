//! What a projector does to a row between its layers: gathers its channels, normalises it, and adds
//! to the target. Knows nothing of the order.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound for the reasons given in `pass.rs`: each call writes a row of one half, which is in one
// step.

use super::parts::ProjectorShape;
use super::pass::{GATES, Open, Pass, RESIDUAL};
use crate::cache::{LayerCache, SharedCache};
use crate::norm::rms_norm;
use crate::rope::Pairing;

/// Added to the mean square in every norm.
const NORM_EPS: f32 = 1e-6;

/// What a half rewrites.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kept {
    Keys,
    Values,
}

impl Pass<'_, '_> {
    /// The channels of both caches, side by side.
    ///
    /// # Safety
    /// The row of this half is in one step; the target is not written meanwhile.
    pub(super) unsafe fn gather(&self, half: &Open<'_, '_>, row: usize) {
        let ProjectorShape {
            source_heads,
            source_dim,
            source_keys,
            target_dim,
            target_keys,
            ..
        } = self.shape;
        let (width, position) = (self.shape.input(), self.first + row);
        // SAFETY: as the caller promises.
        let joined = unsafe { half.joined.get_mut(row * width..(row + 1) * width) };
        let (source, target) = joined.split_at_mut(source_heads * source_dim);
        for (head, out) in source.chunks_exact_mut(source_dim).enumerate() {
            half.of.read(self.source, head, position, out);
            half.of.order(source_keys).straighten(out);
        }
        for (head, out) in target.chunks_exact_mut(target_dim).enumerate() {
            match self.clean {
                Some(clean) => half.of.read(clean, head, position, out),
                // SAFETY: as the caller promises.
                None => unsafe { half.of.read_shared(&self.target, head, position, out) },
            }
            half.of.order(target_keys).straighten(out);
        }
    }

    /// The norms that open a block, on both lanes. The lane to the gates begins here.
    ///
    /// # Safety
    /// The row of this half is in one step; the streams are complete.
    pub(super) unsafe fn norm(&self, half: &Open<'_, '_>, block: usize, row: usize) {
        let hidden = self.shape.hidden;
        let range = row * hidden..(row + 1) * hidden;
        for (index, lane) in half.lanes.iter().enumerate() {
            let Some(weights) = half.block(index, block) else {
                continue;
            };
            // SAFETY: as the caller promises.
            let (stream, normed) = unsafe {
                let stream = half.lanes[RESIDUAL].stream.get(range.clone());
                if index == GATES {
                    lane.stream.get_mut(range.clone()).copy_from_slice(stream);
                }
                (stream, lane.normed.get_mut(range.clone()))
            };
            rms_norm(self.level, stream, weights.norm, NORM_EPS, normed);
        }
    }

    /// Adds the residual to the target, as much of it as each head's gate lets through.
    ///
    /// # Safety
    /// The row of this half is in one step; residual and gates are complete.
    pub(super) unsafe fn add(&self, half: &Open<'_, '_>, row: usize) {
        let ProjectorShape {
            source_heads,
            source_dim,
            target_heads,
            target_dim,
            target_keys,
            ..
        } = self.shape;
        let (channels, position) = (self.shape.output(), self.first + row);
        let order = half.of.order(target_keys);
        // The channels that were gathered are not needed any more.
        let free = row * self.shape.input() + source_heads * source_dim;
        // SAFETY: as the caller promises.
        let (gates, residual, sums) = unsafe {
            (
                half.gates.get(row * target_heads..(row + 1) * target_heads),
                half.residual.get(row * channels..(row + 1) * channels),
                half.joined.get_mut(free..free + channels),
            )
        };
        let heads = sums.chunks_exact_mut(target_dim);
        let heads = heads.zip(residual.chunks_exact(target_dim)).zip(gates);
        for (head, ((sums, residual), gate)) in heads.enumerate() {
            let weight = 1.0 / (1.0 + (-gate).exp());
            // SAFETY: as the caller promises; the cache's row belongs to this row and half.
            unsafe {
                half.of.read_shared(&self.target, head, position, sums);
                let terms = residual.iter().map(|x| x * weight).enumerate();
                terms.for_each(|(index, term)| sums[order.place(target_dim, index)] += term);
                half.of.write_shared(&self.target, head, position, sums);
            }
        }
    }
}

impl Kept {
    /// In which order this half has a head's dimensions, where keys have them in that one.
    fn order(self, keys: Pairing) -> Pairing {
        match self {
            Kept::Keys => keys,
            Kept::Values => Pairing::Halves,
        }
    }

    fn read(self, cache: &LayerCache, head: usize, position: usize, out: &mut [f32]) {
        match self {
            Kept::Keys => cache.key_into(head, position, out),
            Kept::Values => cache.value_into(head, position, out),
        }
    }

    /// # Safety
    /// Nothing writes the row meanwhile.
    unsafe fn read_shared(
        self,
        cache: &SharedCache<'_>,
        head: usize,
        position: usize,
        out: &mut [f32],
    ) {
        let at = cache.at(head, position);
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                Kept::Keys => cache.rows.read_key(at, out),
                Kept::Values => cache.rows.read_value(at, out),
            }
        }
    }

    /// # Safety
    /// Nothing else reads or writes the row meanwhile.
    unsafe fn write_shared(
        self,
        cache: &SharedCache<'_>,
        head: usize,
        position: usize,
        row: &[f32],
    ) {
        let at = cache.at(head, position);
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                Kept::Keys => cache.rows.write_key(at, row),
                Kept::Values => cache.rows.write_value(at, row),
            }
        }
    }
}

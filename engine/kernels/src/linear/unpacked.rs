//! Compact weights under more rows of activations than one pass over them serves: the rows of some
//! outputs are unpacked once, for all rows of activations, and multiplied as plain ones are. Knows
//! nothing of how they are multiplied.
#![expect(unsafe_code, reason = "shares a buffer between workers")]
// Sound because each worker unpacks into its own part of the buffer.

use std::ops::Range;

use half::bf16;

use super::dot::{BLOCK_TOKENS, Dot};
use super::segments::Segment;
use super::{Linear, Then};
use crate::compact::{Compact, GROUP};
use crate::isa::{Isa, Kernel, dispatch};
use crate::level::Level;

/// Outputs whose rows are unpacked together: few enough for a second-level cache.
const OUTPUTS: usize = 16;

/// Floats that unpacking takes for layers of `cols` columns over up to `tokens` rows of activations.
pub(super) fn buffer_floats(tokens: usize, cols: usize, threads: usize) -> usize {
    match tokens > BLOCK_TOKENS && cols.is_multiple_of(GROUP) {
        true => threads * worker_floats(cols),
        false => 0,
    }
}

/// Gates and values in bf16, two of which take a float.
fn worker_floats(cols: usize) -> usize {
    2 * OUTPUTS * cols / 2
}

impl Linear<'_> {
    /// Whether compact rows are unpacked once. Layers that are made for a few rows bring no memory
    /// for it: they unpack again for every few.
    pub(super) fn unpacks_once(&self, threads: usize) -> bool {
        let need = buffer_floats(self.rows, self.weights.cols(), threads);
        need > 0 && self.tiles.len() >= need
    }

    /// Some outputs of a segment with compact rows.
    ///
    /// # Safety
    /// As for [`Dot`], for a layer that unpacks once; one call at a time for each worker.
    pub(super) unsafe fn dot_unpacked(
        &self,
        level: Level,
        worker: usize,
        [weights, partner]: [Compact<'_>; 2],
        segment: &Segment<'_>,
        share: Range<usize>,
    ) {
        let cols = self.weights.cols();
        let size = worker_floats(cols);
        // SAFETY: the worker's own part, which `unpacks_once` has found to be there.
        let own = unsafe { self.tiles.get_mut(worker * size..(worker + 1) * size) };
        let own: &mut [bf16] = bytemuck::cast_slice_mut(own);
        let (own, own_partner) = own.split_at_mut(OUTPUTS * cols);
        for first in share.clone().step_by(OUTPUTS) {
            let count = OUTPUTS.min(share.end - first);
            let unpack = |from, first, to: &mut [bf16]| {
                let to = &mut to[..count * cols];
                // SAFETY: levels in use are supported.
                unsafe { dispatch(level, Unpack { from, first, to }) };
            };
            unpack(weights, segment.weights.first + first, own);
            if self.epilogue.then == Then::SwiGlu {
                unpack(partner, segment.partner.first + first, own_partner);
            }
            let dot = Dot {
                linear: self,
                weights: (&*own, 0),
                partner: (&*own_partner, 0),
                first: segment.first + first,
                count,
            };
            // SAFETY: passed on from the caller; the rows are there.
            unsafe { dispatch(level, dot) };
        }
    }
}

/// The rows from one on.
struct Unpack<'a> {
    from: Compact<'a>,
    first: usize,
    to: &'a mut [bf16],
}

impl Kernel for Unpack<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let rows = self.to.chunks_exact_mut(self.from.cols());
        for (at, row) in rows.enumerate() {
            self.from.unpack_row(self.first + at, row);
        }
    }
}

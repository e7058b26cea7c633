//! What multiplies: instructions for a panel of weights and packed activations, what they are given,
//! and what they ask for ahead.
#![expect(unsafe_code, reason = "buffers by address")]
// Sound because the caller promises what `Operands` says of its addresses.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::plan::{GROUPS, Limits, SIDE};

/// The instructions that multiply panels of weights with packed activations.
pub(crate) trait Multiplier {
    /// How the work is cut for them.
    const LIMITS: Limits;

    /// Makes this thread ready; dropping the value ends that.
    ///
    /// # Safety
    /// The level has the instructions.
    unsafe fn ready() -> Self;

    /// Adds to the sums of a panel its products over a stretch of columns; what is needed next is
    /// asked for on the way.
    ///
    /// # Safety
    /// The operands are as [`Operands`] says.
    unsafe fn multiply(&self, operands: &Operands, ahead: &mut Ahead);
}

/// A panel of weights over a stretch of columns, the tokens it meets, and their sums.
pub(crate) struct Operands {
    /// Weights and how many steps of them: those that are read as they lie, then those copied.
    /// Every step of every group has 16 readable rows of 64 bytes.
    pub(super) weights: [(Groups, usize); 2],
    /// The stretch of the first tile of tokens: a tile a step and part.
    pub(super) activations: *const u8,
    /// Bytes from one tile of tokens to the next.
    pub(super) tile_bytes: usize,
    pub(super) token_tiles: usize,
    /// [`GROUPS`] tiles of sums for each tile of tokens.
    pub(super) sums: *mut f32,
    /// Whether the sums are those of the stretches before; otherwise they hold nothing.
    pub(super) continues: bool,
}

/// Where the weights of a panel are: as they lie in the matrix, or packed.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub(super) start: [*const u8; GROUPS],
    /// Bytes from one row of a tile to the next.
    pub(super) row_bytes: usize,
    /// Bytes from one step to the next.
    pub(super) step_bytes: usize,
}

/// Lines of the next panel, asked for a few at a time.
pub(crate) struct Ahead {
    pub(super) halves: [*const u8; 2],
    pub(super) row_bytes: usize,
    pub(super) lines: usize,
    pub(super) row: usize,
    pub(super) line: usize,
}

impl Ahead {
    #[inline(always)]
    pub(super) fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.row == GROUPS * SIDE {
                return;
            }
            let half = GROUPS * SIDE / 2;
            let start = self.halves[self.row / half].wrapping_add(self.row % half * self.row_bytes);
            // SAFETY: asking for any address is harmless, and every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(self.line * 64).cast()) };
            self.line += 1;
            if self.line == self.lines {
                (self.line, self.row) = (0, self.row + 1);
            }
        }
    }
}

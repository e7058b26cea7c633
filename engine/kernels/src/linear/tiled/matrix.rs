//! Where the weights of a layer on tiles are, in either form of bf16. Knows nothing of tiles.

use half::bf16;

use super::plan::DEPTH;
use crate::ahead::LINE_BYTES;
use crate::compact::{Compact, GROUP, GROUP_BYTES};
use crate::weights::{Numbers, Weights};

/// A matrix of bf16 weights, in either form.
#[derive(Clone, Copy)]
pub(in super::super) enum Bf16Matrix<'a> {
    Plain(&'a [bf16]),
    Compact(Compact<'a>),
}

impl<'a> Bf16Matrix<'a> {
    /// `None` for numbers of other formats.
    pub fn of(numbers: Numbers<'a>) -> Option<Self> {
        match numbers {
            Numbers::Plain(Weights::Bf16(data)) => Some(Bf16Matrix::Plain(data)),
            Numbers::Plain(Weights::F16(_) | Weights::F32(_)) | Numbers::Quantised(_) => None,
            Numbers::Compact(data) => Some(Bf16Matrix::Compact(data)),
        }
    }

    /// Where a row's steps from `step` on begin, to ask for or, plain, to read; and from one row to
    /// the next.
    pub(super) fn at(self, row: usize, step: usize, cols: usize) -> (*const u8, usize) {
        match self {
            Bf16Matrix::Plain(data) => {
                let at = data.as_ptr().wrapping_add(row * cols + step * DEPTH);
                (at.cast(), cols * size_of::<bf16>())
            }
            Bf16Matrix::Compact(data) => {
                let row_bytes = data.row_bytes();
                let at = row * row_bytes + step * DEPTH / GROUP * GROUP_BYTES;
                (data.groups().as_ptr().wrapping_add(at), row_bytes)
            }
        }
    }

    /// Lines of memory that so many steps of a row take.
    pub(super) fn lines(self, steps: usize) -> usize {
        match self {
            Bf16Matrix::Plain(_) => steps,
            Bf16Matrix::Compact(_) => (steps * DEPTH * GROUP_BYTES / GROUP).div_ceil(LINE_BYTES),
        }
    }
}

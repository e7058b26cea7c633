//! The outputs of a layer by where their weights lie: one segment for each strip of a matrix, and for
//! a gated layer the gates with the values that belong to them. Knows no arithmetic.

use std::ops::Range;

use super::Then;
use crate::weights::{Matrix, Numbers};

/// Rows of weights, from one of them on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub numbers: Numbers<'a>,
    pub first: usize,
}

/// Outputs whose weights lie together.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// The first of them, of the layer's outputs, and how many.
    pub first: usize,
    pub outputs: usize,
    /// What is multiplied for them; of a gated layer the gates.
    pub weights: Rows<'a>,
    /// The values that the gates belong to; otherwise the same again.
    pub partner: Rows<'a>,
}

/// All of a layer's. Made anew where they are asked for: a step needs one of them.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    matrix: &'a Matrix<'a>,
    is_gated: bool,
}

impl<'a> Segments<'a> {
    pub fn of(matrix: &'a Matrix<'a>, then: Then) -> Self {
        let is_gated = then == Then::SwiGlu;
        Segments { matrix, is_gated }
    }

    /// # Panics
    /// If a gated layer's strips are anything but one, or gates and values.
    fn iter(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let rows = |numbers, first| Rows { numbers, first };
        let strips = (!self.is_gated).then(|| self.matrix.strips());
        let gated = self.is_gated.then(|| {
            let outputs = self.matrix.rows() / 2;
            let mut strips = self.matrix.strips();
            let Some(gates) = strips.next() else {
                unreachable!("a matrix has a strip");
            };
            let partner = match strips.next() {
                None => rows(gates.numbers, outputs),
                Some(values) => {
                    assert!(gates.rows == outputs && values.rows == outputs);
                    rows(values.numbers, 0)
                }
            };
            assert!(strips.next().is_none(), "gates, values, and what?");
            Segment {
                first: 0,
                outputs,
                weights: rows(gates.numbers, 0),
                partner,
            }
        });
        let mut end = 0;
        let plain = strips.into_iter().flatten().map(move |strip| {
            let first = end;
            end += strip.rows;
            Segment {
                first,
                outputs: strip.rows,
                weights: rows(strip.numbers, 0),
                partner: rows(strip.numbers, 0),
            }
        });
        gated.into_iter().chain(plain)
    }

    /// Pieces of up to `size` outputs, none of which is of two segments.
    pub fn pieces(&self, size: usize) -> usize {
        if self.is_gated {
            return (self.matrix.rows() / 2).div_ceil(size);
        }
        let strips = self.matrix.strips();
        strips.map(|strip| strip.rows.div_ceil(size)).sum()
    }

    /// One of them: its segment, and its outputs, counted from the segment's first.
    pub fn piece(&self, size: usize, piece: usize) -> (Segment<'a>, Range<usize>) {
        let mut before = 0;
        for segment in self.iter() {
            let pieces = segment.outputs.div_ceil(size);
            if piece < before + pieces {
                let start = (piece - before) * size;
                let share = start..(start + size).min(segment.outputs);
                return (segment, share);
            }
            before += pieces;
        }
        unreachable!("piece {piece} of {before}")
    }
}

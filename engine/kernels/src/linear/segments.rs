//! The outputs of a layer by where their weights lie: one segment for each strip of a matrix, and for
//! a gated layer the gates with the values that belong to them. Knows no arithmetic.

use std::ops::Range;

use super::Then;
use crate::weights::{Matrix, Numbers, Strip};

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

/// All of a layer's. A step needs one of them, and small layers have hardly the time to make it: so
/// each is made when it is asked for, from the matrix as it is.
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
        let share = |segment: Segment<'a>, start: usize| {
            let end = (start + size).min(segment.outputs);
            (segment, start..end)
        };
        if self.is_gated {
            return share(self.gates(), piece * size);
        }
        let (mut first, mut start) = (0, piece * size);
        for strip in self.matrix.strips() {
            if start < strip.rows {
                return share(Segment::of(strip, first), start);
            }
            start -= strip.rows.next_multiple_of(size);
            first += strip.rows;
        }
        unreachable!("piece {piece} of {size} outputs in {first}")
    }

    /// # Panics
    /// If the strips are anything but one, or gates and values.
    fn gates(&self) -> Segment<'a> {
        let outputs = self.matrix.rows() / 2;
        let rows = |strip: &Strip<'a>, first| Rows {
            numbers: strip.numbers,
            first,
        };
        let mut strips = self.matrix.strips();
        let Some(gates) = strips.next() else {
            unreachable!("a matrix has a strip");
        };
        let partner = match strips.next() {
            None => rows(gates, outputs),
            Some(values) => {
                assert!(gates.rows == outputs && values.rows == outputs);
                rows(values, 0)
            }
        };
        assert!(strips.next().is_none(), "gates, values, and what?");
        Segment {
            first: 0,
            outputs,
            weights: rows(gates, 0),
            partner,
        }
    }
}

impl<'a> Segment<'a> {
    /// A strip of a layer that is not gated.
    fn of(strip: &Strip<'a>, first: usize) -> Self {
        let rows = Rows {
            numbers: strip.numbers,
            first: 0,
        };
        Segment {
            first,
            outputs: strip.rows,
            weights: rows,
            partner: rows,
        }
    }
}

//! The outputs of a layer by where their weights lie: one segment for each strip of a matrix, and for
//! a gated layer the gates with the values that belong to them. Knows no arithmetic.

use std::ops::Range;

use super::Then;
use crate::weights::{Matrix, Numbers, STRIPS_MAX, Strip};

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

/// All of a layer's.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    first: Segment<'a>,
    more: [Option<Segment<'a>>; STRIPS_MAX - 1],
}

impl<'a> Segments<'a> {
    /// # Panics
    /// If a gated layer's strips are anything but one, or gates and values.
    pub fn of(matrix: Matrix<'a>, then: Then) -> Self {
        let mut strips = matrix.strips();
        let rows = |numbers, first| Rows { numbers, first };
        let of_strip = |first, strip: Strip<'a>| Segment {
            first,
            outputs: strip.rows,
            weights: rows(strip.numbers, 0),
            partner: rows(strip.numbers, 0),
        };
        let Some(strip) = strips.next() else {
            unreachable!("a matrix has a strip");
        };
        let mut first = of_strip(0, strip);
        let mut more = [None; STRIPS_MAX - 1];
        if then == Then::SwiGlu {
            let outputs = matrix.rows() / 2;
            first.outputs = outputs;
            first.partner = match strips.next() {
                None => rows(strip.numbers, outputs),
                Some(values) => {
                    assert!(strip.rows == outputs && values.rows == outputs);
                    rows(values.numbers, 0)
                }
            };
            assert!(strips.next().is_none(), "gates, values, and what?");
        } else {
            let mut end = strip.rows;
            for (more, strip) in more.iter_mut().zip(strips) {
                *more = Some(of_strip(end, strip));
                end += strip.rows;
            }
        }
        Segments { first, more }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Segment<'a>> {
        std::iter::once(&self.first).chain(self.more.iter().flatten())
    }

    /// Pieces of up to `size` outputs, none of which is of two segments.
    pub fn pieces(&self, size: usize) -> usize {
        let pieces = self.iter().map(|segment| segment.outputs.div_ceil(size));
        pieces.sum()
    }

    /// One of them: its segment, and its outputs, counted from the segment's first.
    pub fn piece(&self, size: usize, piece: usize) -> (&Segment<'a>, Range<usize>) {
        let mut before = 0;
        for segment in self.iter() {
            let pieces = segment.outputs.div_ceil(size);
            if piece < before + pieces {
                let start = (piece - before) * size;
                return (segment, start..(start + size).min(segment.outputs));
            }
            before += pieces;
        }
        unreachable!("piece {piece} of {before}")
    }
}

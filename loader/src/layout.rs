//! Where each weight of a block lies inside one slab of memory. Two arrangements: packed, in which
//! what stays is kept and what a device computes with, and paged, into which a disk brings bytes
//! without a detour. Knows no file but for where in a page of it a tensor begins; of a compact
//! weight it knows only how large that is.

use encoding::Encoding;

use crate::{DIRECT_ALIGN_BYTES, DType, Role, TensorSpec, WeightSpec};

/// In a packed slab every weight begins at a multiple of this: what device kernels like.
pub const SLAB_ALIGN_BYTES: usize = 256;

/// A tensor that is smaller shares its read with its neighbours: one read less.
const PAGED_LEAST: usize = 64 << 10;

/// How a weight's numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As its encoding says, row by row.
    Plain,
    /// As the engine's kernels pack them.
    Compact,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Compact => "compact",
        }
    }
}

/// How the weights of a block lie beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// One after another, the tensors of one weight and encoding without a gap.
    Packed,
    /// Each large tensor in pages of its own, as far into the first of them as it begins in a page
    /// of its file: direct reads bring whole pages to where they belong.
    Paged,
}

/// A stretch of a weight's rows that lie together, in one encoding. A vector is one row of one
/// number for each of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub rows: usize,
    pub cols: usize,
    pub encoding: Encoding,
    pub form: Form,
    pub offset: usize,
    pub bytes: usize,
    /// The pages around it are its own.
    pub is_paged: bool,
}

/// Where one weight lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub role: Role,
    /// Its parts, in the order of its rows.
    pub parts: Vec<Part>,
}

impl Placement {
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    pub fn cols(&self) -> usize {
        self.parts.first().map_or(0, |part| part.cols)
    }

    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Where a row begins, and the part that it is in.
    pub(crate) fn find(&self, row: usize) -> Option<(usize, &Part)> {
        let mut first = 0;
        for part in &self.parts {
            if row < first + part.rows {
                let before = part.encoding.bytes(row - first, part.cols)?;
                return Some((part.offset + before, part));
            }
            first += part.rows;
        }
        None
    }
}

/// A stored tensor as it is to be in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor {
    pub rows: usize,
    pub cols: usize,
    pub encoding: Encoding,
    pub bytes: usize,
    /// Where in the file it begins, if its bytes come from there as they are.
    pub from: Option<u64>,
}

impl Tensor {
    /// Worth pages of its own. The parts of a vector are never taken apart.
    fn is_large(&self) -> bool {
        self.bytes >= PAGED_LEAST && self.cols > 1
    }
}

/// The places of all weights of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLayout {
    placements: Vec<Placement>,
    slab_bytes: usize,
}

impl BlockLayout {
    pub(crate) fn of(weights: &[(Role, Vec<Tensor>)], arrangement: Arrangement) -> Self {
        let mut end = 0;
        let place = |(role, tensors): &(Role, Vec<Tensor>)| {
            let mut parts: Vec<Part> = Vec::new();
            for tensor in tensors {
                match parts.last_mut() {
                    Some(part) if part.takes(tensor, arrangement) => {
                        part.rows += tensor.rows;
                        part.bytes += tensor.bytes;
                        end += tensor.bytes;
                    }
                    _ => {
                        let part = Part::after(end, tensor, arrangement);
                        end = part.end();
                        parts.push(part);
                    }
                }
            }
            Placement { role: *role, parts }
        };
        let placements = weights.iter().map(place).collect();
        Self {
            placements,
            slab_bytes: end.next_multiple_of(SLAB_ALIGN_BYTES),
        }
    }

    /// Packed, as if all of it were in one encoding, which is a plain one.
    pub fn packed(weights: &[WeightSpec], dtype: DType) -> Self {
        let encoding = dtype.encoding();
        let tensor = |tensor: &TensorSpec| {
            let (rows, cols) = tensor.size();
            Tensor {
                rows,
                cols,
                encoding,
                bytes: rows * cols * dtype.bytes(),
                from: None,
            }
        };
        let tensors = |weight: &WeightSpec| weight.tensors.iter().map(tensor).collect();
        let weights: Vec<_> = weights
            .iter()
            .map(|weight| (weight.role, tensors(weight)))
            .collect();
        Self::of(&weights, Arrangement::Packed)
    }

    /// The same weights, packed, those in compact form for which `bytes_of` says what they take
    /// then. `None` if there are none.
    pub fn compact(&self, bytes_of: impl Fn(Role, &Part) -> Option<usize>) -> Option<Self> {
        let mut end = 0_usize;
        let mut is_compact = false;
        let place = |placement: &Placement| {
            let part = |part: &Part| {
                let (bytes, form) = match bytes_of(placement.role, part) {
                    Some(bytes) => (bytes, Form::Compact),
                    None => (part.bytes, Form::Plain),
                };
                is_compact |= form == Form::Compact;
                let offset = end.next_multiple_of(SLAB_ALIGN_BYTES);
                end = offset + bytes;
                Part {
                    offset,
                    bytes,
                    form,
                    is_paged: false,
                    ..*part
                }
            };
            Placement {
                role: placement.role,
                parts: placement.parts.iter().map(part).collect(),
            }
        };
        let placements = self.placements.iter().map(place).collect();
        let layout = Self {
            placements,
            slab_bytes: end.next_multiple_of(SLAB_ALIGN_BYTES),
        };
        is_compact.then_some(layout)
    }

    /// The same weights, packed, those whose places are wanted in another encoding, where their rows are
    /// whole blocks of it.
    pub fn in_encoding(&self, encoding: Encoding, wanted: impl Fn(usize) -> bool) -> Self {
        let mut end = 0_usize;
        let mut part = |part: &Part, wanted: bool| {
            let packed = encoding.bytes(part.rows, part.cols).filter(|_| wanted);
            let offset = end.next_multiple_of(SLAB_ALIGN_BYTES);
            let bytes = packed.unwrap_or(part.bytes);
            end = offset + bytes;
            Part {
                encoding: packed.map_or(part.encoding, |_| encoding),
                offset,
                bytes,
                is_paged: false,
                ..*part
            }
        };
        let places = self.placements.iter().enumerate();
        let placements = places
            .map(|(at, place)| Placement {
                role: place.role,
                parts: (place.parts.iter())
                    .map(|it| part(it, wanted(at)))
                    .collect(),
            })
            .collect();
        Self {
            placements,
            slab_bytes: end.next_multiple_of(SLAB_ALIGN_BYTES),
        }
    }

    /// Bytes of a slab, the gaps between weights included.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Bytes of the weights alone.
    pub fn weight_bytes(&self) -> usize {
        self.placements.iter().map(Placement::bytes).sum()
    }

    /// All placements, in slab order.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// `None` where this family has no such weight.
    pub fn get(&self, role: Role) -> Option<&Placement> {
        self.placements.iter().find(|place| place.role == role)
    }

    /// All parts, each with the role of its weight.
    pub fn parts(&self) -> impl Iterator<Item = (Role, &Part)> {
        let placements = self.placements.iter();
        placements.flat_map(|place| place.parts.iter().map(|part| (place.role, part)))
    }

    /// What to copy, and where to, for bytes that lie as here to lie as in `other`, a layout of the
    /// same weights. Neighbours go together.
    ///
    /// # Panics
    /// If it is of other weights.
    pub fn moves_to(&self, other: &Self) -> Vec<Move> {
        let mut moves: Vec<Move> = Vec::new();
        let (mut from, mut to) = (self.stretches(), other.stretches());
        let (mut left, mut room) = (from.next(), to.next());
        while let (Some(source), Some(target)) = (left, room) {
            let bytes = source.1.min(target.1);
            match moves.last_mut() {
                Some(last) if last.continues_at(source.0, target.0) => {
                    last.bytes = source.0 + bytes - last.from;
                }
                _ => moves.push(Move {
                    from: source.0,
                    to: target.0,
                    bytes,
                }),
            }
            let rest = |(start, len): (usize, usize)| {
                (len > bytes).then_some((start + bytes, len - bytes))
            };
            left = rest(source).or_else(|| from.next());
            room = rest(target).or_else(|| to.next());
        }
        assert!(left.is_none() && room.is_none(), "layouts of other weights");
        moves
    }

    fn stretches(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parts().map(|(_, part)| (part.offset, part.bytes))
    }
}

/// Bytes of one slab, and where they belong in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub from: usize,
    pub to: usize,
    pub bytes: usize,
}

impl Move {
    /// Whether bytes at `from` and `to` follow, but for the same gap in both.
    fn continues_at(&self, from: usize, to: usize) -> bool {
        let end = self.from + self.bytes;
        from >= end && from - end < SLAB_ALIGN_BYTES && from - self.from == to - self.to
    }
}

impl Part {
    fn after(end: usize, tensor: &Tensor, arrangement: Arrangement) -> Self {
        let into_page = tensor
            .from
            .map(|from| (from % DIRECT_ALIGN_BYTES as u64) as usize)
            .filter(|at| {
                let is_paged = arrangement == Arrangement::Paged && tensor.is_large();
                is_paged && at.is_multiple_of(tensor.encoding.align())
            });
        let offset = match into_page {
            Some(at) => end.next_multiple_of(DIRECT_ALIGN_BYTES) + at,
            None => end.next_multiple_of(SLAB_ALIGN_BYTES),
        };
        Self {
            rows: tensor.rows,
            cols: tensor.cols,
            encoding: tensor.encoding,
            form: Form::Plain,
            offset,
            bytes: tensor.bytes,
            is_paged: into_page.is_some(),
        }
    }

    /// Where the next may begin.
    fn end(&self) -> usize {
        let end = self.offset + self.bytes;
        match self.is_paged {
            true => end.next_multiple_of(DIRECT_ALIGN_BYTES),
            false => end,
        }
    }

    /// Whether the tensor can follow without a gap.
    fn takes(&self, tensor: &Tensor, arrangement: Arrangement) -> bool {
        let is_packed = match arrangement {
            Arrangement::Packed => true,
            Arrangement::Paged => !self.is_paged && !tensor.is_large(),
        };
        is_packed && self.encoding == tensor.encoding && self.cols == tensor.cols
    }
}

#[cfg(test)]
mod tests;

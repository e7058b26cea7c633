//! The tensors of one weight, found by their names and held against the shapes that they must have;
//! and what becomes of them in a slab. Knows neither whose they are nor how a file says them.

use std::collections::BTreeMap;
use std::sync::Arc;

use encoding::Encoding;

use super::{BlockSource, Piece};
use crate::layout::{Arrangement, Tensor};
use crate::naming::Description;
use crate::spec::rows_and_cols;
use crate::{BlockLayout, DType, Error, Role, Storage, TensorEntry};

/// Where tensors are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensors<'a> {
    pub by_name: &'a BTreeMap<String, TensorEntry>,
    pub sources: &'a [Arc<dyn Storage>],
    /// The place, and what says that they are there, for messages.
    pub location: &'a str,
    pub said_by: Description,
}

/// A tensor where it is stored, and what it is to be in memory.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    entry: &'a TensorEntry,
    stored: Encoding,
    tensor: Tensor,
}

impl<'a> Tensors<'a> {
    /// The tensors of one weight. Plain numbers become `dtype`, where one is given.
    pub fn found<'b>(
        &self,
        names: impl Iterator<Item = (String, &'b [usize])>,
        dtype: Option<DType>,
    ) -> Result<Vec<Found<'a>>, Error> {
        let mut found = names
            .map(|(name, shape)| self.find(&name, shape, dtype))
            .collect::<Result<Vec<_>, _>>()?;
        // A vector is read as one: of several formats it becomes the one that holds them all.
        let is_vector = found.iter().all(|found| found.tensor.cols == 1);
        let mut others = found.iter().skip(1).map(|found| found.tensor.encoding);
        if is_vector && others.any(|encoding| encoding != found[0].tensor.encoding) {
            for found in &mut found {
                found.becomes(Encoding::F32);
            }
        }
        Ok(found)
    }

    /// One of them, with its shape and encoding checked.
    pub fn find(
        &self,
        name: &str,
        shape: &[usize],
        dtype: Option<DType>,
    ) -> Result<Found<'a>, Error> {
        let entry = self.by_name.get(name).ok_or_else(|| Error::TensorMissing {
            location: self.location.into(),
            tensor: name.into(),
            said_by: self.said_by,
        })?;
        let same = entry.shape.len() == shape.len()
            && entry.shape.iter().zip(shape).all(|(a, b)| *a == *b as u64);
        let file = || self.sources[entry.source].name().to_owned();
        if !same {
            return Err(Error::TensorShape {
                file: file(),
                tensor: name.into(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
                said_by: self.said_by,
            });
        }
        let (rows, cols) = rows_and_cols(shape);
        let stored = entry.encoding();
        let bytes = stored.and_then(|stored| stored.bytes(rows, cols));
        let (Some(stored), Some(bytes)) = (stored, bytes) else {
            return Err(Error::TensorDType {
                file: file(),
                tensor: name.into(),
                found: entry.stored.to_string(),
            });
        };
        let mut found = Found {
            entry,
            stored,
            tensor: Tensor {
                rows,
                cols,
                encoding: stored,
                bytes,
                from: Some(entry.offset),
            },
        };
        if let Some(dtype) = dtype.filter(|_| stored.is_plain()) {
            found.becomes(dtype.encoding());
        }
        Ok(found)
    }
}

impl Found<'_> {
    /// Where it is, and as what it is stored.
    pub fn stored(&self) -> (&TensorEntry, Encoding) {
        (self.entry, self.stored)
    }

    fn becomes(&mut self, encoding: Encoding) {
        let tensor = &mut self.tensor;
        if encoding != tensor.encoding {
            let numbers = tensor.rows * tensor.cols;
            tensor.encoding = encoding;
            tensor.bytes = numbers * encoding.block().bytes;
            tensor.from = None;
        }
    }
}

/// The slab of these weights, in this order.
pub(crate) fn source_of(
    label: String,
    weights: &[(Role, Vec<Found<'_>>)],
    arrangement: Arrangement,
) -> BlockSource {
    let tensors = |found: &Vec<Found<'_>>| found.iter().map(|found| found.tensor).collect();
    let of_layout: Vec<_> = weights
        .iter()
        .map(|(role, found)| (*role, tensors(found)))
        .collect();
    let layout = BlockLayout::of(&of_layout, arrangement);
    let mut pieces = Vec::new();
    for ((_, found), place) in weights.iter().zip(layout.placements()) {
        let mut row = 0;
        for found in found {
            let tensor = found.tensor;
            // A tensor without rows takes no bytes, and has no place.
            let Some((slab_offset, part)) = place.find(row) else {
                continue;
            };
            pieces.push(Piece {
                source: found.entry.source,
                offset: found.entry.offset,
                len: usize::try_from(found.entry.bytes).unwrap_or(usize::MAX),
                slab_offset,
                stored: found.stored,
                wanted: tensor.encoding,
                is_paged: part.is_paged,
            });
            row += tensor.rows;
        }
    }
    BlockSource {
        label,
        layout: Arc::new(layout),
        pieces,
    }
}

/// Finds the encoding of most of the projections' bytes.
#[derive(Debug, Default)]
pub(crate) struct Most {
    bytes_of: Vec<(Encoding, usize)>,
}

impl Most {
    pub fn count(&mut self, layout: &BlockLayout) {
        let projections = layout.parts().filter(|(role, _)| role.is_projection());
        for (_, part) in projections {
            match self
                .bytes_of
                .iter_mut()
                .find(|(of, _)| *of == part.encoding)
            {
                Some((_, bytes)) => *bytes += part.bytes,
                None => self.bytes_of.push((part.encoding, part.bytes)),
            }
        }
    }

    /// `None` where there were no projections.
    pub fn encoding(&self) -> Option<Encoding> {
        let most = self.bytes_of.iter().max_by_key(|(_, bytes)| *bytes);
        most.map(|(encoding, _)| *encoding)
    }
}

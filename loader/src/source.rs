//! Where on disk the bytes of one slab are: which range of which file goes to which offset. Built
//! from names and shapes, checked, and then free of both: the readers see only ranges.

use std::ops::Range;
use std::sync::Arc;

use encoding::Encoding;

use crate::chunk::{self, Chunk};
use crate::files::gguf;
use crate::layout::{Arrangement, Tensor};
use crate::naming::Naming;
use crate::{BlockLayout, Checkpoint, DType, Error, Role, TensorEntry, WeightSpec};

/// One tensor's way into a slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index into [`Checkpoint::sources`].
    pub source: usize,
    pub offset: u64,
    /// As stored.
    pub len: usize,
    /// Where its first byte goes.
    pub slab_offset: usize,
    pub stored: Encoding,
    /// The encoding in the slab: another one only where both are plain.
    pub wanted: Encoding,
    /// The pages of the slab around its place are its own, and it lies in them as in the file's.
    pub is_paged: bool,
}

impl Piece {
    /// Whether its bytes are in the slab what they are in the file.
    pub fn keeps_bytes(&self) -> bool {
        self.stored == self.wanted
    }

    /// Bytes of the slab that so many stored bytes fill.
    pub fn slab_len(&self, stored: usize) -> usize {
        match self.keeps_bytes() {
            true => stored,
            false => stored / self.stored.block().bytes * self.wanted.block().bytes,
        }
    }

    /// Where its bytes are in the slab.
    pub fn slab_range(&self) -> Range<usize> {
        self.slab_offset..self.slab_offset + self.slab_len(self.len)
    }
}

/// The bytes of one slab: a block, or one of the weights outside the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSource {
    label: String,
    layout: Arc<BlockLayout>,
    pieces: Vec<Piece>,
}

impl BlockSource {
    /// "layer 5" or the name of the tensor, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How its weights lie in the slab.
    pub fn layout(&self) -> &Arc<BlockLayout> {
        &self.layout
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The same, in a list of files in which so many of other checkpoints come first.
    pub fn behind(mut self, files: usize) -> Self {
        self.pieces
            .iter_mut()
            .for_each(|piece| piece.source += files);
        self
    }

    /// Bytes of memory it fills.
    pub fn slab_bytes(&self) -> usize {
        self.layout.slab_bytes()
    }

    /// Bytes that are read from the checkpoint to fill it.
    pub fn stored_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len as u64).sum()
    }

    /// The reads that fill the slab. They share no byte of it. Plan once, keep, and run as often as
    /// the block is needed.
    ///
    /// # Panics
    /// If two pieces claim the same byte of the slab or one lies outside it: a bug.
    pub fn chunks(&self) -> Vec<Chunk> {
        let chunks = chunk::cut(&self.pieces);
        chunk::check(&chunks, self.slab_bytes());
        chunks
    }
}

/// The weights outside the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whole {
    Embedding,
    FinalNorm,
    /// The embedding where the model ties the two.
    LmHead,
}

impl Whole {
    pub const ALL: [Self; 3] = [Self::Embedding, Self::FinalNorm, Self::LmHead];

    const fn role(self) -> Role {
        match self {
            Self::Embedding => Role::Embedding,
            Self::FinalNorm => Role::FinalNorm,
            Self::LmHead => Role::Head,
        }
    }
}

/// A tensor where it is stored, and what it is to be in memory.
struct Found<'a> {
    entry: &'a TensorEntry,
    stored: Encoding,
    tensor: Tensor,
}

impl Checkpoint {
    /// Where the weights of `layer` are, with every tensor's presence, shape and encoding checked.
    /// Plain numbers become `dtype`, where one is given; what is encoded stays as it is.
    pub fn block(
        &self,
        layer: usize,
        dtype: Option<DType>,
        arrangement: Arrangement,
    ) -> Result<BlockSource, Error> {
        let layers = self.config.layers;
        if layer >= layers {
            return Err(Error::NoSuchLayer { layer, layers });
        }
        let weights = self.block_weights().into_iter().map(|weight| {
            let tensors = weight.tensors.iter();
            let names =
                tensors.map(|tensor| (self.tensor_name(layer, tensor.name), &*tensor.shape));
            Ok((weight.role, self.found(names, dtype)?))
        });
        let weights = weights.collect::<Result<Vec<_>, Error>>()?;
        Ok(source_of(format!("layer {layer}"), &weights, arrangement))
    }

    /// The first rows of a block's matrix as they are stored, at most so many bytes: the model's
    /// own numbers, to try something on. Comes with the matrix's columns. `None` where
    /// they are not stored in that encoding.
    pub fn first_rows(
        &self,
        layer: usize,
        role: Role,
        encoding: Encoding,
        bytes_max: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, Error> {
        let source = self.block(layer, None, Arrangement::Packed)?;
        let part = source
            .layout
            .get(role)
            .and_then(|place| place.parts.first());
        let Some(part) = part.filter(|part| part.encoding == encoding) else {
            return Ok(None);
        };
        let mut pieces = source.pieces().iter();
        let first = pieces.find(|piece| piece.slab_offset == part.offset);
        let (Some(piece), Some(row_bytes @ 1..)) = (first, encoding.bytes(1, part.cols)) else {
            return Ok(None);
        };
        let mut bytes = vec![0; bytes_max.min(piece.len) / row_bytes * row_bytes];
        self.sources()[piece.source].read_at(piece.offset, &mut bytes)?;
        Ok((!bytes.is_empty()).then_some((bytes, part.cols)))
    }

    /// Where a weight outside the blocks is. The slab it fills holds just this weight.
    pub fn weight(
        &self,
        which: Whole,
        dtype: Option<DType>,
        arrangement: Arrangement,
    ) -> Result<BlockSource, Error> {
        let (name, shape) = (self.weight_name(which), self.weight_shape(which));
        let found = self.found([(name.to_owned(), &*shape)].into_iter(), dtype)?;
        Ok(source_of(
            name.into(),
            &[(which.role(), found)],
            arrangement,
        ))
    }

    pub fn weight_shape(&self, which: Whole) -> Vec<usize> {
        match which {
            Whole::Embedding | Whole::LmHead => {
                vec![self.config.vocab_size, self.config.hidden_size]
            }
            Whole::FinalNorm => vec![self.config.hidden_size],
        }
    }

    fn weight_name(&self, which: Whole) -> &'static str {
        let stored = match which {
            Whole::LmHead if self.config.tied_embeddings => Whole::Embedding,
            which => which,
        };
        self.naming().whole(stored)
    }

    /// The weights of every block, and the tensors that they are in this checkpoint.
    fn block_weights(&self) -> Vec<WeightSpec> {
        let gguf = self.config.family.gguf.as_ref();
        match (self.naming(), gguf) {
            (Naming::Gguf, Some(gguf)) => self.config.block_weights_named(|role| {
                let fused = gguf::names::fused(role);
                let is_fused = |names: &&[&'static str]| {
                    let mut names = names.iter();
                    names.all(|name| self.tensor(&self.tensor_name(0, name)).is_some())
                };
                fused.filter(is_fused).unwrap_or((gguf.names)(role))
            }),
            _ => self.config.block_weights(),
        }
    }

    fn tensor_name(&self, layer: usize, part: &'static str) -> String {
        format!("{}{layer}.{part}", self.naming().layers())
    }

    /// The tensors of one weight.
    fn found<'a>(
        &self,
        names: impl Iterator<Item = (String, &'a [usize])>,
        dtype: Option<DType>,
    ) -> Result<Vec<Found<'_>>, Error> {
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

    fn find(&self, name: &str, shape: &[usize], dtype: Option<DType>) -> Result<Found<'_>, Error> {
        let entry = self.tensor(name).ok_or_else(|| Error::TensorMissing {
            location: self.location().into(),
            tensor: name.into(),
            said_by: self.naming().description(),
        })?;
        let same = entry.shape.len() == shape.len()
            && entry.shape.iter().zip(shape).all(|(a, b)| *a == *b as u64);
        let file = || self.sources()[entry.source].name().to_owned();
        if !same {
            return Err(Error::TensorShape {
                file: file(),
                tensor: name.into(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
                said_by: self.naming().description(),
            });
        }
        let (rows, cols) = match *shape {
            [rows, cols] => (rows, cols),
            _ => (shape.iter().product(), 1),
        };
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

    /// Every block and every weight outside is there as config.json describes it. Returns the
    /// format of most of the projections' bytes.
    pub(crate) fn check_weights(&self) -> Result<Encoding, Error> {
        let mut bytes_of: Vec<(Encoding, usize)> = Vec::new();
        for layer in 0..self.config.layers {
            let source = self.block(layer, None, Arrangement::Packed)?;
            for (_, part) in source
                .layout
                .parts()
                .filter(|(role, _)| role.is_projection())
            {
                match bytes_of.iter_mut().find(|(of, _)| *of == part.encoding) {
                    Some((_, bytes)) => *bytes += part.bytes,
                    None => bytes_of.push((part.encoding, part.bytes)),
                }
            }
        }
        for which in Whole::ALL {
            self.weight(which, None, Arrangement::Packed)?;
        }
        let most = bytes_of.into_iter().max_by_key(|&(_, bytes)| bytes);
        // A model has at least one layer and a block has projections.
        Ok(most.map_or(Encoding::Bf16, |(encoding, _)| encoding))
    }

    /// Whether the model reads the tensor of that name, for each name.
    pub(crate) fn is_read(&self) -> impl Fn(&str) -> bool {
        let naming = self.naming();
        let weights = self.block_weights().into_iter();
        let parts: Vec<&str> = weights
            .flat_map(|weight| weight.tensors)
            .map(|tensor| tensor.name)
            .collect();
        let whole = Whole::ALL.map(|which| self.weight_name(which));
        let rotation = naming.of_rotation(&self.config.rope);
        let layers = self.config.layers;
        move |name| {
            let in_layer = name
                .strip_prefix(naming.layers())
                .and_then(|rest| rest.split_once('.'));
            match in_layer {
                // "01" is no layer's name.
                Some((number, part)) => number.parse::<usize>().is_ok_and(|layer| {
                    layer < layers && number == layer.to_string() && parts.contains(&part)
                }),
                None => whole.contains(&name) || rotation.contains(&name),
            }
        }
    }
}

impl Found<'_> {
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

fn source_of(
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

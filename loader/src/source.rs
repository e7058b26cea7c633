//! Where on disk the bytes of one slab are: which range of which file goes to which offset. Built
//! from names and shapes, checked, and then free of both: the readers see only ranges.

mod found;

use std::ops::Range;
use std::sync::Arc;

use encoding::Encoding;

use crate::chunk::{self, Chunk};
use crate::files::gguf;
use crate::layout::Arrangement;
use crate::naming::Naming;
use crate::{BlockLayout, Checkpoint, DType, Error, Role, WeightSpec};

pub(crate) use found::{Found, Most, Tensors, source_of};

/// One tensor's way into a slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index into [`Checkpoint::sources`], or [`crate::Fuser::sources`].
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
    /// "layer 5", "projector 3" or the name of the tensor, for messages.
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
        self.by_name().found(names, dtype)
    }

    /// Every block and every weight outside is there as config.json describes it. Returns the
    /// format of most of the projections' bytes.
    pub(crate) fn check_weights(&self) -> Result<Encoding, Error> {
        let mut most = Most::default();
        for layer in 0..self.config.layers {
            most.count(self.block(layer, None, Arrangement::Packed)?.layout());
        }
        for which in Whole::ALL {
            self.weight(which, None, Arrangement::Packed)?;
        }
        // A model has at least one layer and a block has projections.
        Ok(most.encoding().unwrap_or(Encoding::Bf16))
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

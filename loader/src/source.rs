//! Where on disk the bytes of one slab are: which range of which file goes to which offset. Built
//! from names and shapes, checked, and then free of both: the readers see only ranges.

use std::ops::Range;
use std::sync::Arc;

use crate::chunk::{self, Chunk, Route};
use crate::{
    BlockLayout, Checkpoint, DIRECT_ALIGN_BYTES, DType, Error, Role, Storage, TensorEntry,
};

/// One tensor's way into a slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index into [`Checkpoint::sources`].
    pub source: usize,
    pub offset: u64,
    /// As stored.
    pub len: usize,
    /// Where its first byte goes, counted in converted bytes.
    pub slab_offset: usize,
    pub stored: DType,
}

/// The bytes of one slab: a block, or one of the weights outside the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSource {
    label: String,
    dtype: DType,
    pieces: Vec<Piece>,
    slab_bytes: usize,
}

impl BlockSource {
    /// "layer 5" or the name of the tensor, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Of the slab; stored bytes of another dtype are converted on the way.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes of memory it fills.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Bytes that are read from the checkpoint to fill it.
    pub fn stored_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len as u64).sum()
    }

    /// The reads that fill the slab.
    pub fn chunks(&self) -> Vec<Chunk> {
        chunk::plan(&self.pieces, self.dtype)
    }

    /// The direct reads that fill a slab which begins there: to their places where that suits the file.
    pub(crate) fn direct_chunks(
        &self,
        slab: *const u8,
        sources: &[Arc<dyn Storage>],
    ) -> Vec<Chunk> {
        let shift = slab.addr() % DIRECT_ALIGN_BYTES;
        chunk::cut(&self.pieces, self.dtype, shift, sources)
    }

    /// The same for a slab that may be shifted. Plan once, keep, and run as often as the block is
    /// needed. Its chunks share no byte of the slab.
    pub fn route(&self, sources: &[Arc<dyn Storage>]) -> Route {
        chunk::route(&self.pieces, self.dtype, self.slab_bytes, sources)
    }
}

impl Piece {
    /// Some of it, which is not converted.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self {
            offset: self.offset + range.start as u64,
            len: range.len(),
            slab_offset: self.slab_offset + range.start,
            ..self.clone()
        }
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

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
pub(crate) const LAYERS: &str = "model.layers.";

impl Whole {
    pub const ALL: [Self; 3] = [Self::Embedding, Self::FinalNorm, Self::LmHead];
}

impl Checkpoint {
    /// The layout of every block of this model in `dtype`.
    pub fn block_layout(&self, dtype: DType) -> BlockLayout {
        BlockLayout::new(&self.config, dtype)
    }

    /// Where the weights of `layer` are, with every tensor's presence, shape and dtype checked.
    pub fn block(&self, layer: usize, layout: &BlockLayout) -> Result<BlockSource, Error> {
        let layers = self.config.layers;
        if layer >= layers {
            return Err(Error::NoSuchLayer { layer, layers });
        }
        let mut pieces = Vec::new();
        for (weight, place) in self.config.block_weights().iter().zip(layout.placements()) {
            let mut slab_offset = place.offset;
            for tensor in &weight.tensors {
                let name = tensor_name(layer, tensor.name);
                pieces.push(self.piece(&name, &tensor.shape, slab_offset)?);
                slab_offset += tensor.shape.iter().product::<usize>() * layout.dtype().bytes();
            }
            // A layout of another configuration is a bug of the caller's.
            assert_eq!(slab_offset, place.offset + place.bytes, "{:?}", place.role);
        }
        Ok(BlockSource {
            label: format!("layer {layer}"),
            dtype: layout.dtype(),
            pieces,
            slab_bytes: layout.slab_bytes(),
        })
    }

    /// The first rows of a block's matrix as they are stored, at most so many bytes: the model's own
    /// numbers, for whoever tries something on them. With the matrix's columns. `None` where rows
    /// are not stored in the layout's dtype.
    pub fn first_rows(
        &self,
        layer: usize,
        role: Role,
        layout: &BlockLayout,
        bytes_max: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, Error> {
        let source = self.block(layer, layout)?;
        let Some(place) = layout.get(role) else {
            return Ok(None);
        };
        let mut pieces = source.pieces().iter();
        let first = pieces.find(|piece| piece.slab_offset == place.offset);
        let (Some(piece), &[_, columns]) = (first, &place.shape[..]) else {
            return Ok(None);
        };
        let row_bytes = columns * layout.dtype().bytes();
        if piece.stored != layout.dtype() || row_bytes == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; bytes_max.min(piece.len) / row_bytes * row_bytes];
        self.sources()[piece.source].read_at(piece.offset, &mut bytes)?;
        Ok((!bytes.is_empty()).then_some((bytes, columns)))
    }

    /// Where a weight outside the blocks is. The slab it fills holds just this weight.
    pub fn weight(&self, which: Whole, dtype: DType) -> Result<BlockSource, Error> {
        let name = self.weight_name(which);
        let shape = self.weight_shape(which);
        let piece = self.piece(name, &shape, 0)?;
        Ok(BlockSource {
            label: name.into(),
            dtype,
            pieces: vec![piece],
            slab_bytes: shape.iter().product::<usize>() * dtype.bytes(),
        })
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
        match which {
            Whole::LmHead if !self.config.tied_embeddings => HEAD,
            Whole::Embedding | Whole::LmHead => EMBEDDING,
            Whole::FinalNorm => "model.norm.weight",
        }
    }

    pub(crate) fn piece(
        &self,
        name: &str,
        shape: &[usize],
        slab_offset: usize,
    ) -> Result<Piece, Error> {
        let entry = self.tensor(name).ok_or_else(|| Error::TensorMissing {
            location: self.location().into(),
            tensor: name.into(),
        })?;
        let same = entry.shape.len() == shape.len()
            && entry.shape.iter().zip(shape).all(|(a, b)| *a == *b as u64);
        if !same {
            return Err(Error::TensorShape {
                file: self.sources()[entry.source].name().into(),
                tensor: name.into(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        Ok(Piece {
            source: entry.source,
            offset: entry.offset,
            len: shape.iter().product::<usize>() * self.float(name, entry)?.bytes(),
            slab_offset,
            stored: self.float(name, entry)?,
        })
    }

    fn float(&self, name: &str, entry: &TensorEntry) -> Result<DType, Error> {
        entry.dtype().ok_or_else(|| Error::TensorDType {
            file: self.sources()[entry.source].name().into(),
            tensor: name.into(),
            found: entry.stored.to_string(),
        })
    }

    /// Every block and every weight outside is there as config.json describes it, and the projections
    /// share one dtype, which is returned.
    pub(crate) fn check_weights(&self) -> Result<DType, Error> {
        let layout = self.block_layout(DType::Bf16);
        let mut first: Option<(String, DType)> = None;
        let weights = self.config.block_weights();
        for layer in 0..self.config.layers {
            self.block(layer, &layout)?;
            for weight in weights.iter().filter(|weight| weight.role.is_projection()) {
                for tensor in &weight.tensors {
                    let name = tensor_name(layer, tensor.name);
                    let Some(dtype) = self.tensor(&name).and_then(TensorEntry::dtype) else {
                        continue;
                    };
                    let (first, first_dtype) = first.get_or_insert_with(|| (name.clone(), dtype));
                    if dtype != *first_dtype {
                        return Err(Error::MixedDTypes {
                            first: first.clone(),
                            first_dtype: *first_dtype,
                            other: name,
                            other_dtype: dtype,
                        });
                    }
                }
            }
        }
        for which in Whole::ALL {
            self.weight(which, DType::Bf16)?;
        }
        // A model has at least one layer and a block has projections.
        Ok(first.map_or(DType::Bf16, |(_, dtype)| dtype))
    }

    /// Whether the model reads the tensor of that name, for each name.
    pub(crate) fn is_read(&self) -> impl Fn(&str) -> bool {
        let weights = self.config.block_weights().into_iter();
        let parts: Vec<&str> = weights
            .flat_map(|weight| weight.tensors)
            .map(|tensor| tensor.name)
            .collect();
        let whole = Whole::ALL.map(|which| self.weight_name(which));
        let layers = self.config.layers;
        move |name| {
            let in_layer = name
                .strip_prefix(LAYERS)
                .and_then(|rest| rest.split_once('.'));
            match in_layer {
                // "01" is no layer's name.
                Some((number, part)) => number.parse::<usize>().is_ok_and(|layer| {
                    layer < layers && tensor_name(layer, part) == name && parts.contains(&part)
                }),
                None => whole.contains(&name),
            }
        }
    }
}

fn tensor_name(layer: usize, part: &str) -> String {
    format!("{LAYERS}{layer}.{part}")
}

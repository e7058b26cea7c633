//! The weights outside the blocks: embedding, final norm, head. They are needed whole at every
//! token, so they stay resident and the plan counts them.

use std::sync::Arc;

use loader::{Checkpoint, DType, Whole};
use offload::SlabBytes;

use crate::blueprint::Blueprint;
use crate::error::EngineError;
use crate::load;

#[derive(Debug)]
pub struct Ends {
    pub dtype: DType,
    pub embedding: SlabBytes,
    pub norm: SlabBytes,
    /// `None`: the embedding serves as the head.
    head: Option<SlabBytes>,
}

impl Ends {
    /// Bytes they will take, known before they are read.
    pub fn bytes(checkpoint: &Checkpoint, dtype: DType) -> u64 {
        Self::parts(checkpoint)
            .map(|which| checkpoint.weight_shape(which).iter().product::<usize>() * dtype.bytes())
            .sum::<usize>() as u64
    }

    pub fn load(blueprint: &Blueprint, progress: &mut dyn FnMut(u64)) -> Result<Self, EngineError> {
        let (checkpoint, dtype) = (&blueprint.checkpoint, blueprint.dtype());
        let device = blueprint.place.device();
        let mut read = |which| -> Result<SlabBytes, EngineError> {
            let source = checkpoint.weight(which, dtype)?;
            let bytes = SlabBytes::new(source.slab_bytes(), dtype, device)?;
            load::fill(blueprint, &bytes, &source)?;
            progress(source.stored_bytes());
            Ok(bytes)
        };
        Ok(Self {
            dtype,
            embedding: read(Whole::Embedding)?,
            norm: read(Whole::FinalNorm)?,
            head: match checkpoint.config.tied_embeddings {
                true => None,
                false => Some(read(Whole::LmHead)?),
            },
        })
    }

    pub fn head(&self) -> &SlabBytes {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn parts(checkpoint: &Checkpoint) -> impl Iterator<Item = Whole> {
        let tied = checkpoint.config.tied_embeddings;
        Whole::ALL
            .into_iter()
            .filter(move |&which| !(tied && which == Whole::LmHead))
    }
}

/// Shared by everything that computes over the model.
pub type SharedConfig = Arc<loader::ModelConfig>;

//! The weights outside the blocks: embedding, final norm, head. They are needed whole at every
//! token, so they stay resident and the plan counts them.

use std::sync::Arc;

use loader::{Access, Checkpoint, DType, Whole};
use offload::{Home, SlabBytes};

use crate::blueprint::{Blueprint, STREAM_ACCESS};
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

    /// The first that a pass needs; [`Ends::load`] takes it.
    pub fn embedding(
        blueprint: &Blueprint,
        progress: &mut dyn FnMut(u64),
    ) -> Result<SlabBytes, EngineError> {
        read(blueprint, Whole::Embedding, progress)
    }

    pub fn load(
        blueprint: &Blueprint,
        embedding: SlabBytes,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let tied = blueprint.checkpoint.config.tied_embeddings;
        Ok(Self {
            dtype: blueprint.dtype(),
            embedding,
            norm: read(blueprint, Whole::FinalNorm, progress)?,
            head: match tied {
                true => None,
                false => Some(read(blueprint, Whole::LmHead, progress)?),
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

fn read(
    blueprint: &Blueprint,
    which: Whole,
    progress: &mut dyn FnMut(u64),
) -> Result<SlabBytes, EngineError> {
    let dtype = blueprint.dtype();
    let source = blueprint.checkpoint.weight(which, dtype)?;
    let bytes = SlabBytes::new(source.slab_bytes(), dtype, blueprint.place.device())?;
    load::fill(blueprint, &bytes, &source, access(blueprint))?;
    progress(source.stored_bytes());
    Ok(bytes)
}

/// Where layers are streamed from disk, every token takes longer than these take from there: then
/// they need no second copy in the page cache.
fn access(blueprint: &Blueprint) -> Access {
    match (blueprint.link.home, blueprint.plan.streamed_count()) {
        (Home::Disk, 1..) => STREAM_ACCESS,
        _ => Access::Buffered,
    }
}

/// Shared by everything that computes over the model.
pub type SharedConfig = Arc<loader::ModelConfig>;

//! The weights outside the blocks: embedding, final norm, head. The last two are needed whole at
//! every token, so they stay resident; of the embedding see [`crate::embedding`]. The plan counts them.
//! Where layers come from disk, a head of its own is not waited for at the start: see [`crate::head`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loader::{Access, BlockSource, Checkpoint, DType, Whole};
use offload::{Home, SlabBytes};

use crate::blueprint::{Blueprint, STREAM_ACCESS};
use crate::embedding::{Embedding, RowReader};
use crate::error::EngineError;
use crate::head::{Head, Reading};
use crate::load;

#[derive(Debug)]
pub struct Ends {
    pub dtype: DType,
    pub embedding: Embedding,
    pub norm: SlabBytes,
    /// The embedding, where the model ties the two.
    head: Head,
    /// Raised by whoever does not want to wait for the disk any longer.
    pub cancel: Arc<AtomicBool>,
}

impl Ends {
    /// Bytes that all of them take, known before they are read.
    pub fn bytes(checkpoint: &Checkpoint, dtype: DType) -> u64 {
        Self::parts(checkpoint)
            .map(|which| bytes(checkpoint, which, dtype))
            .sum()
    }

    /// Of these, what can be left on disk.
    pub fn can_be_left(checkpoint: &Checkpoint, dtype: DType) -> u64 {
        let row_bytes = checkpoint.config.hidden_size * dtype.bytes();
        match checkpoint.config.tied_embeddings {
            true => 0,
            false => bytes(checkpoint, Whole::Embedding, dtype)
                .saturating_sub(RowReader::buffer_bytes(row_bytes) as u64),
        }
    }

    /// Bytes that are read of the checkpoint before the first pass.
    pub fn stored_bytes(blueprint: &Blueprint) -> u64 {
        let checkpoint = &blueprint.checkpoint;
        let waited_for =
            |which: &Whole| *which == Whole::FinalNorm || !blueprint.leaves_embedding();
        Self::parts(checkpoint)
            .filter(waited_for)
            .map(|which| bytes(checkpoint, which, checkpoint.dtype()))
            .sum()
    }

    /// The first that a pass needs; [`Ends::load`] takes it.
    pub fn embedding(
        blueprint: &Blueprint,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Embedding, EngineError> {
        Ok(match blueprint.leaves_embedding() {
            true => {
                let reader = RowReader::open(&blueprint.checkpoint, blueprint.dtype())?;
                Embedding::OnDisk(Box::new(reader))
            }
            false => Embedding::Whole(read(blueprint, Whole::Embedding, progress)?),
        })
    }

    pub fn load(
        blueprint: &Blueprint,
        embedding: Embedding,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let tied = blueprint.checkpoint.config.tied_embeddings;
        let norm = read(blueprint, Whole::FinalNorm, progress)?;
        let head = match &embedding {
            Embedding::Whole(table) if tied => Head::there(table.clone()),
            Embedding::Whole(_) => Head::there(read(blueprint, Whole::LmHead, progress)?),
            Embedding::OnDisk(_) => {
                let (source, bytes) = memory_for(blueprint, Whole::LmHead)?;
                let reading = Reading {
                    source,
                    storages: blueprint.checkpoint.sources().to_vec(),
                    access: access(blueprint),
                };
                Head::later(bytes, reading)
            }
        };
        Ok(Self {
            dtype: blueprint.dtype(),
            embedding,
            norm,
            head,
            cancel: Arc::default(),
        })
    }

    /// Begins to read the head, if that was put off: see [`crate::head`].
    pub fn begin_head(&self) -> Result<(), EngineError> {
        self.head.begin()
    }

    /// Waits until the head has been read, or the flag is raised.
    pub fn head(&self) -> Result<&SlabBytes, EngineError> {
        self.head.bytes(&self.cancel)
    }

    /// Bytes of the checkpoint that loading did not wait for.
    pub fn bytes_beside(&self) -> u64 {
        self.head.bytes_beside()
    }

    pub fn head_bytes(&self) -> usize {
        self.head.len_bytes()
    }

    fn parts(checkpoint: &Checkpoint) -> impl Iterator<Item = Whole> {
        let tied = checkpoint.config.tied_embeddings;
        Whole::ALL
            .into_iter()
            .filter(move |&which| !(tied && which == Whole::LmHead))
    }
}

fn bytes(checkpoint: &Checkpoint, which: Whole, dtype: DType) -> u64 {
    let numbers: usize = checkpoint.weight_shape(which).iter().product();
    (numbers * dtype.bytes()) as u64
}

fn read(
    blueprint: &Blueprint,
    which: Whole,
    progress: &mut dyn FnMut(u64),
) -> Result<SlabBytes, EngineError> {
    let (source, bytes) = memory_for(blueprint, which)?;
    let access = access(blueprint);
    load::fill_checked(blueprint, &bytes, &source, access, |read| match which {
        Whole::Embedding => blueprint.checkpoint.check_head_copy(&source, read, access),
        Whole::FinalNorm | Whole::LmHead => Ok(()),
    })?;
    progress(source.stored_bytes());
    Ok(bytes)
}

fn memory_for(
    blueprint: &Blueprint,
    which: Whole,
) -> Result<(BlockSource, SlabBytes), EngineError> {
    let checkpoint = &blueprint.checkpoint;
    let source = checkpoint.weight(which, blueprint.dtype())?;
    let device = blueprint.place.device();
    let bytes = SlabBytes::for_source(&source, checkpoint.sources(), device)?;
    Ok((source, bytes))
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

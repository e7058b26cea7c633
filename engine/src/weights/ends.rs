//! The weights outside the blocks: embedding, final norm, head. The last two are needed whole at
//! every token, so they stay resident; of the embedding see [`crate::weights::embedding`]. The plan
//! counts them. Where layers come from disk, a head of its own is not waited for at the start: see
//! [`crate::weights::head`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loader::{Access, Arrangement, BlockSource, Checkpoint, DType, Encoding, Whole};
use offload::SlabBytes;

use crate::error::EngineError;
use crate::weights::embedding::{Embedding, RowReader};
use crate::weights::head::{Head, Reading};
use crate::weights::reader::WeightReader;
use crate::weights::weight::Weight;

#[derive(Debug)]
pub struct Ends {
    pub embedding: Embedding,
    pub norm: Weight,
    /// The embedding, where the model ties the two. `None` where no logits are wanted.
    head: Option<Head>,
    /// Raised when the disk is not to be waited for any longer.
    pub cancel: Arc<AtomicBool>,
}

/// What is read, and how it lies then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndsPlan {
    /// What plain numbers become; `None`: they stay as they are stored.
    pub dtype: Option<DType>,
    pub arrangement: Arrangement,
    pub access: Access,
    /// The embedding stays on disk.
    pub leaves_embedding: bool,
    /// The head is read as well.
    pub head: bool,
}

/// What of them is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// All but the head: nobody asks for logits.
    NoHead,
    /// Nor the embedding, of which rows are read as tokens ask for them.
    Norm,
}

impl Ends {
    /// Bytes of memory that all of them take, known before they are read.
    pub fn bytes(
        checkpoint: &Checkpoint,
        dtype: Option<DType>,
        arrangement: Arrangement,
        kept: Kept,
    ) -> Result<u64, loader::Error> {
        let is_kept = |which: &Whole| match which {
            Whole::Embedding => kept != Kept::Norm,
            Whole::FinalNorm => true,
            Whole::LmHead => kept == Kept::All,
        };
        let whole: u64 = Self::parts(checkpoint)
            .filter(is_kept)
            .map(|which| memory_bytes(checkpoint, which, dtype, arrangement))
            .sum::<Result<_, _>>()?;
        let rows = match kept {
            Kept::Norm => {
                RowReader::buffer_bytes(checkpoint.rows(Whole::Embedding, dtype)?.row_bytes())
            }
            Kept::All | Kept::NoHead => 0,
        };
        Ok(whole + rows as u64)
    }

    /// The bytes of these that can be left on disk.
    pub fn can_be_left(
        checkpoint: &Checkpoint,
        dtype: Option<DType>,
    ) -> Result<u64, loader::Error> {
        if checkpoint.config.tied_embeddings {
            return Ok(0);
        }
        let row_bytes = checkpoint.rows(Whole::Embedding, dtype)?.row_bytes();
        let all = memory_bytes(checkpoint, Whole::Embedding, dtype, Arrangement::Paged)?;
        Ok(all.saturating_sub(RowReader::buffer_bytes(row_bytes) as u64))
    }

    /// Bytes that are read of the checkpoint before the first pass.
    pub fn stored_bytes(checkpoint: &Checkpoint, plan: &EndsPlan) -> Result<u64, loader::Error> {
        let waited_for = |which: &Whole| match which {
            Whole::FinalNorm => true,
            Whole::Embedding => !plan.leaves_embedding,
            Whole::LmHead => !plan.leaves_embedding && plan.head,
        };
        Self::parts(checkpoint)
            .filter(waited_for)
            .map(|which| stored_bytes(checkpoint, which))
            .sum()
    }

    /// The first that a pass needs; [`Ends::load`] takes it.
    pub fn embedding(
        reader: &WeightReader<'_>,
        checkpoint: &Checkpoint,
        plan: &EndsPlan,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Embedding, EngineError> {
        Ok(match plan.leaves_embedding {
            true => {
                let rows = RowReader::open(checkpoint, plan.dtype)?;
                Embedding::OnDisk(Box::new(rows))
            }
            false => Embedding::Whole(read(reader, checkpoint, plan, Whole::Embedding, progress)?),
        })
    }

    pub fn load(
        reader: &WeightReader<'_>,
        checkpoint: &Checkpoint,
        plan: &EndsPlan,
        embedding: Embedding,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let tied = checkpoint.config.tied_embeddings;
        let norm = read(reader, checkpoint, plan, Whole::FinalNorm, progress)?;
        let head = match &embedding {
            _ if !plan.head => None,
            Embedding::Whole(table) if tied => Some(Head::there(table.clone())),
            Embedding::Whole(_) => {
                let head = read(reader, checkpoint, plan, Whole::LmHead, progress)?;
                Some(Head::there(head))
            }
            Embedding::OnDisk(_) => {
                let (source, slab) = memory_for(reader, checkpoint, plan, Whole::LmHead)?;
                let reading = Reading {
                    source,
                    storages: checkpoint.sources().to_vec(),
                    access: plan.access,
                };
                Some(Head::later(slab, reading))
            }
        };
        Ok(Self {
            embedding,
            norm,
            head,
            cancel: Arc::default(),
        })
    }

    /// What the head's numbers are stored in.
    pub fn head_encoding(checkpoint: &Checkpoint) -> Result<Encoding, loader::Error> {
        let which = match checkpoint.config.tied_embeddings {
            true => Whole::Embedding,
            false => Whole::LmHead,
        };
        Ok(checkpoint.rows(which, None)?.encoding())
    }

    /// Begins to read the head, if that was put off: see [`crate::weights::head`].
    pub fn begin_head(&self) -> Result<(), EngineError> {
        self.head.as_ref().map_or(Ok(()), Head::begin)
    }

    /// Waits until the head has been read, or the flag is raised.
    pub fn head(&self) -> Result<&Weight, EngineError> {
        let head = self.head.as_ref().ok_or(EngineError::NoLogits)?;
        head.bytes(&self.cancel)
    }

    /// Bytes of the checkpoint that loading did not wait for.
    pub fn bytes_beside(&self) -> u64 {
        self.head.as_ref().map_or(0, Head::bytes_beside)
    }

    pub fn head_bytes(&self) -> usize {
        self.head.as_ref().map_or(0, Head::len_bytes)
    }

    fn parts(checkpoint: &Checkpoint) -> impl Iterator<Item = Whole> {
        let tied = checkpoint.config.tied_embeddings;
        Whole::ALL
            .into_iter()
            .filter(move |&which| !(tied && which == Whole::LmHead))
    }
}

/// Bytes of the memory that one of them is read into.
fn memory_bytes(
    checkpoint: &Checkpoint,
    which: Whole,
    dtype: Option<DType>,
    arrangement: Arrangement,
) -> Result<u64, loader::Error> {
    let source = checkpoint.weight(which, dtype, arrangement)?;
    Ok(source.slab_bytes() as u64)
}

fn stored_bytes(checkpoint: &Checkpoint, which: Whole) -> Result<u64, loader::Error> {
    let source = checkpoint.weight(which, None, Arrangement::Packed)?;
    Ok(source.layout().weight_bytes() as u64)
}

fn read(
    reader: &WeightReader<'_>,
    checkpoint: &Checkpoint,
    plan: &EndsPlan,
    which: Whole,
    progress: &mut dyn FnMut(u64),
) -> Result<Weight, EngineError> {
    let (source, slab) = memory_for(reader, checkpoint, plan, which)?;
    // A copy of it that is to be the head is looked at now, while the bytes are there.
    let check = |bytes: &[u8]| match which {
        Whole::Embedding => checkpoint.check_head_copy(&source, bytes, plan.access),
        Whole::FinalNorm | Whole::LmHead => Ok(()),
    };
    reader.fill_checked(&slab, &source, plan.access, check)?;
    progress(source.stored_bytes());
    Ok(Weight::of(&source, &slab))
}

fn memory_for(
    reader: &WeightReader<'_>,
    checkpoint: &Checkpoint,
    plan: &EndsPlan,
    which: Whole,
) -> Result<(BlockSource, SlabBytes), EngineError> {
    let source = checkpoint.weight(which, plan.dtype, plan.arrangement)?;
    let device = reader.place.device();
    // The host does not ask what they are.
    let dtype = plan.dtype.unwrap_or(DType::Bf16);
    let slab = SlabBytes::new(source.slab_bytes(), dtype, device)?;
    Ok((source, slab))
}

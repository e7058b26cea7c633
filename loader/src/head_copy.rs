//! `lm_head.weight` in the file of a model that ties its head to the embedding. Many checkpoints
//! have such a copy, and an equal one is nothing to speak of. If it is another matrix, one of the
//! two is the head, and implementations differ in which: transformers 4 took the embedding, 5 takes
//! the copy. Then the checkpoint is refused.
//!
//! To be sure takes a read of the whole copy. It is read once, while loading, against the embedding
//! that has just come; a few stretches of both are compared when the checkpoint is opened, which
//! finds nearly every other head before anything was planned or loaded.

use crate::naming::Naming;
use crate::{
    Access, AlignedBuf, BlockSource, CHUNK_BYTES, Checkpoint, DIRECT_ALIGN_BYTES, Encoding, Error,
    READ_THREADS, TensorEntry, Whole, convert, crew,
};

/// Bytes of a stretch that is looked at when the checkpoint is opened.
const LOOK_BYTES: u64 = 64 << 10;

/// Bytes of the copy that each thread reads and compares at once. Huge pages make it as fast as the
/// read of the embedding was: 614 MB in 0.19 s, and in 0.51 s by steps of 512 KiB, in small pages.
const STEP_BYTES: usize = CHUNK_BYTES;

impl Checkpoint {
    /// Holds the embedding, `bytes` that were just read from `source`, against the copy of it that
    /// is to be the head, if there is one.
    pub fn check_head_copy(
        &self,
        source: &BlockSource,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), Error> {
        let (Some(copy), [piece]) = (self.head_copy(), source.pieces()) else {
            return Ok(());
        };
        // It is stored as the embedding is: `look_at_head_copy` has seen to that.
        let (stored, wanted) = (piece.stored, piece.wanted);
        let storage = &self.sources()[copy.source];
        let same = piece.keeps_bytes();
        let bytes = &bytes[piece.slab_range()];
        // Bytes can be cut anywhere, numbers that are converted cannot: direct reads begin at a
        // page.
        let direct = same && access == Access::Direct;
        let end = copy.offset + copy.bytes;
        let first = if direct {
            copy.offset - copy.offset % DIRECT_ALIGN_BYTES as u64
        } else {
            copy.offset
        };
        let steps = (first..end).step_by(STEP_BYTES);
        let buffers = || (AlignedBuf::new(STEP_BYTES), Vec::new());
        crew::deal(READ_THREADS, steps, buffers, |(read, converted), from| {
            let need = (end - from).min(STEP_BYTES as u64) as usize;
            let read = read.as_mut_slice();
            if direct {
                storage.read_direct(from, read, need)?;
            } else {
                storage.read_at(from, &mut read[..need])?;
            }
            let skip = copy.offset.saturating_sub(from);
            let came = &read[skip as usize..need];
            let passed = (from + skip - copy.offset) as usize;
            let (found, at) = if same {
                (came, passed)
            } else {
                converted.resize(piece.slab_len(came.len()), 0);
                convert(stored, came, wanted, converted);
                (converted.as_slice(), piece.slab_len(passed))
            };
            match first_difference(found, &bytes[at..at + found.len()]) {
                None => Ok(()),
                Some(differs) => Err(self.row_differs(wanted, at + differs)),
            }
        })
    }

    /// Shape, dtype, and some of the bytes.
    pub(crate) fn look_at_head_copy(&self) -> Result<(), Error> {
        let (Some(embedding), Some(copy)) = (
            self.tensor(self.stored_name(Whole::Embedding)),
            self.head_copy(),
        ) else {
            return Ok(());
        };
        if copy.shape != embedding.shape {
            let difference = format!("shape {:?}, not {:?}", copy.shape, embedding.shape);
            return Err(self.differs(difference));
        }
        if copy.stored != embedding.stored {
            let difference = format!("stored as {}, not as {}", copy.stored, embedding.stored);
            return Err(self.differs(difference));
        }
        let last = copy.bytes.saturating_sub(LOOK_BYTES);
        let stretch = |entry: &TensorEntry, from: u64| {
            let len = LOOK_BYTES.min(entry.bytes - from);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            let storage = &self.sources()[entry.source];
            storage.read_at(entry.offset + from, &mut bytes)?;
            Ok(bytes)
        };
        for from in [0, last / 2, last] {
            let (ours, theirs) = (stretch(embedding, from)?, stretch(copy, from)?);
            if let Some(at) = first_difference(&ours, &theirs) {
                let at = usize::try_from(from)
                    .unwrap_or(usize::MAX)
                    .saturating_add(at);
                let encoding = copy.encoding().unwrap_or(Encoding::Bf16);
                return Err(self.row_differs(encoding, at));
            }
        }
        Ok(())
    }

    /// The copy, where the model has no use for it.
    fn head_copy(&self) -> Option<&TensorEntry> {
        let head = self.stored_name(Whole::LmHead);
        self.is_head_copy(head).then(|| self.tensor(head)).flatten()
    }

    /// A GGUF file either has a head or has none: only others have a copy.
    pub(crate) fn is_head_copy(&self, name: &str) -> bool {
        self.naming() != Naming::Gguf
            && self.config.tied_embeddings
            && name == self.stored_name(Whole::LmHead)
    }

    const fn stored_name(&self, which: Whole) -> &'static str {
        self.naming().whole(which)
    }

    /// `at`: where bytes of the matrix differ, which is written down as `encoding`.
    fn row_differs(&self, encoding: Encoding, at: usize) -> Error {
        let row_bytes = encoding.bytes(1, self.config.hidden_size).unwrap_or(1);
        let row = at / row_bytes;
        self.differs(format!("row {row} differs"))
    }

    fn differs(&self, difference: String) -> Error {
        let file = |name| {
            let entry = self.tensor(name);
            entry.map_or_else(String::new, |entry| {
                self.sources()[entry.source].name().into()
            })
        };
        let head = self.stored_name(Whole::LmHead);
        Error::HeadDiffers {
            file: self.display(crate::checkpoint::CONFIG),
            head,
            head_file: file(head),
            embedding: self.stored_name(Whole::Embedding),
            difference,
        }
    }
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    // A comparison of whole slices is much faster, and nearly always the last word.
    if ours == theirs {
        return None;
    }
    ours.iter().zip(theirs).position(|(a, b)| a != b)
}

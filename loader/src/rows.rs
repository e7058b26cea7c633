//! Rows of one matrix, read where they lie: for a table of which a pass needs a few rows only. Knows
//! ranges, and not what the rows are for.

use std::sync::Arc;

use crate::source::Piece;
use crate::{Checkpoint, DType, Error, READ_THREADS, Storage, Whole, convert, crew};

/// A matrix of a checkpoint, whose rows can be read one by one.
#[derive(Debug, Clone)]
pub struct Rows {
    storage: Arc<dyn Storage>,
    /// All of them.
    piece: Piece,
    columns: usize,
    dtype: DType,
}

impl Checkpoint {
    /// The rows of the embedding, or of the head, as `dtype`.
    pub fn rows(&self, which: Whole, dtype: DType) -> Result<Rows, Error> {
        let source = self.weight(which, dtype)?;
        let [piece] = source.pieces() else {
            unreachable!("a weight outside the blocks is one tensor");
        };
        Ok(Rows {
            storage: Arc::clone(&self.sources()[piece.source]),
            piece: piece.clone(),
            columns: self.weight_shape(which).last().copied().unwrap_or(0),
            dtype,
        })
    }
}

impl Rows {
    pub fn row_bytes(&self) -> usize {
        self.columns * self.dtype.bytes()
    }

    /// Brings the rows `wanted`, in their order and through the page cache: some are wanted again
    /// and again.
    ///
    /// # Panics
    /// If `to` has not as much room as they take, or there is no such row.
    pub fn read(&self, wanted: &[u32], to: &mut [u8]) -> Result<(), Error> {
        let row_bytes = self.row_bytes();
        assert!(
            to.len() == wanted.len() * row_bytes,
            "{} rows into {} bytes",
            wanted.len(),
            to.len()
        );
        // A token's: nothing to share out, and unless it is converted nothing allocated.
        if let &[row] = wanted {
            return self.read_one(row, to, &mut Vec::new());
        }
        // In the order of the file: some disks have an arm to move.
        let mut reads: Vec<_> = wanted.iter().zip(to.chunks_exact_mut(row_bytes)).collect();
        reads.sort_unstable_by_key(|(row, _)| **row);
        let threads = READ_THREADS.min(reads.len());
        crew::deal(
            threads,
            reads.into_iter(),
            Vec::new,
            |stored, (&row, part)| self.read_one(row, part, stored),
        )
    }

    fn read_one(&self, row: u32, to: &mut [u8], stored: &mut Vec<u8>) -> Result<(), Error> {
        let bytes = self.columns * self.piece.stored.bytes();
        let at = row as usize * bytes;
        assert!(at < self.piece.len, "row {row}: there is no such");
        let offset = self.piece.offset + at as u64;
        if self.piece.stored == self.dtype {
            return self.storage.read_at(offset, to);
        }
        stored.resize(bytes, 0);
        self.storage.read_at(offset, stored)?;
        convert(self.piece.stored, stored, self.dtype, to);
        Ok(())
    }
}

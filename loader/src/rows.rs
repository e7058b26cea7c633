//! Rows of one matrix, read where they lie: for a table of which a pass needs a few rows only.
//! Knows ranges, and not what the rows are for.

use std::sync::Arc;

use crate::source::Piece;
use crate::{
    Arrangement, BlockSource, Checkpoint, DType, Encoding, Error, READ_THREADS, Storage, Whole,
    convert, crew,
};

/// A matrix of a checkpoint, whose rows can be read one by one.
#[derive(Debug, Clone)]
pub struct Rows {
    storage: Arc<dyn Storage>,
    /// All of them.
    piece: Piece,
    /// Bytes of a row, as it is stored and as it is wanted.
    stored_bytes: usize,
    row_bytes: usize,
}

impl Checkpoint {
    /// The rows of the embedding, or of the head; plain numbers as `dtype`, where one is given.
    pub fn rows(&self, which: Whole, dtype: Option<DType>) -> Result<Rows, Error> {
        let source = self.weight(which, dtype, Arrangement::Packed)?;
        Ok(Rows::of(self.sources(), &source))
    }
}

impl Rows {
    /// Those of a slab that holds one matrix, of one tensor.
    pub(crate) fn of(sources: &[Arc<dyn Storage>], slab: &BlockSource) -> Self {
        let ([piece], Some((_, part))) = (slab.pieces(), slab.layout().parts().next()) else {
            unreachable!("a weight outside the blocks is one tensor");
        };
        let row_bytes = |encoding: Encoding| encoding.bytes(1, part.cols).unwrap_or(0);
        Self {
            storage: Arc::clone(&sources[piece.source]),
            piece: piece.clone(),
            stored_bytes: row_bytes(piece.stored),
            row_bytes: row_bytes(piece.wanted),
        }
    }

    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The encoding of the numbers as they come.
    pub fn encoding(&self) -> Encoding {
        self.piece.wanted
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
        // They are read in the order of the file: some disks have an arm to move.
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
        let bytes = self.stored_bytes;
        let at = row as usize * bytes;
        assert!(at < self.piece.len, "row {row}: there is no such");
        let offset = self.piece.offset + at as u64;
        if self.piece.keeps_bytes() {
            return self.storage.read_at(offset, to);
        }
        stored.resize(bytes, 0);
        self.storage.read_at(offset, stored)?;
        convert(self.piece.stored, stored, self.piece.wanted, to);
        Ok(())
    }
}

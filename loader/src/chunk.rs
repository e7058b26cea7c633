//! The reads that fill one slab. Neighbouring pieces of a file join into runs, runs are cut into
//! chunks of a bounded size, and each chunk knows where its bytes go. Planned once per block;
//! knows ranges and dtypes, no tensors.
//!
//! A chunk is read into a bounce buffer and scattered from there, because direct I/O wants page
//! alignment and the safetensors format does not give it. The detour is a copy within
//! memory, which is little beside the disk.

use std::sync::Arc;

use crate::convert::convert;
use crate::source::Piece;
use crate::{Access, AlignedBuf, DIRECT_ALIGN_BYTES, DType, Error, Storage};

/// Bytes of one read: a huge page, which is one segment of memory to a disk.
pub const CHUNK_BYTES: usize = 2 << 20;

/// A part of a chunk and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scatter {
    /// In the buffer.
    pub from: usize,
    /// As stored.
    pub len: usize,
    /// In the slab.
    pub to: usize,
    pub stored: DType,
}

/// One read and the places that its bytes go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index into [`crate::Checkpoint::sources`].
    pub source: usize,
    /// A multiple of [`DIRECT_ALIGN_BYTES`].
    pub offset: u64,
    /// Bytes of buffer, a multiple of [`DIRECT_ALIGN_BYTES`], at most [`CHUNK_BYTES`]; may reach
    /// past the end of the file.
    pub len: usize,
    /// Bytes that must arrive: up to the end of the last entry.
    pub need: usize,
    /// Of the slab.
    pub dtype: DType,
    pub entries: Vec<Scatter>,
}

impl Chunk {
    /// Brings the bytes into `buf`, which grows if it is too small.
    pub fn read(
        &self,
        sources: &[Arc<dyn Storage>],
        buf: &mut AlignedBuf,
        access: Access,
    ) -> Result<(), Error> {
        let source = &sources[self.source];
        buf.reserve(self.len);
        let buf = &mut buf.as_mut_slice()[..self.len];
        match access {
            Access::Direct => source.read_direct(self.offset, buf, self.need),
            Access::Buffered => {
                // No page to round to: the bytes before the first entry need not be read.
                let first = self.entries.first().map_or(0, |entry| entry.from);
                source.read_at(self.offset + first as u64, &mut buf[first..self.need])
            }
        }
    }

    /// Brings what [`Chunk::read`] left in `buf` to its places in the slab.
    pub fn scatter(&self, buf: &AlignedBuf, slab: &mut [u8]) {
        let buf = buf.as_slice();
        for entry in &self.entries {
            let place = &mut slab[entry.to..entry.to + self.slab_len(entry)];
            let stored = &buf[entry.from..entry.from + entry.len];
            convert(entry.stored, stored, self.dtype, place);
        }
    }

    /// Bytes of the slab that an entry fills.
    pub fn slab_len(&self, entry: &Scatter) -> usize {
        entry.len / entry.stored.bytes() * self.dtype.bytes()
    }

    /// Bytes of the checkpoint that reach the slab.
    pub fn stored_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }
}

/// A chunk together with the parts of the slab that are its own. Many threads can fill one slab
/// this way, each its part, without a lock.
#[derive(Debug)]
pub struct Fill<'a> {
    chunk: &'a Chunk,
    /// One per entry of the chunk.
    parts: Vec<&'a mut [u8]>,
}

impl Fill<'_> {
    pub fn chunk(&self) -> &Chunk {
        self.chunk
    }

    /// Reads the chunk into its parts: straight where nothing has to be aligned or converted,
    /// through `buf` otherwise.
    pub fn run(
        &mut self,
        sources: &[Arc<dyn Storage>],
        buf: &mut AlignedBuf,
        access: Access,
    ) -> Result<(), Error> {
        let chunk = self.chunk;
        let straight = access == Access::Buffered
            && chunk
                .entries
                .iter()
                .all(|entry| entry.stored == chunk.dtype);
        if straight {
            let source = &sources[chunk.source];
            for (entry, part) in chunk.entries.iter().zip(&mut self.parts) {
                source.read_at(chunk.offset + entry.from as u64, part)?;
            }
            return Ok(());
        }
        chunk.read(sources, buf, access)?;
        let buf = buf.as_slice();
        for (entry, part) in chunk.entries.iter().zip(&mut self.parts) {
            let stored = &buf[entry.from..entry.from + entry.len];
            convert(entry.stored, stored, chunk.dtype, part);
        }
        Ok(())
    }
}

/// Divides the slab among the chunks.
///
/// # Panics
/// If two entries claim the same byte of the slab or one lies outside it: a planning bug.
pub fn assign<'a>(chunks: &'a [Chunk], slab: &'a mut [u8]) -> Vec<Fill<'a>> {
    let mut claims: Vec<(usize, usize, usize)> = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        for entry in &chunk.entries {
            claims.push((entry.to, chunk.slab_len(entry), index));
        }
    }
    claims.sort_unstable();
    let mut parts: Vec<Vec<(usize, &'a mut [u8])>> = chunks.iter().map(|_| Vec::new()).collect();
    let (mut rest, mut rest_start) = (slab, 0);
    for (to, len, index) in claims {
        assert!(
            to >= rest_start && to - rest_start + len <= rest.len(),
            "chunk {index} claims {len} bytes at {to} of the slab, not its own"
        );
        let (part, tail) = rest.split_at_mut(to - rest_start + len);
        parts[index].push((to, &mut part[to - rest_start..]));
        (rest, rest_start) = (tail, to + len);
    }
    chunks
        .iter()
        .zip(parts)
        .map(|(chunk, mut parts)| {
            // Claims came in slab order, entries stand in file order.
            let parts = chunk
                .entries
                .iter()
                .map(|entry| {
                    let found = parts
                        .iter_mut()
                        .find(|(to, part)| *to == entry.to && part.len() == chunk.slab_len(entry));
                    found.map_or_else(Default::default, |(_, part)| std::mem::take(part))
                })
                .collect();
            Fill { chunk, parts }
        })
        .collect()
}

/// Cuts pieces into chunks. Every stored byte of every piece lands in exactly one entry.
pub(crate) fn plan(pieces: &[Piece], dtype: DType) -> Vec<Chunk> {
    let mut sorted: Vec<&Piece> = pieces.iter().filter(|piece| piece.len > 0).collect();
    sorted.sort_by_key(|piece| (piece.source, piece.offset));
    let mut chunks = Vec::new();
    let mut open: Option<Chunk> = None;
    for piece in sorted {
        let mut done = 0;
        while done < piece.len {
            let at = piece.offset + done as u64;
            let mut chunk = match open.take() {
                Some(chunk) if joins(&chunk, piece.source, at) => chunk,
                other => {
                    chunks.extend(other);
                    new_chunk(piece.source, at, dtype)
                }
            };
            let from = (at - chunk.offset) as usize;
            let room = CHUNK_BYTES - from;
            let left = piece.len - done;
            // A cut falls between elements, so that each can be converted by itself.
            let len = if left <= room {
                left
            } else {
                room / piece.stored.bytes() * piece.stored.bytes()
            };
            if len == 0 {
                chunks.push(chunk);
                continue;
            }
            chunk.entries.push(Scatter {
                from,
                len,
                to: piece.slab_offset + done / piece.stored.bytes() * dtype.bytes(),
                stored: piece.stored,
            });
            chunk.need = from + len;
            chunk.len = chunk.need.next_multiple_of(DIRECT_ALIGN_BYTES);
            done += len;
            open = Some(chunk);
        }
    }
    chunks.extend(open);
    chunks
}

fn new_chunk(source: usize, at: u64, dtype: DType) -> Chunk {
    Chunk {
        source,
        offset: at / DIRECT_ALIGN_BYTES as u64 * DIRECT_ALIGN_BYTES as u64,
        len: 0,
        need: 0,
        dtype,
        entries: Vec::new(),
    }
}

/// Whether bytes at `at` belong into this chunk: the gap to them is less than a page, which a
/// direct read would bring anyway, and there is room for at least one element.
fn joins(chunk: &Chunk, source: usize, at: u64) -> bool {
    let end = chunk.offset + chunk.need as u64;
    chunk.source == source
        && at >= end
        && at - end < DIRECT_ALIGN_BYTES as u64
        && at - chunk.offset + DType::F32.bytes() as u64 <= CHUNK_BYTES as u64
}

#[cfg(test)]
mod tests;

//! The reads that fill one slab. Planned once per block; knows ranges and formats, no tensors.
//!
//! Direct I/O wants offset and address aligned, and the formats of weights give neither. A tensor
//! that has pages of the slab to itself comes straight into them: whole pages of the file, of which
//! the first and the last hold some of its neighbours' bytes, too. All others take a detour: those
//! that are neighbours in a file join into runs, runs are cut into chunks of a bounded size, and
//! each chunk is read into a bounce buffer and scattered from there.

use std::ops::Range;
use std::sync::Arc;

use encoding::Encoding;

use crate::convert::convert;
use crate::source::Piece;
use crate::{Access, AlignedBuf, DIRECT_ALIGN_BYTES, DType, Error, Storage};

/// Bytes of one read: a huge page, which is one segment of memory to a disk.
pub const CHUNK_BYTES: usize = 2 << 20;

/// What a straight chunk may be longer.
const ODD_BYTES: usize = 64 << 10;

/// A part of a chunk and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scatter {
    /// Where it is in the buffer.
    pub from: usize,
    /// As stored.
    pub len: usize,
    /// Where it is in the slab, and how many bytes it is there.
    pub to: usize,
    pub slab_len: usize,
    pub stored: Encoding,
    pub wanted: Encoding,
}

/// One read and the places that its bytes go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index into [`crate::Checkpoint::sources`].
    pub source: usize,
    /// A multiple of [`DIRECT_ALIGN_BYTES`].
    pub offset: u64,
    /// Bytes that are read, a multiple like `offset`, at most [`CHUNK_BYTES`] and, if it is
    /// straight, some odd pages more; may reach past the end of the file.
    pub len: usize,
    /// Bytes that must arrive: up to the end of the last entry.
    pub need: usize,
    pub entries: Vec<Scatter>,
    /// A single entry, and all pages of the slab that it lies in are this chunk's: a direct read
    /// brings it to its place without a buffer.
    pub straight: bool,
}

impl Chunk {
    /// Brings the bytes to their places. `part` lends a range of the slab that is this chunk's own:
    /// straight where nothing has to be aligned or converted, through `buf` otherwise, which grows
    /// if it is too small.
    pub fn bring<'a>(
        &self,
        sources: &[Arc<dyn Storage>],
        buf: &mut AlignedBuf,
        access: Access,
        mut part: impl FnMut(Range<usize>) -> &'a mut [u8],
    ) -> Result<(), Error> {
        let source = &sources[self.source];
        if self.straight {
            let pages = part(self.claim(&self.entries[0]));
            let aligned = pages.as_ptr().addr().is_multiple_of(DIRECT_ALIGN_BYTES);
            if access == Access::Direct && aligned {
                return source.read_direct(self.offset, pages, self.need);
            }
            let Scatter { from, len, .. } = self.entries[0];
            return source.read_at(self.offset + from as u64, &mut pages[from..from + len]);
        }
        let keeps_bytes = |entry: &Scatter| entry.stored == entry.wanted;
        if access == Access::Buffered && self.entries.iter().all(keeps_bytes) {
            return self.entries.iter().try_for_each(|entry| {
                let at = self.offset + entry.from as u64;
                source.read_at(at, part(self.claim(entry)))
            });
        }
        self.read(source.as_ref(), buf, access)?;
        for entry in &self.entries {
            let stored = &buf.as_slice()[entry.from..entry.from + entry.len];
            convert(entry.stored, stored, entry.wanted, part(self.claim(entry)));
        }
        Ok(())
    }

    /// Brings the bytes into `buf`.
    fn read(
        &self,
        source: &dyn Storage,
        buf: &mut AlignedBuf,
        access: Access,
    ) -> Result<(), Error> {
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

    /// The bytes of the slab that an entry needs for itself.
    fn claim(&self, entry: &Scatter) -> Range<usize> {
        match self.straight {
            true => entry.to - entry.from..entry.to - entry.from + self.len,
            false => entry.to..entry.to + entry.slab_len,
        }
    }

    /// Bytes of buffer that it takes.
    pub fn buffer_bytes(&self) -> usize {
        if self.straight { 0 } else { self.len }
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

    /// Reads the chunk into its parts.
    pub fn run(
        &mut self,
        sources: &[Arc<dyn Storage>],
        buf: &mut AlignedBuf,
        access: Access,
    ) -> Result<(), Error> {
        // Each is asked for once, in order.
        let mut parts = self.parts.iter_mut();
        let part = |_| parts.next().map(|part| &mut **part).unwrap_or_default();
        self.chunk.bring(sources, buf, access, part)
    }
}

/// A range of the slab, and the chunk that fills it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    to: usize,
    len: usize,
    index: usize,
}

/// All of them, in the order of the slab.
///
/// # Panics
/// If two claim the same byte or one lies outside: a planning bug.
fn claims(chunks: &[Chunk], slab_bytes: usize) -> Vec<Claim> {
    let of = |(index, chunk): (usize, &Chunk)| {
        let claim = |entry: &Scatter| {
            let range = chunk.claim(entry);
            Claim {
                to: range.start,
                len: range.len(),
                index,
            }
        };
        chunk.entries.iter().map(claim).collect::<Vec<_>>()
    };
    let mut claims: Vec<Claim> = chunks.iter().enumerate().flat_map(of).collect();
    claims.sort_unstable();
    let mut end = 0;
    for Claim { to, len, index } in &claims {
        assert!(
            *to >= end && to + len <= slab_bytes,
            "chunk {index} claims {len} bytes at {to} of the slab, not its own"
        );
        end = to + len;
    }
    claims
}

/// # Panics
/// As [`claims`].
pub(crate) fn check(chunks: &[Chunk], slab_bytes: usize) {
    claims(chunks, slab_bytes);
}

/// Divides the slab among the chunks.
///
/// # Panics
/// If two entries claim the same byte of the slab or one lies outside it: a planning bug.
pub fn assign<'a>(chunks: &'a [Chunk], slab: &'a mut [u8]) -> Vec<Fill<'a>> {
    let claims = claims(chunks, slab.len());
    let mut parts: Vec<Vec<(usize, &'a mut [u8])>> = chunks.iter().map(|_| Vec::new()).collect();
    let (mut rest, mut rest_start) = (slab, 0);
    for Claim { to, len, index } in claims {
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
                    let claim = chunk.claim(entry);
                    let found = parts
                        .iter_mut()
                        .find(|(to, part)| *to == claim.start && part.len() == claim.len());
                    found.map_or_else(Default::default, |(_, part)| std::mem::take(part))
                })
                .collect();
            Fill { chunk, parts }
        })
        .collect()
}

/// Cuts pieces into chunks. Every stored byte of every piece lands in exactly one entry.
pub(crate) fn cut(pieces: &[Piece]) -> Vec<Chunk> {
    let (paged, others): (Vec<&Piece>, Vec<&Piece>) = pieces.iter().partition(|it| it.is_paged);
    let mut chunks = detours(others);
    chunks.extend(paged.into_iter().flat_map(straight_chunks));
    chunks.sort_by_key(|chunk| (chunk.source, chunk.offset));
    chunks
}

/// Those that join with their neighbours and pass a buffer.
fn detours(mut pieces: Vec<&Piece>) -> Vec<Chunk> {
    pieces.retain(|piece| piece.len > 0);
    pieces.sort_by_key(|piece| (piece.source, piece.offset));
    let mut chunks = Vec::new();
    let mut open: Option<Chunk> = None;
    for piece in pieces {
        // What is converted is cut between numbers.
        let unit = match piece.keeps_bytes() {
            true => 1,
            false => piece.stored.block().bytes,
        };
        let mut done = 0;
        while done < piece.len {
            let at = piece.offset + done as u64;
            let mut chunk = match open.take() {
                Some(chunk) if joins(&chunk, piece.source, at) => chunk,
                other => {
                    chunks.extend(other);
                    new_chunk(piece.source, at)
                }
            };
            let from = (at - chunk.offset) as usize;
            let room = CHUNK_BYTES - from;
            let left = piece.len - done;
            let len = match left <= room {
                true => left,
                false => room / unit * unit,
            };
            if len == 0 {
                chunks.push(chunk);
                continue;
            }
            chunk.entries.push(Scatter {
                from,
                len,
                to: piece.slab_offset + piece.slab_len(done),
                slab_len: piece.slab_len(len),
                stored: piece.stored,
                wanted: piece.wanted,
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

fn new_chunk(source: usize, at: u64) -> Chunk {
    Chunk {
        source,
        offset: page_of(at),
        len: 0,
        need: 0,
        entries: Vec::new(),
        straight: false,
    }
}

/// The start of the page that is there.
fn page_of(offset: u64) -> u64 {
    offset - offset % DIRECT_ALIGN_BYTES as u64
}

/// Whether bytes at `at` belong into this chunk: the gap to them is less than a page, which a
/// direct read would bring anyway, and there is room for at least one number.
fn joins(chunk: &Chunk, source: usize, at: u64) -> bool {
    let end = chunk.offset + chunk.need as u64;
    chunk.source == source
        && at >= end
        && at - end < DIRECT_ALIGN_BYTES as u64
        && at - chunk.offset + DType::F32.bytes() as u64 <= CHUNK_BYTES as u64
}

/// Whole pages of the file, from the one that the piece begins in to the one that it ends in, in
/// equal chunks. The odd pages at the ends of a tensor are no read of their own.
fn straight_chunks(piece: &Piece) -> impl Iterator<Item = Chunk> + '_ {
    let page = DIRECT_ALIGN_BYTES as u64;
    let end = piece.offset + piece.len as u64;
    let (start, last) = (page_of(piece.offset), end.next_multiple_of(page));
    let count = (last - start).saturating_sub(ODD_BYTES as u64);
    let count = count.div_ceil(CHUNK_BYTES as u64).max(1);
    let step = (last - start).div_ceil(count).next_multiple_of(page);
    (start..end).step_by(step as usize).map(move |offset| {
        let len = (last - offset).min(step);
        let (first, to) = (offset.max(piece.offset), (offset + len).min(end));
        let from = (first - offset) as usize;
        let len_of_entry = (to - first) as usize;
        Chunk {
            source: piece.source,
            offset,
            len: len as usize,
            need: from + len_of_entry,
            entries: vec![Scatter {
                from,
                len: len_of_entry,
                to: piece.slab_offset + (first - piece.offset) as usize,
                slab_len: len_of_entry,
                stored: piece.stored,
                wanted: piece.wanted,
            }],
            straight: true,
        }
    })
}

#[cfg(test)]
mod tests;

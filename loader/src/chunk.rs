//! The reads that fill one slab. Neighbouring pieces of a file join into runs, runs are cut into
//! chunks of a bounded size, and each chunk knows where its bytes go. Planned once per block;
//! knows ranges and dtypes, no tensors.
//!
//! A chunk is read into a bounce buffer and scattered from there, because direct I/O wants offset and
//! address aligned, and neither the safetensors format nor the order of a slab gives it that. Where a
//! slab may begin at an address that suits the file, most of its bytes need no detour: see `route`.

use std::ops::Range;
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
    /// A multiple of [`DIRECT_ALIGN_BYTES`], or for a straight one of [`Storage::direct_align`].
    pub offset: u64,
    /// Bytes of buffer, a multiple like `offset`, at most [`CHUNK_BYTES`]; may reach past the end of
    /// the file, unless it is straight.
    pub len: usize,
    /// Bytes that must arrive: up to the end of the last entry.
    pub need: usize,
    /// Of the slab.
    pub dtype: DType,
    pub entries: Vec<Scatter>,
    /// One entry, and nothing else: even a direct read brings it to its place in the slab without a
    /// buffer.
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
        let mut place = |entry: &Scatter| part(entry.to..entry.to + self.slab_len(entry));
        match (access, self.entries.as_slice()) {
            (Access::Direct, [entry]) if self.straight => {
                source.read_direct(self.offset, place(entry), self.need)
            }
            (Access::Buffered, entries) if self.keeps_dtype() => {
                entries.iter().try_for_each(|entry| {
                    source.read_at(self.offset + entry.from as u64, place(entry))
                })
            }
            (_, entries) => {
                self.read(source.as_ref(), buf, access)?;
                let buf = buf.as_slice();
                for entry in entries {
                    let stored = &buf[entry.from..entry.from + entry.len];
                    convert(entry.stored, stored, self.dtype, place(entry));
                }
                Ok(())
            }
        }
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

    fn keeps_dtype(&self) -> bool {
        self.entries.iter().all(|entry| entry.stored == self.dtype)
    }

    /// Bytes of buffer that it takes.
    pub fn buffer_bytes(&self) -> usize {
        if self.straight { 0 } else { self.len }
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
        let claim = |entry: &Scatter| Claim {
            to: entry.to,
            len: chunk.slab_len(entry),
            index,
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
        straight: false,
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

/// How a block's bytes come into a slab that may begin somewhat later in its memory than that does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// How much later, for most of the bytes to lie in memory as in their file, but for whole
    /// multiples of what direct reads want. Less than [`DIRECT_ALIGN_BYTES`], from which on the
    /// slab's memory begins.
    pub shift: usize,
    /// In the order of the files.
    pub chunks: Vec<Chunk>,
}

/// A piece that is shorter goes through a buffer with its neighbours: one read less.
const STRAIGHT_LEAST: usize = 64 << 10;

/// Cuts pieces into chunks, as many of them straight as can be.
///
/// # Panics
/// If two pieces claim the same byte of the slab or one lies outside it: a bug of the caller's.
pub(crate) fn route(
    pieces: &[Piece],
    dtype: DType,
    slab_bytes: usize,
    sources: &[Arc<dyn Storage>],
) -> Route {
    let shift = best_shift(pieces, dtype, |piece| align(piece, sources));
    let chunks = cut(pieces, dtype, shift, sources);
    claims(&chunks, slab_bytes);
    Route { shift, chunks }
}

/// The chunks for a slab that begins `shift` bytes, but for whole multiples of
/// [`DIRECT_ALIGN_BYTES`], after an address that is one.
pub(crate) fn cut(
    pieces: &[Piece],
    dtype: DType,
    shift: usize,
    sources: &[Arc<dyn Storage>],
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut detours = Vec::new();
    for piece in pieces {
        match straight(piece, dtype, shift, align(piece, sources)) {
            Some(body) => {
                chunks.extend(straight_chunks(piece, &body, dtype));
                detours.push(piece.part(0..body.start));
                detours.push(piece.part(body.end..piece.len));
            }
            None => detours.push(piece.clone()),
        }
    }
    chunks.extend(plan(&detours, dtype));
    chunks.sort_by_key(|chunk| (chunk.source, chunk.offset));
    chunks
}

/// What direct reads of its file want.
fn align(piece: &Piece, sources: &[Arc<dyn Storage>]) -> usize {
    sources[piece.source].direct_align()
}

/// The one that serves most of the bytes.
fn best_shift(pieces: &[Piece], dtype: DType, align: impl Fn(&Piece) -> usize) -> usize {
    let mut served: Vec<(usize, usize)> = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.stored == dtype) {
        let shift = misfit(piece, 0, align(piece));
        match served.iter_mut().find(|(of, _)| *of == shift) {
            Some((_, bytes)) => *bytes += piece.len,
            None => served.push((shift, piece.len)),
        }
    }
    // Numbers do not begin in the middle of one.
    let whole = |(shift, _): &&(usize, usize)| shift % dtype.bytes() == 0;
    let best = served.iter().filter(whole).max_by_key(|(_, bytes)| *bytes);
    best.map_or(0, |(shift, _)| *shift)
}

/// How much too early its place is for its file, in a slab that is shifted so far.
fn misfit(piece: &Piece, shift: usize, align: usize) -> usize {
    let place = ((piece.slab_offset + shift) % align) as u64;
    ((piece.offset + align as u64 - place) % align as u64) as usize
}

/// The part of the piece that direct reads bring to its place, if there is enough of it.
fn straight(piece: &Piece, dtype: DType, shift: usize, align: usize) -> Option<Range<usize>> {
    if piece.stored != dtype || misfit(piece, shift, align) != 0 {
        return None;
    }
    let end = piece.offset + piece.len as u64;
    let (from, to) = (
        piece.offset.next_multiple_of(align as u64),
        end / align as u64 * align as u64,
    );
    let body = (from - piece.offset) as usize..to.checked_sub(piece.offset)? as usize;
    (body.len() >= STRAIGHT_LEAST).then_some(body)
}

fn straight_chunks<'a>(
    piece: &'a Piece,
    body: &Range<usize>,
    dtype: DType,
) -> impl Iterator<Item = Chunk> + 'a {
    let end = body.end;
    body.clone().step_by(CHUNK_BYTES).map(move |from| {
        let len = CHUNK_BYTES.min(end - from);
        Chunk {
            source: piece.source,
            offset: piece.offset + from as u64,
            len,
            need: len,
            dtype,
            entries: vec![Scatter {
                from: 0,
                len,
                to: piece.slab_offset + from,
                stored: piece.stored,
            }],
            straight: true,
        }
    })
}

#[cfg(test)]
mod tests;

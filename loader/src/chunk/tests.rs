//! Random plans against the obvious way: read each piece by itself and convert it.

use super::*;
use crate::AccessReport;

/// Storage that insists on what direct I/O insists on, and is no kinder: what lies past `need`
/// comes back as garbage.
#[derive(Debug)]
struct Strict {
    bytes: Vec<u8>,
    align: usize,
}

impl Storage for Strict {
    fn name(&self) -> &str {
        "strict"
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let start = offset as usize;
        buf.copy_from_slice(&self.bytes[start..start + buf.len()]);
        Ok(())
    }

    fn read_direct(&self, offset: u64, buf: &mut [u8], need: usize) -> Result<(), Error> {
        assert_eq!(offset as usize % self.align, 0);
        assert_eq!(buf.as_ptr() as usize % self.align, 0);
        assert_eq!(buf.len() % self.align, 0);
        buf.fill(0xee);
        self.read_at(offset, &mut buf[..need])
    }

    fn access_report(&self) -> AccessReport {
        AccessReport::Direct
    }
}

struct Random(u64);

impl Random {
    /// A number from 0 to `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        ((self.0 >> 33) as usize) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Files full of noise, and pieces of them in random places of a slab.
struct Case {
    sources: Vec<Arc<dyn Storage>>,
    pieces: Vec<Piece>,
    slab_bytes: usize,
}

fn random_case(seed: u64) -> Case {
    let mut random = Random(seed * 7919 + 1);
    let mut pieces = Vec::new();
    let mut sources: Vec<Arc<dyn Storage>> = Vec::new();
    for source in 0..1 + random.below(3) {
        let mut end = random.below(9000);
        for _ in 0..1 + random.below(6) {
            // Neighbours, neighbours but for a gap, and pieces at odd places.
            end += random.pick(&[0, 0, 0, 1, 8, 4095, 4096, 70_001]);
            let stored = random.pick(&Encoding::ALL);
            // A file is read as it is, or as plain numbers of another kind.
            let wanted = match stored.is_plain() {
                true => random.pick(&DType::ALL).encoding(),
                false => stored,
            };
            let unit = stored.block().bytes;
            let elements = match random.below(4) {
                0 => 0,
                1 => 1 + random.below(100),
                2 => 1 + random.below(200_000),
                _ => CHUNK_BYTES / unit * (1 + random.below(2)) + random.below(3),
            };
            let len = elements * unit;
            pieces.push(Piece {
                source,
                offset: end as u64,
                len,
                slab_offset: 0,
                stored,
                wanted,
                is_paged: len > 0 && stored == wanted && random.below(2) == 0,
            });
            end += len;
        }
        let bytes = (0..end + random.below(3) * 1000)
            .map(|_| random.below(256) as u8)
            .collect();
        let align = random.pick(&[1, 512, DIRECT_ALIGN_BYTES]);
        sources.push(Arc::new(Strict { bytes, align }));
    }
    // The order in the slab has nothing to do with the order in the files.
    for index in (1..pieces.len()).rev() {
        pieces.swap(index, random.below(index + 1));
    }
    let mut slab_bytes: usize = 0;
    for piece in &mut pieces {
        let page = DIRECT_ALIGN_BYTES;
        piece.slab_offset = match piece.is_paged {
            true => slab_bytes.next_multiple_of(page) + piece.offset as usize % page,
            false => slab_bytes,
        };
        slab_bytes = piece.slab_range().end;
        slab_bytes = match piece.is_paged {
            true => slab_bytes.next_multiple_of(page),
            false => (slab_bytes + random.below(300)).next_multiple_of(4),
        };
    }
    Case {
        sources,
        pieces,
        slab_bytes,
    }
}

const UNTOUCHED: u8 = 0xa5;

fn read_naively(case: &Case) -> Vec<u8> {
    let mut slab = vec![UNTOUCHED; case.slab_bytes];
    for piece in &case.pieces {
        let mut stored = vec![0; piece.len];
        case.sources[piece.source]
            .read_at(piece.offset, &mut stored)
            .unwrap();
        let place = &mut slab[piece.slab_range()];
        convert(piece.stored, &stored, piece.wanted, place);
    }
    slab
}

fn check_bounds(case: &Case, chunks: &[Chunk]) {
    for chunk in chunks {
        assert_eq!(chunk.offset as usize % DIRECT_ALIGN_BYTES, 0);
        assert_eq!(chunk.len % DIRECT_ALIGN_BYTES, 0);
        let odd = if chunk.straight { ODD_BYTES } else { 0 };
        assert!(chunk.len <= CHUNK_BYTES + odd && chunk.need <= chunk.len);
        assert!(chunk.len - chunk.need < DIRECT_ALIGN_BYTES);
        let file_bytes = case.sources[chunk.source].len();
        assert!(chunk.offset + chunk.need as u64 <= file_bytes);
        assert!(!chunk.entries.is_empty());
        let mut end = 0;
        for entry in &chunk.entries {
            assert!(entry.from >= end && entry.len > 0);
            end = entry.from + entry.len;
        }
        assert_eq!(end, chunk.need);
        // Not more than a page before the first entry and between two.
        let gaps = chunk.need - chunk.stored_bytes();
        assert!(gaps <= chunk.entries.len() * DIRECT_ALIGN_BYTES);
    }
    let planned: usize = chunks.iter().map(Chunk::stored_bytes).sum();
    let wanted: usize = case.pieces.iter().map(|piece| piece.len).sum();
    assert_eq!(planned, wanted);
}

#[test]
fn every_byte_lands_where_reading_piece_by_piece_puts_it() {
    let mut straight = 0;
    for seed in 0..80 {
        let case = random_case(seed);
        let chunks = cut(&case.pieces);
        check(&chunks, case.slab_bytes);
        check_bounds(&case, &chunks);
        straight += chunks.iter().filter(|chunk| chunk.straight).count();
        let expected = read_naively(&case);
        // What begins at a page, and what does not.
        for begin in [0, 1] {
            for access in [Access::Direct, Access::Buffered] {
                let mut memory = AlignedBuf::new(begin + case.slab_bytes);
                let slab = &mut memory.as_mut_slice()[begin..begin + case.slab_bytes];
                slab.fill(UNTOUCHED);
                let mut buf = AlignedBuf::new(0);
                for mut fill in assign(&chunks, slab) {
                    fill.run(&case.sources, &mut buf, access).unwrap();
                }
                for piece in &case.pieces {
                    let range = piece.slab_range();
                    let same = slab[range.clone()] == expected[range];
                    assert!(same, "seed {seed}, {access:?}, {piece:?}");
                }
            }
        }
    }
    assert!(straight > 50, "{straight}");
}

#[test]
fn nothing_is_written_but_pieces_and_the_pages_that_are_theirs() {
    for seed in 0..40 {
        let case = random_case(seed);
        let mut memory = AlignedBuf::new(case.slab_bytes);
        let slab = &mut memory.as_mut_slice()[..case.slab_bytes];
        slab.fill(UNTOUCHED);
        let chunks = cut(&case.pieces);
        for mut fill in assign(&chunks, slab) {
            let mut buf = AlignedBuf::new(0);
            fill.run(&case.sources, &mut buf, Access::Direct).unwrap();
        }
        for piece in &case.pieces {
            let mut own = piece.slab_range();
            if piece.is_paged {
                own.start -= own.start % DIRECT_ALIGN_BYTES;
                own.end = own.end.next_multiple_of(DIRECT_ALIGN_BYTES).min(slab.len());
            }
            slab[own].fill(UNTOUCHED);
        }
        assert!(slab.iter().all(|&byte| byte == UNTOUCHED), "seed {seed}");
    }
}

#[test]
fn a_run_of_neighbours_needs_no_more_reads_than_its_bytes_do() {
    // Two hundred small tensors one after the other: three chunks' worth of bytes.
    let len = 3 * CHUNK_BYTES / 200 / 2 * 2;
    let pieces: Vec<Piece> = (0..200)
        .map(|index| Piece {
            source: 0,
            offset: (100 + index * len) as u64,
            len,
            slab_offset: index * len,
            stored: Encoding::Bf16,
            wanted: Encoding::Bf16,
            is_paged: false,
        })
        .collect();
    assert_eq!(cut(&pieces).len(), 3);
}

#[test]
#[should_panic(expected = "not its own")]
fn two_claims_to_one_byte_are_a_bug() {
    let piece = |offset, slab_offset| Piece {
        source: 0,
        offset,
        len: 100,
        slab_offset,
        stored: Encoding::F16,
        wanted: Encoding::F16,
        is_paged: false,
    };
    let chunks = cut(&[piece(0, 0), piece(9000, 98)]);
    assign(&chunks, &mut [0; 300]);
}

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

    fn direct_align(&self) -> usize {
        self.align
    }

    fn access_report(&self) -> AccessReport {
        AccessReport::Direct
    }
}

struct Random(u64);

impl Random {
    /// From 0 to `end - 1`.
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
    dtype: DType,
    slab_bytes: usize,
}

fn random_case(seed: u64) -> Case {
    let mut random = Random(seed * 7919 + 1);
    let dtype = random.pick(&DType::ALL);
    let mut pieces = Vec::new();
    let mut sources: Vec<Arc<dyn Storage>> = Vec::new();
    for source in 0..1 + random.below(3) {
        let mut end = random.below(9000);
        for _ in 0..1 + random.below(6) {
            // Neighbours, neighbours but for a gap, and pieces at odd places.
            end += random.pick(&[0, 0, 0, 1, 8, 4095, 4096, 70_001]);
            let stored = random.pick(&DType::ALL);
            let elements = match random.below(4) {
                0 => 0,
                1 => 1 + random.below(100),
                2 => 1 + random.below(200_000),
                _ => CHUNK_BYTES / stored.bytes() * (1 + random.below(2)) + random.below(3),
            };
            let len = elements * stored.bytes();
            pieces.push(Piece {
                source,
                offset: end as u64,
                len,
                slab_offset: 0,
                stored,
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
    let mut slab_bytes = 0;
    for piece in &mut pieces {
        piece.slab_offset = slab_bytes;
        slab_bytes += piece.len / piece.stored.bytes() * dtype.bytes();
        slab_bytes = (slab_bytes + random.below(300)).next_multiple_of(4);
    }
    Case {
        sources,
        pieces,
        dtype,
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
        let len = piece.len / piece.stored.bytes() * case.dtype.bytes();
        let place = &mut slab[piece.slab_offset..piece.slab_offset + len];
        convert(piece.stored, &stored, case.dtype, place);
    }
    slab
}

fn check_bounds(case: &Case, chunks: &[Chunk]) {
    for chunk in chunks {
        assert_eq!(chunk.offset as usize % DIRECT_ALIGN_BYTES, 0);
        assert_eq!(chunk.len % DIRECT_ALIGN_BYTES, 0);
        assert!(chunk.len <= CHUNK_BYTES && chunk.need <= chunk.len);
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
    for seed in 0..60 {
        let case = random_case(seed);
        let chunks = plan(&case.pieces, case.dtype);
        check_bounds(&case, &chunks);
        let expected = read_naively(&case);
        for access in [Access::Direct, Access::Buffered] {
            let mut buf = AlignedBuf::for_chunks();
            let mut slab = vec![UNTOUCHED; case.slab_bytes];
            for mut fill in assign(&chunks, &mut slab) {
                fill.run(&case.sources, &mut buf, access).unwrap();
            }
            assert!(slab == expected, "seed {seed}, {access:?}");
        }
    }
}

/// A slab that may be shifted, over a case's files.
fn route_of(case: &Case) -> Route {
    route(&case.pieces, case.dtype, case.slab_bytes, &case.sources)
}

#[test]
fn every_byte_lands_there_straight_or_not() {
    let mut straight = 0;
    for seed in 0..60 {
        let case = random_case(seed);
        let Route { shift, chunks } = route_of(&case);
        assert!(shift < DIRECT_ALIGN_BYTES && shift % case.dtype.bytes() == 0);
        let planned: usize = chunks.iter().map(Chunk::stored_bytes).sum();
        let wanted: usize = case.pieces.iter().map(|piece| piece.len).sum();
        assert_eq!(planned, wanted);
        straight += chunks.iter().filter(|chunk| chunk.straight).count();
        let expected = read_naively(&case);
        for access in [Access::Direct, Access::Buffered] {
            let mut memory = AlignedBuf::new(DIRECT_ALIGN_BYTES + case.slab_bytes);
            let slab = &mut memory.as_mut_slice()[shift..shift + case.slab_bytes];
            slab.fill(UNTOUCHED);
            let mut buf = AlignedBuf::new(0);
            for mut fill in assign(&chunks, slab) {
                fill.run(&case.sources, &mut buf, access).unwrap();
            }
            assert!(slab == expected, "seed {seed}, {access:?}");
        }
    }
    // Odd places and other dtypes are most of these cases.
    assert!(straight > 20, "{straight}");
}

/// A layer as files have them, in an order that is not the slab's, behind a header of any length.
#[test]
fn where_sizes_are_pages_nearly_all_bytes_go_straight() {
    let mut random = Random(5);
    let sizes = [3 << 20, 4096, 7 << 20, 8192, 5 << 20];
    for header in [8, 1234, 70_000] {
        let mut offset = header;
        let mut pieces: Vec<Piece> = sizes
            .map(|len| {
                let piece = Piece {
                    source: 0,
                    offset: offset as u64,
                    len,
                    slab_offset: 0,
                    stored: DType::Bf16,
                };
                offset += len;
                piece
            })
            .into();
        pieces.reverse();
        let mut slab_bytes = 0;
        for piece in &mut pieces {
            piece.slab_offset = slab_bytes;
            slab_bytes += piece.len;
        }
        let bytes = (0..offset).map(|_| random.below(256) as u8).collect();
        let align = DIRECT_ALIGN_BYTES;
        let case = Case {
            sources: vec![Arc::new(Strict { bytes, align })],
            pieces,
            dtype: DType::Bf16,
            slab_bytes,
        };
        let Route { shift, chunks } = route_of(&case);
        assert_eq!(shift, header % DIRECT_ALIGN_BYTES);
        let buffered = chunks.iter().filter(|chunk| !chunk.straight);
        let buffered: usize = buffered.map(Chunk::stored_bytes).sum();
        // The small ones, and an odd page of each other.
        assert!(buffered <= 4096 + 8192 + 3 * 4096, "{buffered}");
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
            stored: DType::Bf16,
        })
        .collect();
    assert_eq!(plan(&pieces, DType::Bf16).len(), 3);
}

#[test]
#[should_panic(expected = "not its own")]
fn two_claims_to_one_byte_are_a_bug() {
    let piece = |offset, slab_offset| Piece {
        source: 0,
        offset,
        len: 100,
        slab_offset,
        stored: DType::F16,
    };
    let chunks = plan(&[piece(0, 0), piece(9000, 98)], DType::F16);
    assign(&chunks, &mut [0; 300]);
}

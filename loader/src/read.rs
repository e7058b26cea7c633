//! One whole slab at once, for blocks that stay. Streamed blocks use the same chunks on the I/O
//! threads of the link that streams them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::assign;
use crate::{Access, AlignedBuf, BlockSource, Error, Storage, crew};

/// Reads in flight. A disk needs several to run at full speed; a page cache needs about as many
/// as there are cores, and more do not hurt it.
pub const READ_THREADS: usize = 8;

/// Reads in flight where layers are streamed at every token. Few saturate a local disk; the others
/// hide the latency of slower and networked ones, and keep the disk at work while others wait for a
/// core that computes (with 16 the disk idled for 3 to 8 % of a token).
pub const STREAM_READS: usize = 32;

/// Fills `slab` with the bytes of `source`, with several reads at once. No second copy of the
/// weights exists at any time: the bounce buffers hold one chunk each.
pub fn read_block(
    sources: &[Arc<dyn Storage>],
    source: &BlockSource,
    slab: &mut [u8],
    access: Access,
) -> Result<(), Error> {
    read_block_unless(&AtomicBool::new(false), sources, source, slab, access)
}

/// The same, and it begins no further read when `stop` is raised: the slab is then of no use.
pub fn read_block_unless(
    stop: &AtomicBool,
    sources: &[Arc<dyn Storage>],
    source: &BlockSource,
    slab: &mut [u8],
    access: Access,
) -> Result<(), Error> {
    let expected_bytes = source.slab_bytes();
    if slab.len() < expected_bytes {
        return Err(Error::SlabSize {
            expected_bytes,
            found_bytes: slab.len(),
        });
    }
    let chunks = source.chunks();
    let threads = READ_THREADS.min(chunks.len());
    let wanted = |_: &_| !stop.load(Ordering::Relaxed);
    let fills = assign(&chunks, slab).into_iter().take_while(wanted);
    let buffer = || AlignedBuf::new(0);
    crew::deal(threads, fills, buffer, |buffer, mut fill| {
        fill.run(sources, buffer, access)
    })
}

//! The disk link: blocks are read again from the unmodified checkpoint at every visit. A few I/O
//! threads work through one queue of chunks in the itinerary's order, so the disk stays busy across
//! layer borders; each chunk is read, directly where the file system allows it. Most go straight to
//! their places in the slot, whole pages of the file to pages of the slot; small tensors and those
//! of another dtype take a detour: they are read into a buffer and scattered from there.
//!
//! A filler takes a copy, deals out its reads, and holds the slot's lock while workers, and itself,
//! fill it part by part.
//!
//! Host memory taken: a few buffers and the slots. Nothing of the file stays behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use loader::{Access, AlignedBuf, BlockSource, Chunk, STREAM_READS, Storage};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::links::latch::Latch;
use crate::links::pool::Pool;
use crate::links::{Link, Mark};
use crate::memory::lent::Lent;
use crate::memory::slab::SlabBytes;
use crate::plan::BufferBytes;
use crate::ring::slot::Slot;

/// One for each read in flight. They sleep in the kernel nearly all the time.
const READERS: usize = STREAM_READS;

/// Detours that can be under way at once, unless a block has more of them. Usually they are few,
/// and reads beside them go straight.
const DETOURS: usize = 8;

#[derive(Debug)]
pub struct DiskLink {
    blocks: BTreeMap<BlockId, Arc<FileHome>>,
    queue: Option<Sender<BlockCopy>>,
    /// Raised on drop: queued chunks are then skipped, so that ending does not wait for them.
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct FileHome {
    origin: Arc<str>,
    chunks: Vec<Chunk>,
    bytes: u64,
}

/// The copy of one block into a slot.
struct BlockCopy {
    home: Arc<FileHome>,
    slab: SlabBytes,
    latch: Arc<Latch>,
}

/// One chunk of a copy.
struct ChunkRead {
    home: Arc<FileHome>,
    chunk: usize,
    slab: Lent,
    latch: Arc<Latch>,
}

impl DiskLink {
    /// What the buffers of detours take while blocks like these are streamed: for the plan. Blocks
    /// differ: what has no pages of its own in the slot passes a buffer.
    pub fn buffers<'a>(blocks: impl Iterator<Item = &'a BlockSource>) -> BufferBytes {
        let chunks: Vec<_> = blocks.map(BlockSource::chunks).collect();
        buffers(chunks.iter())
    }

    /// How many threads read them: for the plan, too.
    pub fn threads<'a>(blocks: impl Iterator<Item = &'a BlockSource>, slots: usize) -> usize {
        let chunks = |block: &BlockSource| block.chunks().len();
        readers(blocks.map(chunks).max().unwrap_or(0), slots)
    }

    /// `slots`: how many copies can be in flight; the queue has room for all of them, so that
    /// `start` never waits.
    pub fn new(
        sources: &[Arc<dyn Storage>],
        blocks: impl IntoIterator<Item = (BlockId, BlockSource)>,
        access: Access,
        slots: usize,
    ) -> Result<Self, OffloadError> {
        let blocks: BTreeMap<_, _> = blocks
            .into_iter()
            .map(|(block, source)| (block, Arc::new(FileHome::of(&source, sources))))
            .collect();
        let chunks = |home: &Arc<FileHome>| home.chunks.len();
        let chunks_max = blocks.values().map(chunks).max().unwrap_or(0);
        let buffers = buffers(blocks.values().map(|home| &home.chunks));
        let pool = Pool::new(buffers.count(slots) as usize, buffers.each as usize);
        let pool = Arc::new(pool);
        let threads = readers(chunks_max, slots);
        let fillers = match chunks_max {
            0 | 1 => threads,
            // A staging ring has one buffer more than the usual two slots.
            _ => (slots + 1).min(threads / 2),
        };
        let (queue, copies) = bounded(slots);
        // What is started before one is refused ends with this.
        let mut link = Self {
            blocks,
            queue: Some(queue),
            ending: Arc::default(),
            threads: Vec::new(),
        };
        // After the link, so that it goes first: workers end with the last who could deal.
        let (dealt, reads) = bounded(chunks_max * slots);
        let reader = || Reader {
            sources: sources.to_vec(),
            access,
            ending: Arc::clone(&link.ending),
            pool: Arc::clone(&pool),
            none: AlignedBuf::new(0),
        };
        let readers: Vec<Reader> = (0..threads).map(|_| reader()).collect();
        for (index, reader) in readers.into_iter().enumerate() {
            if index < fillers {
                let (copies, dealt) = (copies.clone(), dealt.clone());
                link.spawn(index, move || reader.fill(&copies, &dealt))?;
            } else {
                let reads = reads.clone();
                link.spawn(index, move || reader.work(&reads))?;
            }
        }
        Ok(link)
    }

    fn spawn(
        &mut self,
        index: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), OffloadError> {
        let name = format!("disk-{index}");
        let thread = thread::Builder::new().name(name.clone()).spawn(run);
        self.threads
            .push(thread.map_err(|source| OffloadError::refused(&name, source))?);
        Ok(())
    }
}

impl DiskLink {
    /// The blocks it can bring.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.blocks.keys().copied()
    }
}

/// More than there can be chunks in flight would only wait.
fn readers(chunks_max: usize, slots: usize) -> usize {
    READERS.min(chunks_max * slots)
}

/// For the detours of these blocks.
fn buffers<'a>(blocks: impl Iterator<Item = &'a Vec<Chunk>>) -> BufferBytes {
    let (mut each, mut per_slot) = (0, 0);
    for chunks in blocks {
        let bytes = || chunks.iter().map(Chunk::buffer_bytes);
        each = each.max(bytes().max().unwrap_or(0));
        per_slot = per_slot.max(bytes().filter(|&bytes| bytes > 0).count());
    }
    BufferBytes {
        each: each as u64,
        per_slot: per_slot as u64,
        most: per_slot.clamp(DETOURS, READERS) as u64,
    }
}

impl FileHome {
    fn of(source: &BlockSource, sources: &[Arc<dyn Storage>]) -> Self {
        let chunks = source.chunks();
        let mut names: Vec<&str> = Vec::new();
        for chunk in &chunks {
            let name = sources[chunk.source].name();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self {
            origin: names.join(" and ").into(),
            bytes: source.stored_bytes(),
            chunks,
        }
    }
}

impl Link for DiskLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let home = self.blocks.get(&block).ok_or(LinkError::NoHome)?;
        let queue = self.queue.as_ref().ok_or(LinkError::NoHome)?;
        let latch = Arc::new(Latch::lent(home.chunks.len()));
        let copy = BlockCopy {
            home: Arc::clone(home),
            slab: slot.slab().bytes().clone(),
            latch: Arc::clone(&latch),
        };
        queue.send(copy).map_err(|_| LinkError::WorkersGone)?;
        Ok(latch)
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        self.blocks
            .get(&block)
            .map_or_else(|| "nowhere".into(), |home| Arc::clone(&home.origin))
    }

    fn bytes(&self, block: BlockId) -> u64 {
        self.blocks.get(&block).map_or(0, |home| home.bytes)
    }
}

impl Drop for DiskLink {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread reports its panics through the latch; there is nothing left to say here.
            let _ = thread.join();
        }
    }
}

/// What a thread of the link reads with.
struct Reader {
    sources: Vec<Arc<dyn Storage>>,
    access: Access,
    ending: Arc<AtomicBool>,
    /// Its buffers are as large as the largest chunk, and here before any work: nothing is
    /// allocated later.
    pool: Arc<Pool>,
    /// For what takes none.
    none: AlignedBuf,
}

impl Reader {
    /// A filler's life. (Two copies that are started in the same moment may be dealt in the wrong
    /// order: not worth a lock, which small blocks would feel.)
    fn fill(mut self, copies: &Receiver<BlockCopy>, dealt: &Sender<ChunkRead>) {
        for BlockCopy { home, slab, latch } in copies {
            let fill = |bytes: &mut [u8]| {
                let read = |chunk, slab| ChunkRead {
                    home: Arc::clone(&home),
                    chunk,
                    slab,
                    latch: Arc::clone(&latch),
                };
                let deal = |slab| {
                    let last = home.chunks.len().checked_sub(1);
                    for chunk in 0..last.unwrap_or(0) {
                        // There is room, and there are workers as long as there are fillers.
                        if dealt.send(read(chunk, slab)).is_err() {
                            latch.part(Err(LinkError::WorkersGone));
                        }
                    }
                    if let Some(last) = last {
                        self.run(&read(last, slab));
                    }
                };
                Lent::to(bytes, deal, || latch.wait_for_parts());
            };
            let filled = catch_unwind(AssertUnwindSafe(|| slab.write(fill)));
            latch.returned(match filled {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(LinkError::Slab(error.to_string())),
                Err(panic) => Err(LinkError::Panicked(panic_message(panic.as_ref()))),
            });
        }
    }

    /// A worker's life.
    fn work(mut self, reads: &Receiver<ChunkRead>) {
        for read in reads {
            self.run(&read);
        }
    }

    fn run(&mut self, read: &ChunkRead) {
        if self.ending.load(Ordering::Relaxed) {
            // Whoever still waits for it must not wait for ever.
            read.latch.part(Err(LinkError::WorkersGone));
            return;
        }
        let done = catch_unwind(AssertUnwindSafe(|| self.carry(read)))
            .unwrap_or_else(|panic| Err(LinkError::Panicked(panic_message(panic.as_ref()))));
        read.latch.part(done);
    }

    #[expect(unsafe_code, reason = "a part of a slab is borrowed")]
    fn carry(&mut self, read: &ChunkRead) -> Result<(), LinkError> {
        read.latch.begin();
        let chunk = &read.home.chunks[read.chunk];
        // SAFETY: the filler waits for this read's word, which comes when this is over, and the
        // ranges that a block's chunks ask for, each once, do not overlap.
        let part = |range| unsafe { read.slab.part(range) };
        let Self { sources, none, .. } = self;
        let bring = |buffer: &mut AlignedBuf| chunk.bring(sources, buffer, self.access, part);
        Ok(match chunk.buffer_bytes() {
            0 => bring(none),
            _ => self.pool.lend(bring),
        }?)
    }
}

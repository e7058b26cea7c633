//! The disk link: blocks are read again from the unmodified checkpoint at every visit. A few I/O
//! threads work through one queue of chunks in the itinerary's order, so the disk stays busy
//! across layer borders; each chunk is read (directly, where the file system allows it) into the
//! worker's own buffer, which stays in the processor's cache, and scattered from there.
//!
//! Host memory taken: one buffer a worker and the slots. Nothing of the file stays behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use loader::{Access, AlignedBuf, BlockSource, Chunk, Storage};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::latch::Latch;
use crate::link::{Link, Mark};
use crate::plan::BufferBytes;
use crate::slab::SlabBytes;
use crate::slot::Slot;

/// Reads in flight. Few saturate a local disk; the others hide the latency of slower and networked
/// ones, and keep the disk at work while workers wait for a core that computes (with 16 the disk
/// idled for 3 to 8 % of a token). They sleep in the kernel nearly all the time.
const WORKERS: usize = 32;

#[derive(Debug)]
pub struct DiskLink {
    blocks: BTreeMap<BlockId, Arc<Home>>,
    queue: Option<Sender<Job>>,
    /// Raised on drop: queued chunks are then skipped, so that ending does not wait for them.
    ending: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Home {
    origin: Arc<str>,
    chunks: Vec<Chunk>,
    bytes: u64,
}

struct Job {
    home: Arc<Home>,
    chunk: usize,
    slab: SlabBytes,
    latch: Arc<Latch>,
}

impl DiskLink {
    /// What the workers' buffers take while blocks like this one are streamed: for the plan.
    pub fn buffers(block: &BlockSource) -> BufferBytes {
        let chunks = block.chunks();
        BufferBytes {
            each: buffer_bytes(chunks.iter()) as u64,
            per_slot: chunks.len() as u64,
            most: WORKERS as u64,
        }
    }

    /// `slots`: how many copies can be in flight; the queue has room for all of their chunks, so
    /// that `start` never waits.
    pub fn new(
        sources: &[Arc<dyn Storage>],
        blocks: impl IntoIterator<Item = (BlockId, BlockSource)>,
        access: Access,
        slots: usize,
    ) -> Result<Self, OffloadError> {
        let blocks: BTreeMap<_, _> = blocks
            .into_iter()
            .map(|(block, source)| (block, Arc::new(Home::of(&source, sources))))
            .collect();
        let chunks_max = blocks
            .values()
            .map(|home| home.chunks.len())
            .max()
            .unwrap_or(0);
        let buffer_bytes = buffer_bytes(blocks.values().flat_map(|home| &home.chunks));
        let (queue, jobs) = bounded(chunks_max * slots);
        let ending = Arc::new(AtomicBool::new(false));
        // More than there can be chunks in flight would only wait.
        let workers = (0..WORKERS.min(chunks_max * slots))
            .map(|index| {
                let worker = Worker {
                    sources: sources.to_vec(),
                    access,
                    jobs: jobs.clone(),
                    ending: Arc::clone(&ending),
                };
                // As large as the largest chunk, and here before any work: nothing is allocated later.
                let buffer = AlignedBuf::new(buffer_bytes);
                let name = format!("disk-{index}");
                thread::Builder::new()
                    .name(name.clone())
                    .spawn(move || worker.run(buffer))
                    .map_err(|source| OffloadError::refused(&name, source))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            blocks,
            queue: Some(queue),
            ending,
            workers,
        })
    }
}

impl DiskLink {
    /// The blocks it can bring.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.blocks.keys().copied()
    }
}

/// Of one worker, for blocks of these chunks.
fn buffer_bytes<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> usize {
    chunks.map(|chunk| chunk.len).max().unwrap_or(0)
}

impl Home {
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
        let latch = Arc::new(Latch::new(home.chunks.len()));
        for chunk in 0..home.chunks.len() {
            let job = Job {
                home: Arc::clone(home),
                chunk,
                slab: slot.slab().bytes().clone(),
                latch: Arc::clone(&latch),
            };
            queue.send(job).map_err(|_| LinkError::WorkersGone)?;
        }
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
        for worker in self.workers.drain(..) {
            // A worker reports its panics through the latch; there is nothing left to say here.
            let _ = worker.join();
        }
    }
}

struct Worker {
    sources: Vec<Arc<dyn Storage>>,
    access: Access,
    jobs: Receiver<Job>,
    ending: Arc<AtomicBool>,
}

impl Worker {
    fn run(self, mut buffer: AlignedBuf) {
        for job in &self.jobs {
            if self.ending.load(Ordering::Relaxed) {
                // Whoever still waits for it must not wait for ever.
                job.latch.part(Err(LinkError::WorkersGone));
                continue;
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.carry(&job, &mut buffer)))
                .unwrap_or_else(|panic| Err(LinkError::Panicked(panic_message(panic.as_ref()))));
            job.latch.part(done);
        }
    }

    fn carry(&self, job: &Job, buffer: &mut AlignedBuf) -> Result<(), LinkError> {
        job.latch.begin();
        let chunk = &job.home.chunks[job.chunk];
        chunk.read(&self.sources, buffer, self.access)?;
        job.slab
            .write(|slab| chunk.scatter(buffer, slab))
            .map_err(|error| LinkError::Slab(error.to_string()))
    }
}

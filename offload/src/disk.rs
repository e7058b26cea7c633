//! The disk link: blocks are read again from the unmodified checkpoint at every visit. A few I/O
//! threads work through one queue of chunks in the itinerary's order, so the disk stays busy
//! across layer borders; each chunk is read, directly where the file system allows it. Most go
//! straight to their places in the slot; those at the edges of a tensor, of tensors that lie askew, or
//! of another dtype, are read into the worker's own buffer and scattered from there.
//!
//! A filler holds a slot's lock while workers fill it, each its own part. There are as many fillers as
//! slots; they take copies, and deal out their reads, in the order in which the copies were started.
//!
//! Host memory taken: one buffer a worker and the slots. Nothing of the file stays behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use loader::{Access, AlignedBuf, BlockSource, Chunk, Route, Storage};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::latch::Latch;
use crate::lent::Lent;
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
    queue: Option<Sender<Copy>>,
    /// Raised on drop: queued chunks are then skipped, so that ending does not wait for them.
    ending: Arc<AtomicBool>,
    /// Fillers and workers.
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Home {
    origin: Arc<str>,
    route: Route,
    bytes: u64,
}

/// Of one block into a slot.
struct Copy {
    home: Arc<Home>,
    slab: SlabBytes,
    latch: Arc<Latch>,
}

/// One chunk of a copy.
struct Job {
    home: Arc<Home>,
    chunk: usize,
    slab: Lent,
    latch: Arc<Latch>,
}

impl DiskLink {
    /// What the workers' buffers take while blocks like this one are streamed: for the plan.
    pub fn buffers(block: &BlockSource, sources: &[Arc<dyn Storage>]) -> BufferBytes {
        let Route { chunks, .. } = block.route(sources);
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
        let chunks = |home: &Arc<Home>| home.route.chunks.len();
        let in_flight = blocks.values().map(chunks).max().unwrap_or(0) * slots;
        let buffer_bytes = buffer_bytes(blocks.values().flat_map(|home| &home.route.chunks));
        let (queue, copies) = bounded(slots);
        let (chunk_queue, jobs) = bounded(in_flight);
        // What is started before one is refused ends with this.
        let mut link = Self {
            blocks,
            queue: Some(queue),
            ending: Arc::default(),
            threads: Vec::new(),
        };
        let copies = Arc::new(Mutex::new(copies));
        for index in 0..slots {
            let filler = Filler {
                copies: Arc::clone(&copies),
                queue: chunk_queue.clone(),
            };
            link.spawn(format!("disk-slot-{index}"), move || filler.run())?;
        }
        // The fillers have theirs: workers end with those, also where one of them is refused.
        drop(chunk_queue);
        // More than there can be chunks in flight would only wait.
        for index in 0..WORKERS.min(in_flight) {
            let worker = Worker {
                sources: sources.to_vec(),
                access,
                jobs: jobs.clone(),
                ending: Arc::clone(&link.ending),
            };
            // As large as the largest chunk, and here before any work: nothing is allocated later.
            let buffer = AlignedBuf::new(buffer_bytes);
            link.spawn(format!("disk-{index}"), move || worker.run(buffer))?;
        }
        Ok(link)
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), OffloadError> {
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

/// Of one worker, for blocks of these chunks.
fn buffer_bytes<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> usize {
    chunks.map(Chunk::buffer_bytes).max().unwrap_or(0)
}

impl Home {
    fn of(source: &BlockSource, sources: &[Arc<dyn Storage>]) -> Self {
        let route = source.route(sources);
        let mut names: Vec<&str> = Vec::new();
        for chunk in &route.chunks {
            let name = sources[chunk.source].name();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self {
            origin: names.join(" and ").into(),
            bytes: source.stored_bytes(),
            route,
        }
    }
}

impl Link for DiskLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let home = self.blocks.get(&block).ok_or(LinkError::NoHome)?;
        let queue = self.queue.as_ref().ok_or(LinkError::NoHome)?;
        let latch = Arc::new(Latch::lent(home.route.chunks.len()));
        let copy = Copy {
            home: Arc::clone(home),
            slab: slot.slab().bytes().clone(),
            latch: Arc::clone(&latch),
        };
        queue.send(copy).map_err(|_| LinkError::WorkersGone)?;
        Ok(latch)
    }

    fn shift(&self, block: BlockId) -> usize {
        self.blocks.get(&block).map_or(0, |home| home.route.shift)
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
            // A worker reports its panics through the latch; there is nothing left to say here.
            let _ = thread.join();
        }
    }
}

struct Filler {
    /// Whoever holds it takes the next copy, and deals out its reads before anybody takes another.
    copies: Arc<Mutex<Receiver<Copy>>>,
    queue: Sender<Job>,
}

impl Filler {
    fn run(self) {
        loop {
            let turn = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(Copy { home, slab, latch }) = turn.recv() else {
                return;
            };
            let lent = slab.write(|bytes| {
                let deal = |slab| {
                    for chunk in 0..home.route.chunks.len() {
                        let job = Job {
                            home: Arc::clone(&home),
                            chunk,
                            slab,
                            latch: Arc::clone(&latch),
                        };
                        // There is room, and there are workers as long as there are fillers.
                        if self.queue.send(job).is_err() {
                            latch.part(Err(LinkError::WorkersGone));
                        }
                    }
                    drop(turn);
                };
                Lent::to(bytes, deal, || latch.wait_for_parts());
            });
            latch.returned(lent.map_err(|error| LinkError::Slab(error.to_string())));
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

    #[expect(unsafe_code, reason = "a part of a slab is borrowed")]
    fn carry(&self, job: &Job, buffer: &mut AlignedBuf) -> Result<(), LinkError> {
        job.latch.begin();
        let chunk = &job.home.route.chunks[job.chunk];
        // SAFETY: the filler waits for this job's word, which comes when this is over, and the ranges
        // that a route's chunks ask for, each once, do not overlap.
        let part = |range| unsafe { job.slab.part(range) };
        Ok(chunk.bring(&self.sources, buffer, self.access, part)?)
    }
}

//! The RAM link: blocks packed once into host memory and copied into slots by one thread, as a
//! GPU's copy engine would. With a rate given it emulates a bus: bytes then take as long as they
//! would on that bus, and whoever prints a number of it says `emulated`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::links::latch::Latch;
use crate::links::{Link, Mark};
use crate::memory::numa::NumaNode;
use crate::memory::slab::SlabBytes;
use crate::ring::slot::Slot;

/// A block copied in pieces of this size: small enough for an emulated bus to pace them.
const PIECE_BYTES: usize = 1 << 20;

const NAP_MAX: Duration = Duration::from_millis(50);

/// A block's home in host memory: a slab as it will be copied.
#[derive(Debug, Clone)]
pub struct RamHome {
    pub origin: Arc<str>,
    pub bytes: SlabBytes,
}

impl RamHome {
    /// Host memory for a block, on a node where one is given, filled by `fill` before anybody else
    /// sees it.
    pub fn filled<E>(
        origin: Arc<str>,
        bytes: usize,
        near: Option<NumaNode>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E>
    where
        E: From<OffloadError>,
    {
        let home = SlabBytes::host(bytes)?;
        home.prefer(near)?;
        home.write(fill)??;
        Ok(Self {
            origin,
            bytes: home,
        })
    }
}

#[derive(Debug)]
pub struct RamLink {
    blocks: BTreeMap<BlockId, RamHome>,
    queue: Option<Sender<QueuedCopy>>,
    ending: Arc<AtomicBool>,
    engine: Option<JoinHandle<()>>,
}

struct QueuedCopy {
    home: SlabBytes,
    slab: SlabBytes,
    latch: Arc<Latch>,
    queued_at: Instant,
}

impl RamLink {
    /// `gbps`: the bus to emulate, in GB/s (10^9 bytes); `None` copies as fast as memory goes.
    pub fn new(
        blocks: BTreeMap<BlockId, RamHome>,
        gbps: Option<f64>,
        slots: usize,
    ) -> Result<Self, OffloadError> {
        let (queue, copies) = bounded(slots);
        let ending = Arc::new(AtomicBool::new(false));
        let engine = CopyEngine {
            copies,
            pace: gbps.map(|gbps| Pace {
                bytes_per_s: gbps * 1e9,
            }),
            ending: Arc::clone(&ending),
        };
        let engine = thread::Builder::new()
            .name("copy-engine".into())
            .spawn(move || engine.run())
            .map_err(|source| OffloadError::refused("copy-engine", source))?;
        Ok(Self {
            blocks,
            queue: Some(queue),
            ending,
            engine: Some(engine),
        })
    }
}

impl Link for RamLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let home = self
            .blocks
            .get(&block)
            .ok_or(LinkError::NoHome)?
            .bytes
            .clone();
        let queue = self.queue.as_ref().ok_or(LinkError::NoHome)?;
        let latch = Arc::new(Latch::new(1));
        queue
            .send(QueuedCopy {
                home,
                slab: slot.slab().bytes().clone(),
                latch: Arc::clone(&latch),
                queued_at: Instant::now(),
            })
            .map_err(|_| LinkError::WorkersGone)?;
        Ok(latch)
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        self.blocks
            .get(&block)
            .map_or_else(|| "nowhere".into(), |home| Arc::clone(&home.origin))
    }

    fn bytes(&self, block: BlockId) -> u64 {
        self.blocks
            .get(&block)
            .map_or(0, |home| home.bytes.len_bytes() as u64)
    }
}

impl Drop for RamLink {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.queue = None;
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
    }
}

struct CopyEngine {
    copies: Receiver<QueuedCopy>,
    pace: Option<Pace>,
    ending: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
struct Pace {
    bytes_per_s: f64,
}

impl CopyEngine {
    fn run(self) {
        // When the emulated bus has carried everything so far: absolute, and set by when a copy
        // was queued, so that one late wake-up is made good by the next copy, not added up.
        let mut bus_free = Instant::now();
        for copy in &self.copies {
            if self.ending.load(Ordering::Relaxed) {
                // Whoever still waits for it must not wait for ever.
                copy.latch.part(Err(LinkError::WorkersGone));
                continue;
            }
            copy.latch.begin();
            bus_free = bus_free.max(copy.queued_at);
            let copied = catch_unwind(AssertUnwindSafe(|| self.copy(&copy, &mut bus_free)))
                .unwrap_or_else(|panic| Err(LinkError::Panicked(panic_message(panic.as_ref()))));
            copy.latch.part(copied);
        }
    }

    fn copy(&self, copy: &QueuedCopy, bus_free: &mut Instant) -> Result<(), LinkError> {
        for start in (0..copy.home.len_bytes()).step_by(PIECE_BYTES) {
            let piece = start..copy.home.len_bytes().min(start + PIECE_BYTES);
            copy.home
                .read(|home| {
                    copy.slab
                        .write(|slab| slab[piece.clone()].copy_from_slice(&home[piece.clone()]))
                })
                .and_then(|copied| copied)
                .map_err(|error| LinkError::Slab(error.to_string()))?;
            if let Some(pace) = self.pace {
                *bus_free += Duration::from_secs_f64(piece.len() as f64 / pace.bytes_per_s);
                self.sleep_until(*bus_free);
            }
        }
        Ok(())
    }

    /// In short naps, so that ending never waits for a slow bus.
    fn sleep_until(&self, until: Instant) {
        while !self.ending.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP_MAX));
        }
    }
}

/// What a copy within host memory reaches: the ceiling of a link that is not a bus.
pub fn measure_copy_gbps(budget: Duration) -> f64 {
    const BYTES: usize = 64 << 20;
    // Not zeros: the system backs those with one shared page until they are written.
    let from = vec![1_u8; BYTES];
    let mut to = vec![2_u8; BYTES];
    let started = Instant::now();
    let (mut copies, mut best) = (0_u32, 0.0_f64);
    // The best of them: what others take of a machine for a moment is not its limit.
    while copies < 4 || started.elapsed() < budget {
        let from_time = Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        best = best.max(BYTES as f64 / from_time.elapsed().as_secs_f64() / 1e9);
        copies += 1;
    }
    best
}

//! A link with worse manners than a real one. The slot is poisoned with NaN the moment a refill is
//! allowed to start, the bytes land only at the very end of a copy of seeded random length, and
//! errors and panics come where they are asked for. A ring that reads early, or refills early,
//! computes with NaN or with another layer's weights, and its output shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use offload::{BlockId, Latch, Link, LinkError, Mark, SlabBytes, Slot};

/// Where a link goes wrong, counted in copies started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// `start` itself fails.
    AtStart(usize),
    /// The copy fails after it was started.
    AtArrival(usize),
    /// The prefetch thread panics.
    Panic(usize),
    /// Issuing a copy itself takes long, and holds up those behind it.
    Slow,
}

#[derive(Debug)]
pub struct LateLink {
    homes: BTreeMap<BlockId, Arc<Vec<u8>>>,
    fault: Fault,
    started: usize,
    jobs: Option<Sender<Job>>,
    engine: Option<JoinHandle<()>>,
}

struct Job {
    home: Arc<Vec<u8>>,
    slab: SlabBytes,
    latch: Arc<Latch>,
    fails: bool,
}

/// A small generator for tests: splitmix64.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl LateLink {
    pub fn new(homes: BTreeMap<BlockId, Arc<Vec<u8>>>, seed: u64, fault: Fault) -> Self {
        let (jobs, queue) = channel::<Job>();
        let mut state = seed;
        let engine = thread::spawn(move || {
            for job in queue {
                job.latch.begin();
                thread::sleep(Duration::from_micros(random(&mut state) % 120));
                let landed = if job.fails {
                    Err(LinkError::Slab("the cable came off".into()))
                } else {
                    job.slab
                        .write(|slab| slab.copy_from_slice(&job.home))
                        .map_err(|error| LinkError::Slab(error.to_string()))
                };
                job.latch.part(landed);
            }
        });
        Self {
            homes,
            fault,
            started: 0,
            jobs: Some(jobs),
            engine: Some(engine),
        }
    }
}

impl Link for LateLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let copy = self.started;
        self.started += 1;
        match self.fault {
            Fault::AtStart(at) if at == copy => {
                return Err(LinkError::Slab("the port is closed".into()));
            }
            Fault::Slow => thread::sleep(Duration::from_millis(60)),
            Fault::Panic(at) if at == copy => panic!("the driver fell over"),
            _ => {}
        }
        let slab = slot.slab().bytes();
        // All ones is NaN in every dtype a slab can have.
        slab.write(|slab| slab.fill(0xff)).unwrap();
        let latch = Arc::new(Latch::new(1));
        let job = Job {
            home: Arc::clone(&self.homes[&block]),
            slab: slab.clone(),
            latch: Arc::clone(&latch),
            fails: self.fault == Fault::AtArrival(copy),
        };
        self.jobs.as_ref().unwrap().send(job).unwrap();
        Ok(latch)
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        format!("shard-{}.safetensors", block.layer).into()
    }

    fn bytes(&self, block: BlockId) -> u64 {
        self.homes[&block].len() as u64
    }
}

impl Drop for LateLink {
    fn drop(&mut self) {
        self.jobs = None;
        self.engine.take().unwrap().join().unwrap();
    }
}

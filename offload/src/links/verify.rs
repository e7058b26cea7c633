//! A link in front of another one that holds every block's bytes against their checksums when they
//! have landed in the slot, and lets the visit have them only then. A thread of its own does it,
//! in the order of the copies, while others are on their way and compute is busy: what it takes is
//! its own time first, and the visit's only as far as that had to wait.
//!
//! For links into host memory: a device's slots cannot be read from here.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use loader::{Checksum, Stretch};

use crate::block::BlockId;
use crate::error::{LinkError, OffloadError, panic_message};
use crate::links::{Arrival, Link, Mark};
use crate::memory::slab::SlabBytes;
use crate::ring::slot::Slot;

/// Where a checksum that bytes are held against is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Written down while the checkpoint was known to be good.
    Manifest,
    /// Taken when the block was packed into host memory.
    Packed,
    /// Taken when the block came for the first time: tells a change since then, and no more.
    FirstRead,
}

impl Reference {
    /// The word of the reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Packed => "packed",
            Self::FirstRead => "first_read",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "checksums.json",
            Self::Packed => "the copy that was packed into RAM",
            Self::FirstRead => "its first read",
        })
    }
}

/// What a block's bytes are held against, tensor by tensor. What has no checksum yet gets it from
/// the first bytes that come.
#[derive(Debug)]
pub struct Expectation {
    stretches: Vec<(Stretch, Reference)>,
}

impl Expectation {
    /// `known`: where the checksums are from that are there already.
    pub fn new(stretches: Vec<Stretch>, known: Reference) -> Self {
        let from = |stretch: &Stretch| match stretch.expected {
            Some(_) => known,
            None => Reference::FirstRead,
        };
        let stretches = stretches
            .into_iter()
            .map(|stretch| (from(&stretch), stretch))
            .map(|(from, stretch)| (stretch, from));
        Self {
            stretches: stretches.collect(),
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for (stretch, reference) in &mut self.stretches {
            let found = Checksum::of(&bytes[stretch.range.clone()]);
            let expected = *stretch.expected.get_or_insert(found);
            if expected != found {
                return Err(LinkError::Altered {
                    tensor: Arc::clone(&stretch.tensor),
                    reference: *reference,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// Checks what another link brings.
#[derive(Debug)]
pub struct VerifyingLink {
    /// `None` only while it is dropped.
    inner: Option<Box<dyn Link>>,
    queue: Option<Sender<Check>>,
    verifier: Option<JoinHandle<()>>,
}

struct Check {
    block: BlockId,
    slab: SlabBytes,
    mark: Arc<dyn Mark>,
    verdict: Sender<Result<Duration, LinkError>>,
}

impl VerifyingLink {
    pub fn new(
        inner: Box<dyn Link>,
        expectations: BTreeMap<BlockId, Expectation>,
    ) -> Result<Self, OffloadError> {
        // Never longer than the ring has slots: each copy in flight is one.
        let (queue, checks) = unbounded();
        let verifier = thread::Builder::new()
            .name("verify".into())
            .spawn(move || verify(&checks, expectations))
            .map_err(|source| OffloadError::refused("verify", source))?;
        Ok(Self {
            inner: Some(inner),
            queue: Some(queue),
            verifier: Some(verifier),
        })
    }
}

fn verify(checks: &Receiver<Check>, mut expectations: BTreeMap<BlockId, Expectation>) {
    for check in checks {
        let held = catch_unwind(AssertUnwindSafe(|| {
            check.mark.wait()?;
            let from = Instant::now();
            let expectation = expectations
                .get_mut(&check.block)
                .ok_or(LinkError::NoHome)?;
            check
                .slab
                .read(|bytes| expectation.hold(bytes))
                .map_err(|error| LinkError::Slab(error.to_string()))??;
            Ok(from.elapsed())
        }))
        .unwrap_or_else(|panic| Err(LinkError::Panicked(panic_message(panic.as_ref()))));
        // A stack that is being dropped does not ask any more.
        let _ = check.verdict.send(held);
    }
}

impl Link for VerifyingLink {
    fn start(&mut self, block: BlockId, slot: &Slot) -> Result<Arc<dyn Mark>, LinkError> {
        let (Some(inner), Some(queue)) = (&mut self.inner, &self.queue) else {
            return Err(LinkError::WorkersGone);
        };
        let mark = inner.start(block, slot)?;
        let (verdict, verified) = bounded(1);
        let check = Check {
            block,
            slab: slot.slab().bytes().clone(),
            mark: Arc::clone(&mark),
            verdict,
        };
        queue.send(check).map_err(|_| LinkError::WorkersGone)?;
        Ok(Arc::new(VerifiedMark {
            inner: mark,
            verdict: verified,
            heard: Mutex::default(),
            took: OnceLock::new(),
        }))
    }

    fn origin(&self, block: BlockId) -> Arc<str> {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| "nowhere".into(), |inner| inner.origin(block))
    }

    fn bytes(&self, block: BlockId) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.bytes(block))
    }
}

impl Drop for VerifyingLink {
    fn drop(&mut self) {
        // Its marks that are still to come come now, as errors: the verifier waits for no other.
        let inner = self.inner.take();
        let gone = catch_unwind(AssertUnwindSafe(|| drop(inner)));
        self.queue = None;
        if let Some(verifier) = self.verifier.take() {
            let _ = verifier.join();
        }
        // A link that panics while it goes leaves no thread behind either.
        if let Err(panic) = gone
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

/// The mark of a copy that was looked at.
struct VerifiedMark {
    inner: Arc<dyn Mark>,
    verdict: Receiver<Result<Duration, LinkError>>,
    /// The verdict, from when it came until `wait` takes it.
    heard: Mutex<Option<Result<Duration, LinkError>>>,
    took: OnceLock<Duration>,
}

impl Mark for VerifiedMark {
    fn landed_within(&self, patience: Duration) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.is_none() {
            *heard = match self.verdict.recv_timeout(patience) {
                Ok(verdict) => Some(verdict),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => Some(Err(LinkError::WorkersGone)),
            };
        }
        true
    }

    fn wait(&self) -> Result<(), LinkError> {
        let heard = self
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let took = match heard {
            Some(verdict) => verdict?,
            None => self.verdict.recv().map_err(|_| LinkError::WorkersGone)??,
        };
        self.took.get_or_init(|| took);
        Ok(())
    }

    fn release(&self) -> Result<(), LinkError> {
        self.inner.release()
    }

    fn arrival(&self) -> Result<Arrival, LinkError> {
        self.inner.arrival()
    }

    fn verified(&self) -> Duration {
        self.took.get().copied().unwrap_or_default()
    }
}

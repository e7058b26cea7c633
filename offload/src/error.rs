//! What can go wrong between a block's home and its visit.

use std::sync::Arc;

use loader::{CHECKSUM_ALGORITHM, Checksum, units};

use crate::block::BlockId;
use crate::links::verify::Reference;

#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// The link failed while filling a slot. Ends the run; reported once, by the visit.
    #[error("{block} could not be loaded from {origin}: {source}")]
    Load {
        block: BlockId,
        origin: Arc<str>,
        source: Box<LinkError>,
    },
    #[error("the prefetch thread died before {block} of {origin} arrived: {message}")]
    PrefetchDied {
        block: BlockId,
        origin: Arc<str>,
        message: String,
    },
    /// A visit after an error that was already reported.
    #[error("{block} was visited after the stack had failed")]
    Stopped { block: BlockId },
    /// Nothing is wrong: the wait was given up because the visitor's flag was set.
    #[error("the wait for {block} was cancelled")]
    Cancelled { block: BlockId },
    #[error("{asked} was visited where the itinerary expects {expected}")]
    OutOfOrder { asked: BlockId, expected: BlockId },
    #[error("{block} is neither resident nor in the itinerary")]
    Unknown { block: BlockId },
    #[error("{} of memory for weights could not be allocated", units::memory(*bytes))]
    OutOfMemory { bytes: u64 },
    #[error("the slab is not in host memory")]
    NotHostMemory,
    #[error("the slab is not in the device's memory")]
    NotDeviceMemory,
    #[error("it is not said where on the device what comes from disk belongs")]
    NotStaged,
    #[error("a device's memory holds numbers of one dtype, and these are of another")]
    OtherNumbers,
    #[error("this build has no CUDA support")]
    NotBuilt,
    #[error("there is no CUDA device {ordinal}: {found} were found")]
    NoSuchDevice { ordinal: usize, found: usize },
    #[error("{doing}: the device says {said}")]
    Device { doing: String, said: String },
    #[error("{} of the device's memory could not be allocated ({said})", units::memory(*bytes))]
    OutOfDeviceMemory { bytes: u64, said: String },
    #[error(
        "not even a staging buffer of {} could be pinned: the device says {said}",
        units::memory(*bytes)
    )]
    NotPinned { bytes: u64, said: String },
    #[error("the system refused the thread {thread}: {source}")]
    ThreadRefused {
        thread: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Why a link could not fill a slot.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Read(#[from] loader::Error),
    #[error("the link panicked: {0}")]
    Panicked(String),
    #[error(
        "{tensor} is not what {reference} says: {CHECKSUM_ALGORITHM} {expected} expected, {found} \
         found"
    )]
    Altered {
        tensor: Arc<str>,
        reference: Reference,
        expected: Checksum,
        found: Checksum,
    },
    #[error("{0}")]
    Slab(String),
    #[error("the device says {0}")]
    Device(String),
    #[error("the link has no weights for it")]
    NoHome,
    #[error("the threads that fill slots have ended")]
    WorkersGone,
}

/// What to do where the system refuses a thread.
pub const THREADS_HINT: &str =
    "raise the limit on threads (ulimit -u) or on memory (ulimit -v), or end other programs";

impl Reference {
    fn hint(self) -> &'static str {
        match self {
            Self::Manifest => {
                "run `engine checksum DIR --check`: if it finds the same tensor, the file is damaged \
                 (fetch it again); if not, a read or the memory went wrong"
            }
            Self::Packed => {
                "memory or the copy went wrong: restart, and test this machine's memory"
            }
            Self::FirstRead => {
                "do not change the file during a run; if nobody did, test this machine's disk and \
                 memory"
            }
        }
    }
}

impl OffloadError {
    pub fn refused(thread: &str, source: std::io::Error) -> Self {
        let thread = thread.to_owned();
        Self::ThreadRefused { thread, source }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load { source, .. } => match source.as_ref() {
                LinkError::Read(error) => error.hint(),
                LinkError::Altered { reference, .. } => Some(reference.hint().into()),
                _ => None,
            },
            Self::OutOfMemory { .. } | Self::OutOfDeviceMemory { .. } => {
                Some("keep fewer layers resident: lower --num-gpu-layers, or `auto`".into())
            }
            Self::NotBuilt => Some(
                "use --device cpu, or build with `--features cuda` (the README says how)".into(),
            ),
            Self::NoSuchDevice { found: 0, .. } => {
                Some("`engine devices` lists what there is; --device cpu needs none".into())
            }
            Self::NoSuchDevice { found, .. } => Some(format!(
                "devices are counted from 0: use --device cuda:{}",
                found - 1
            )),
            Self::NotPinned { .. } => Some(
                "the system limits locked memory: raise that limit (WSL: memory in .wslconfig)"
                    .into(),
            ),
            Self::ThreadRefused { .. } => Some(THREADS_HINT.into()),
            _ => None,
        }
    }
}

/// What a panic said, as far as it said anything.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".into())
}

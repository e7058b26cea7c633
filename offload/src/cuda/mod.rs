#![expect(
    unsafe_code,
    reason = "cudarc's event tracking is switched off, and raw pointers of the driver are read"
)]
//! An NVIDIA GPU as a place: its memory, one compute stream, one copy stream.
//!
//! What makes the raw parts sound:
//!
//! * **Event tracking is off.** It would add a wait and a record to every kernel argument once there
//!   is a second stream. What it would have kept apart is kept apart by two events a visit
//!   (see `visit`): nothing else is shared by the streams. Everything but slots is allocated,
//!   written and read on the compute stream alone, and slots are handed to the copy stream only
//!   after the compute stream was waited for once.
//! * **Device memory outlives its copies.** The link keeps a handle to every slot it fills and waits
//!   for the copy stream before it lets go (`link`).
//! * **Host memory outlives its copies.** Pinned homes and staging buffers belong to the link, and are
//!   unpinned when it has waited for the copy stream (`pinned`).
//!
//! One compute thread, one context: candle's device is made with a stream of its own, so that the
//! two streams belong to the same context and no second thread computes on another one.

mod link;
mod pinned;
mod staging;
mod stopwatch;
mod streams;
mod survey;
mod visit;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use candle_core::Device;
use cudarc::driver::{CudaContext, DriverError};

use crate::error::{LinkError, OffloadError};
use crate::memory::numa::NumaNode;
use crate::memory::slab::SlabBytes;
use crate::place::{Connection, Homes, Place, RingShape, Stopwatch};

use link::CudaLink;
use pinned::{DeviceMemory, Pinned};
use stopwatch::CudaStopwatch;
use streams::Streams;
use survey::pci_address;

pub use pinned::{device_address, slab_address};
pub(crate) use survey::survey;

/// Kept free of what the driver says is free: kernels that are loaded on first use, and the
/// workspaces of the matrix library.
const RESERVE_BYTES: u64 = 256 << 20;

/// A GPU that was opened.
#[derive(Debug)]
pub(crate) struct Gpu {
    device: Device,
    streams: Arc<Streams>,
    near: Option<NumaNode>,
    /// Host memory that loading passes through on its way to the device.
    stage: Mutex<Option<Pinned>>,
}

/// GPUs in this machine; 0 where there is no driver.
pub(crate) fn count() -> usize {
    CudaContext::device_count().map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

pub(crate) fn open(ordinal: usize) -> Result<Arc<dyn Place>, OffloadError> {
    Ok(Arc::new(Gpu::open(ordinal)?))
}

impl Gpu {
    fn open(ordinal: usize) -> Result<Self, OffloadError> {
        let found = count();
        if ordinal >= found {
            return Err(OffloadError::NoSuchDevice { ordinal, found });
        }
        let device = Device::new_cuda_with_stream(ordinal)?;
        let compute = device.as_cuda_device()?.cuda_stream();
        // SAFETY: as the module says, every use of memory by both streams is ordered by events of
        // ours, and no tensor of this device exists yet.
        unsafe { compute.context().disable_event_tracking() };
        let streams = Streams::beside(compute).map_err(opening)?;
        let near = pci_address(streams.context()).and_then(|address| NumaNode::of_pci(&address));
        Ok(Self {
            device,
            streams: Arc::new(streams),
            near,
            stage: Mutex::new(None),
        })
    }

    /// A pinned buffer of at least `bytes`; if nothing can be pinned, an ordinary one: loading is
    /// then slower, and nothing else.
    fn stage(&self, bytes: usize) -> Result<Pinned, OffloadError> {
        let kept = self
            .stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stage) = kept.filter(|stage| stage.memory().len_bytes() >= bytes) {
            return Ok(stage);
        }
        let memory = SlabBytes::host(bytes)?;
        memory.prefer(self.near)?;
        Ok(Pinned::new(self.streams.context(), memory.clone())
            .unwrap_or_else(|_| Pinned::not(self.streams.context(), memory)))
    }
}

impl Place for Gpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn free_bytes(&self) -> Option<u64> {
        let (free, _) = self.streams.context().mem_get_info().ok()?;
        Some((free as u64).saturating_sub(RESERVE_BYTES))
    }

    fn near(&self) -> Option<NumaNode> {
        self.near
    }

    fn fill(&self, to: &SlabBytes, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), OffloadError> {
        let bytes = to.len_bytes();
        let stage = self.stage(bytes)?;
        stage.memory().write(|memory| fill(&mut memory[..bytes]))?;
        let target = DeviceMemory::of(to)?;
        stage
            .all()
            .copy_to(target, &self.streams.compute)
            // waits: at load time, once a block
            .and_then(|()| self.streams.compute.synchronize())
            .map_err(|error| filling(bytes, &error))?;
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
        Ok(())
    }

    fn connect(
        &self,
        homes: Homes,
        ring: &RingShape,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Connection, OffloadError> {
        // The slots were allocated on the compute stream; the copy stream meets them now.
        // waits: at load time
        self.streams.compute.synchronize().map_err(opening)?;
        let (link, access) = CudaLink::connect(&self.streams, self.near, homes, ring, progress)?;
        Ok(Connection {
            link: Box::new(link),
            access: Some(access),
        })
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        Some(Box::new(CudaStopwatch::new(&self.streams)))
    }

    fn measure_link_gbps(&self, budget: Duration) -> Result<f64, OffloadError> {
        survey::host_to_device_gbps(self, budget, true)
    }

    fn measure_memory_gbps(&self, budget: Duration) -> Result<Option<f64>, OffloadError> {
        survey::memory_gbps(self, budget).map(Some)
    }
}

fn opening(error: DriverError) -> OffloadError {
    OffloadError::Device {
        doing: "opening the device".into(),
        said: error.to_string(),
    }
}

fn filling(bytes: usize, error: &DriverError) -> OffloadError {
    OffloadError::Device {
        doing: format!(
            "copying {} to the device",
            loader::units::memory(bytes as u64)
        ),
        said: error.to_string(),
    }
}

impl From<DriverError> for LinkError {
    fn from(error: DriverError) -> Self {
        Self::Device(error.to_string())
    }
}

//! The two streams of a device, and its clock: where compute runs, where copies run, and what a
//! moment of theirs is on the host's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError};

#[derive(Debug)]
pub(super) struct Streams {
    pub compute: Arc<CudaStream>,
    pub copy: Arc<CudaStream>,
    /// A moment on both clocks.
    base: CudaEvent,
    base_at: Instant,
}

impl Streams {
    /// A copy stream beside the compute stream, in the same context.
    pub fn beside(compute: Arc<CudaStream>) -> Result<Self, DriverError> {
        let copy = compute.context().new_stream()?;
        let base = compute.context().new_event(Some(CU_EVENT_DEFAULT))?;
        base.record(&copy)?;
        // waits: at load time
        base.synchronize()?;
        Ok(Self {
            base_at: Instant::now(),
            compute,
            copy,
            base,
        })
    }

    pub fn context(&self) -> &Arc<CudaContext> {
        self.compute.context()
    }

    /// An event that knows when it happened.
    pub fn timed_event(&self) -> Result<CudaEvent, DriverError> {
        self.context().new_event(Some(CU_EVENT_DEFAULT))
    }

    /// When an event happened, which it has. The driver counts in f32 milliseconds: an hour after
    /// the device was opened that is a quarter of one. For durations take two events.
    pub fn at(&self, event: &CudaEvent) -> Result<Instant, DriverError> {
        Ok(self.base_at + between(&self.base, event)?)
    }
}

/// The time from one event that has happened to another.
pub(super) fn between(from: &CudaEvent, to: &CudaEvent) -> Result<Duration, DriverError> {
    let ms = from.elapsed_ms(to)?;
    Ok(Duration::from_secs_f64(f64::from(ms.max(0.0)) / 1e3))
}

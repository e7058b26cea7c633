#![expect(unsafe_code, reason = "the driver is asked for a time without waiting")]
//! The two streams of a device, and its clock: where compute runs, where copies run, and what a
//! moment of theirs is on the host's clock. What is unsafe is one call that takes two events, which
//! are alive as long as the references to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_READY;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};

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

/// The time from one event to another. Both have happened, as a rule, and then nothing is waited
/// for: there are some two hundred a token.
pub(super) fn between(from: &CudaEvent, to: &CudaEvent) -> Result<Duration, DriverError> {
    // SAFETY: the module says it.
    let told = unsafe { result::event::elapsed(from.cu_event(), to.cu_event()) };
    let ms = match told {
        Err(DriverError(CUDA_ERROR_NOT_READY)) => from.elapsed_ms(to)?,
        told => told?,
    };
    Ok(Duration::from_secs_f64(f64::from(ms.max(0.0)) / 1e3))
}

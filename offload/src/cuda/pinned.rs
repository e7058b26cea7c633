#![expect(unsafe_code, reason = "memory is pinned and copied by address")]
//! Host memory that the device may read by itself, and the one place where bytes are sent.
//!
//! Pinning registers memory that exists already, so that homes are filled like any other memory,
//! by the threads that read the disk, and pinned when they are full. The driver pins whole pages;
//! [`SlabBytes`] has its pages to itself. Sound because the registration owns a handle to the
//! memory, so it is neither freed nor moved while it is pinned, and because nobody writes a home or
//! a staging buffer while a copy of it is in flight: homes are never written again, and a staging
//! buffer is filled again only after its copy was waited for.

use std::sync::Arc;

use candle_core::Storage;
use candle_core::cuda_backend::CudaDType;
use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DriverError, result, sys};
use half::{bf16, f16};

use super::streams::Streams;
use crate::error::OffloadError;
use crate::slab::SlabBytes;

/// Host memory to copy from, pinned or (where that is said) not.
#[derive(Debug)]
pub(super) struct Pinned {
    memory: SlabBytes,
    context: Arc<CudaContext>,
    registered: Option<Registered>,
}

/// The address of a registration, for giving it up.
#[derive(Debug, Clone, Copy)]
struct Registered(usize);

impl Pinned {
    /// Pins `memory`.
    pub fn new(context: &Arc<CudaContext>, memory: SlabBytes) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let (address, bytes) = memory
            .read(|bytes| (bytes.as_ptr().addr(), bytes.len()))
            .map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
        // SAFETY: the range is memory of ours, it stays where it is while `memory` lives, and it is
        // unregistered before that ends.
        unsafe {
            sys::cuMemHostRegister_v2(
                std::ptr::with_exposed_provenance_mut(address),
                bytes,
                sys::CU_MEMHOSTREGISTER_PORTABLE,
            )
            .result()?;
        }
        Ok(Self {
            memory,
            context: Arc::clone(context),
            registered: Some(Registered(address)),
        })
    }

    /// The same without pinning: the driver then copies through memory of its own, and the caller
    /// waits while it does.
    pub fn not(context: &Arc<CudaContext>, memory: SlabBytes) -> Self {
        Self {
            memory,
            context: Arc::clone(context),
            registered: None,
        }
    }

    pub fn memory(&self) -> &SlabBytes {
        &self.memory
    }

    /// Orders a copy of the first bytes to the device, as many as there is room for.
    pub fn copy_to(&self, to: DeviceMemory, stream: &CudaStream) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        self.memory
            .read(|from| {
                let from = &from[..to.bytes.min(from.len())];
                // SAFETY: both ranges are alive and of this size (see the module and `DeviceMemory`),
                // and nobody writes `from` before the copy is over.
                unsafe { result::memcpy_htod_async(to.address, from, stream.cu_stream()) }
            })
            .map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(Registered(address)) = self.registered {
            let _ = self.context.bind_to_thread();
            // SAFETY: it was registered at this address, and whoever drops it has waited for its
            // copies. A driver that fails here has failed before, and was heard then.
            unsafe {
                let _ = sys::cuMemHostUnregister(std::ptr::with_exposed_provenance_mut(address));
            }
        }
    }
}

/// Where a slab lies on the device. Valid while somebody holds the slab's [`SlabBytes`].
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceMemory {
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl DeviceMemory {
    pub fn of(slab: &SlabBytes, streams: &Streams) -> Result<Self, OffloadError> {
        fn address<T: CudaDType>(
            storage: &candle_core::CudaStorage,
            streams: &Streams,
        ) -> candle_core::Result<sys::CUdeviceptr> {
            // Tracking is off, so the guard that comes with the address orders nothing.
            Ok(storage.as_cuda_slice::<T>()?.device_ptr(&streams.compute).0)
        }
        let (storage, layout) = slab.tensor().storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(OffloadError::NotDeviceMemory);
        };
        let dtype = slab.tensor().dtype();
        let start = match dtype {
            candle_core::DType::BF16 => address::<bf16>(storage, streams)?,
            candle_core::DType::F16 => address::<f16>(storage, streams)?,
            _ => address::<f32>(storage, streams)?,
        };
        let offset_bytes = layout.start_offset() * dtype.size_in_bytes();
        Ok(Self {
            address: start + offset_bytes as sys::CUdeviceptr,
            bytes: slab.len_bytes(),
        })
    }

    /// Orders that all of it becomes NaN, whatever numbers it holds.
    pub fn poison(&self, stream: &CudaStream) -> Result<(), DriverError> {
        stream.context().bind_to_thread()?;
        // SAFETY: the range is alive (see above).
        unsafe { result::memset_d8_async(self.address, 0xff, self.bytes, stream.cu_stream()) }
    }

    /// Orders a copy from another place on the device, of as many bytes as fit both.
    pub fn copy_from(&self, from: Self, stream: &CudaStream) -> Result<(), DriverError> {
        stream.context().bind_to_thread()?;
        // SAFETY: both are alive (see above), and of at least this size.
        unsafe {
            result::memcpy_dtod_async(
                self.address,
                from.address,
                self.bytes.min(from.bytes),
                stream.cu_stream(),
            )
        }
    }
}

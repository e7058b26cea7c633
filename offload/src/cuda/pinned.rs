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

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::{CudaStorage, DType, Storage, Tensor};
use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DriverError, result, sys};
use half::{bf16, f16};
use loader::Move;

use crate::error::OffloadError;
use crate::memory::slab::SlabBytes;

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

    /// All that is in it, to the places where it is.
    pub fn all(&self) -> Filled<'_> {
        Filled {
            home: self,
            moves: None,
        }
    }

    /// Parts of it, and their places.
    pub fn parts<'a>(&'a self, moves: &'a [Move]) -> Filled<'a> {
        Filled {
            home: self,
            moves: Some(moves),
        }
    }
}

/// Where in host memory the bytes are that a device is to have, and where they belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled<'a> {
    home: &'a Pinned,
    /// `None`: all of it, where it is.
    moves: Option<&'a [Move]>,
}

impl Filled<'_> {
    /// Orders the copies to the device, of as many bytes as there is room for.
    pub fn copy_to(self, to: DeviceMemory, stream: &CudaStream) -> Result<(), DriverError> {
        self.home.context.bind_to_thread()?;
        let all = [Move {
            from: 0,
            to: 0,
            bytes: to.bytes.min(self.home.memory.len_bytes()),
        }];
        let copy = |home: &[u8]| {
            for &Move {
                from,
                to: at,
                bytes,
            } in self.moves.unwrap_or(&all)
            {
                assert!(
                    at + bytes <= to.bytes,
                    "{bytes} bytes at {at} of {}",
                    to.bytes
                );
                let from = &home[from..from + bytes];
                let to = to.address + at as u64;
                // SAFETY: both ranges are alive and of this size (see the module and
                // `DeviceMemory`), and nobody writes `from` before the copy is over.
                unsafe { result::memcpy_htod_async(to, from, stream.cu_stream())? };
            }
            Ok(())
        };
        self.home
            .memory
            .read(copy)
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

/// Where a tensor's first number lies on its device. Valid while somebody holds the tensor.
pub fn device_address(tensor: &Tensor) -> Result<u64, OffloadError> {
    fn start<T: CudaDType>(storage: &CudaStorage) -> candle_core::Result<sys::CUdeviceptr> {
        // Tracking is off, so the guard that comes with the address orders nothing.
        let stream = storage.device().cuda_stream();
        Ok(storage.as_cuda_slice::<T>()?.device_ptr(&stream).0)
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(OffloadError::NotDeviceMemory);
    };
    let start = match tensor.dtype() {
        DType::BF16 => start::<bf16>(storage)?,
        DType::F16 => start::<f16>(storage)?,
        _ => start::<f32>(storage)?,
    };
    Ok(start + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

/// Where memory of a device lies. Valid while somebody holds it.
pub fn slab_address(slab: &SlabBytes) -> Result<u64, OffloadError> {
    let (memory, start) = slab.on_device()?;
    Ok(device_address(memory)? + start as u64)
}

impl DeviceMemory {
    pub fn of(slab: &SlabBytes) -> Result<Self, OffloadError> {
        Ok(Self {
            address: slab_address(slab)?,
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

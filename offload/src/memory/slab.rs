//! Memory that blocks are in: bytes behind one lock in the host's memory, or a stretch of a
//! device's. A refill writes the bytes in place. Knows neither layouts nor what the bytes mean.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Device, Tensor};
use loader::DType;
use loader::huge_pages::{self, HUGE_PAGE_BYTES};

use crate::error::OffloadError;
use crate::memory::numa::NumaNode;
use crate::memory::zero_pages::zero_pages;

/// Memory smaller than a huge page starts on a page, and has its pages to itself: a driver that
/// pins memory for a device pins whole pages, and a disk brings whole ones.
const PAGE_BYTES: usize = loader::DIRECT_ALIGN_BYTES;

/// The memory of one block. Not `Clone`: whoever holds the slab is its state.
#[derive(Debug)]
pub struct Slab(SlabBytes);

/// A handle to a stretch of compute memory, for the link that fills it. It keeps the memory alive,
/// and every write takes its lock: a link that is late can be wrong, never unsound.
#[derive(Debug, Clone)]
pub struct SlabBytes {
    memory: Memory,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Memory {
    Host(Arc<RwLock<Pages>>),
    /// One row of numbers.
    Device(Tensor),
}

/// Bytes that begin at a page. Nothing backs them before they are written.
struct Pages {
    /// More than is used: a `Vec` begins anywhere.
    all: Vec<u8>,
    start: usize,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.all.len())
    }
}

impl Slab {
    /// Fresh memory for one block. `dtype`: what a device takes the numbers for.
    pub fn new(bytes: usize, dtype: DType, device: &Device) -> Result<Self, OffloadError> {
        Ok(Self(SlabBytes::new(bytes, dtype, device)?))
    }

    /// Makes the system back fresh memory of the host now, until the flag is raised.
    pub(crate) fn touch(&self, stop: &AtomicBool) {
        let _on_device = self.0.write(|bytes| {
            for page in bytes.chunks_mut(PAGE_BYTES) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                page[0] = 0;
            }
        });
    }

    pub fn bytes(&self) -> &SlabBytes {
        &self.0
    }
}

impl SlabBytes {
    /// Fresh memory of `bytes` bytes, of the host's or a device's.
    pub fn new(bytes: usize, dtype: DType, device: &Device) -> Result<Self, OffloadError> {
        match device {
            Device::Cpu => Self::host(bytes),
            device => {
                let numbers = bytes / dtype.bytes();
                let zeros = Tensor::zeros(numbers, candle_dtype(dtype), device);
                let memory = zeros.map_err(|error| out_of_memory(bytes, error))?;
                Ok(Self {
                    memory: Memory::Device(memory),
                    range: 0..bytes,
                })
            }
        }
    }

    /// Fresh memory of the host, which nothing backs before it is written.
    pub fn host(bytes: usize) -> Result<Self, OffloadError> {
        Ok(Self {
            memory: Memory::Host(Arc::new(RwLock::new(Pages::new(bytes)?))),
            range: 0..bytes,
        })
    }

    /// The most that memory of so many bytes takes of addresses beyond them. Nothing backs it.
    pub fn padding(bytes: usize) -> usize {
        // The whole pages, and what the allocator keeps before it.
        alignment(bytes) + 2 * PAGE_BYTES
    }

    /// Some of it.
    ///
    /// # Panics
    /// If it is shorter.
    pub fn part(&self, range: Range<usize>) -> Self {
        let start = self.range.start + range.start;
        let end = start + range.len();
        assert!(end <= self.range.end, "{range:?} of {:?}", self.range);
        Self {
            memory: self.memory.clone(),
            range: start..end,
        }
    }

    /// Its size.
    pub fn len_bytes(&self) -> usize {
        self.range.len()
    }

    pub fn is_host(&self) -> bool {
        matches!(self.memory, Memory::Host(_))
    }

    /// Whether both are of the same memory.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.memory, &other.memory) {
            (Memory::Host(one), Memory::Host(other)) => Arc::ptr_eq(one, other),
            (Memory::Device(one), Memory::Device(other)) => one.id() == other.id(),
            _ => false,
        }
    }

    /// How many hold this memory of the host, this one included: for tests that look for leaks.
    pub fn holders(&self) -> usize {
        match &self.memory {
            Memory::Host(pages) => Arc::strong_count(pages),
            Memory::Device(_) => 1,
        }
    }

    /// Asks for its pages on a node, where one is given (host memory only). To be called before it
    /// is filled.
    pub(crate) fn prefer(&self, node: Option<NumaNode>) -> Result<(), OffloadError> {
        match node {
            Some(node) => self.read(|bytes| node.prefer(bytes)),
            None => Ok(()),
        }
    }

    /// Numbers from byte `start` on, in a shape: on a device a view of them, on the host a copy.
    pub fn tensor(
        &self,
        start: usize,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Tensor, OffloadError> {
        let count: usize = shape.iter().product();
        let part = self.part(start..start + count * dtype.bytes());
        match &part.memory {
            Memory::Host(_) => part.read(|bytes| {
                let tensor =
                    Tensor::from_raw_buffer(bytes, candle_dtype(dtype), shape, &Device::Cpu);
                Ok(tensor?)
            })?,
            Memory::Device(memory) if memory.dtype() == candle_dtype(dtype) => {
                let first = part.range.start / dtype.bytes();
                Ok(memory.narrow(0, first, count)?.reshape(shape)?)
            }
            Memory::Device(_) => Err(OffloadError::OtherNumbers),
        }
    }

    /// All the memory that this is a part of, on a device: with where in it this begins.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "there is no device")
    )]
    pub(crate) fn on_device(&self) -> Result<(&Tensor, usize), OffloadError> {
        match &self.memory {
            Memory::Host(_) => Err(OffloadError::NotDeviceMemory),
            Memory::Device(memory) => Ok((memory, self.range.start)),
        }
    }

    /// Runs `write` over the bytes in place (host memory only).
    pub fn write<R>(&self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, OffloadError> {
        let Memory::Host(pages) = &self.memory else {
            return Err(OffloadError::NotHostMemory);
        };
        // Bytes are as good after a panic as before.
        let mut pages = pages.write().unwrap_or_else(PoisonError::into_inner);
        Ok(write(pages.part_mut(self.range.clone())))
    }

    /// Runs `read` over the bytes (host memory only). One lock for a whole block: readers that took
    /// one a weight could deadlock with a writer waiting between two of them.
    pub fn read<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Result<R, OffloadError> {
        let Memory::Host(pages) = &self.memory else {
            return Err(OffloadError::NotHostMemory);
        };
        let pages = pages.read().unwrap_or_else(PoisonError::into_inner);
        Ok(read(pages.part(self.range.clone())))
    }
}

/// Bytes of the host with one owner: written once, and then read through borrows. Nothing
/// backs them before they are written.
#[derive(Debug)]
pub struct HostBytes {
    pages: Pages,
    len: usize,
}

impl HostBytes {
    pub fn new(bytes: usize) -> Result<Self, OffloadError> {
        Ok(Self {
            pages: Pages::new(bytes)?,
            len: bytes,
        })
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pages.part(0..self.len)
    }
}

impl DerefMut for HostBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pages.part_mut(0..self.len)
    }
}

impl Pages {
    fn new(bytes: usize) -> Result<Self, OffloadError> {
        let align = alignment(bytes);
        let all = zero_pages::<u8>(bytes.next_multiple_of(PAGE_BYTES) + align)?;
        let start = all.as_ptr().align_offset(align);
        // As far as they are filled: the last would take memory that nobody planned.
        huge_pages::advise(&all[start..start + bytes - bytes % HUGE_PAGE_BYTES]);
        Ok(Self { all, start })
    }

    fn part(&self, range: Range<usize>) -> &[u8] {
        &self.all[self.start..][range]
    }

    fn part_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.all[self.start..][range]
    }
}

/// A device that has no room says so in words only.
fn out_of_memory(bytes: usize, error: candle_core::Error) -> OffloadError {
    let said = error.to_string();
    match said.contains("OUT_OF_MEMORY") {
        true => OffloadError::OutOfDeviceMemory {
            bytes: bytes as u64,
            said: "CUDA_ERROR_OUT_OF_MEMORY".into(),
        },
        false => error.into(),
    }
}

/// The tensor library's name of a dtype.
pub fn candle_dtype(dtype: DType) -> candle_core::DType {
    match dtype {
        DType::Bf16 => candle_core::DType::BF16,
        DType::F16 => candle_core::DType::F16,
        DType::F32 => candle_core::DType::F32,
    }
}

/// Where memory of so many bytes begins.
fn alignment(bytes: usize) -> usize {
    if bytes >= HUGE_PAGE_BYTES {
        HUGE_PAGE_BYTES
    } else {
        PAGE_BYTES
    }
}

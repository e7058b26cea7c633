//! One block's memory: a 1-D tensor and the weight views built over it once. A refill writes the
//! tensor's bytes in place and the views follow, because they share its storage. Knows the layout's offsets, not what the weights mean.
//!
//! In host memory a slab has room to begin somewhat later, so that a disk can bring bytes to an
//! address that suits their place in the file.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};
use half::vec::HalfBitsVecExt;
use loader::huge_pages::{self, HUGE_PAGE_BYTES};
use loader::{BlockLayout, BlockSource, DIRECT_ALIGN_BYTES, DType, Form, Role, Storage};

use crate::error::OffloadError;
use crate::numa::NumaNode;
use crate::zero_pages::zero_pages;

/// Slabs smaller than a huge page start on a page, and have their pages to themselves: a driver
/// that pins memory for a device pins whole pages.
const PAGE_BYTES: usize = 4096;

/// A block's bytes in compute memory. Not `Clone`: whoever holds the slab is its state.
#[derive(Debug)]
pub struct Slab {
    /// More than `bytes`, if it can be shifted.
    memory: SlabBytes,
    shift: usize,
    bytes: SlabBytes,
    layout: Arc<BlockLayout>,
    views: Vec<(Role, Tensor)>,
}

/// A handle to a stretch of compute memory, for the link that fills it. It keeps the memory alive, and every
/// write takes the storage's lock: a link that is late can be wrong, never unsound.
#[derive(Debug, Clone)]
pub struct SlabBytes(Tensor);

impl Slab {
    /// Fresh memory for one block. On the CPU it is not touched yet: pages appear when filled.
    pub fn new(layout: &Arc<BlockLayout>, device: &Device) -> Result<Self, OffloadError> {
        let room = match device {
            Device::Cpu => DIRECT_ALIGN_BYTES,
            _ => 0,
        };
        let memory = SlabBytes::new(layout.slab_bytes() + room, layout.dtype(), device)?;
        Self::over(memory, layout, 0)
    }

    /// The same memory as another slab, which begins `shift` bytes into it: less than
    /// [`DIRECT_ALIGN_BYTES`], and whole numbers. Only one of them holds a block at any time.
    pub(crate) fn shifted(&self, shift: usize) -> Result<Self, OffloadError> {
        Self::over(self.memory.clone(), &self.layout, shift)
    }

    fn over(
        memory: SlabBytes,
        layout: &Arc<BlockLayout>,
        shift: usize,
    ) -> Result<Self, OffloadError> {
        let bytes = memory.part(shift, layout.slab_bytes())?;
        let views = layout
            .placements()
            .iter()
            .filter(|placement| placement.form == Form::Plain)
            .map(|placement| {
                let elements = placement.shape.iter().product();
                let start = placement.offset / layout.dtype().bytes();
                let view = bytes
                    .0
                    .narrow(0, start, elements)?
                    .reshape(placement.shape.as_slice())?;
                Ok((placement.role, view))
            })
            .collect::<Result<_, candle_core::Error>>()?;
        Ok(Self {
            memory,
            shift,
            bytes,
            layout: Arc::clone(layout),
            views,
        })
    }

    /// All of its memory, in which it begins at `shift`.
    pub fn memory(&self) -> &SlabBytes {
        &self.memory
    }

    pub(crate) fn shift(&self) -> usize {
        self.shift
    }

    /// Makes the system back fresh memory of the host now, until the flag is raised.
    pub(crate) fn touch(&self, stop: &AtomicBool) {
        let _on_device = self.memory.write(|bytes| {
            for page in bytes.chunks_mut(PAGE_BYTES) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                page[0] = 0;
            }
        });
    }

    pub fn layout(&self) -> &Arc<BlockLayout> {
        &self.layout
    }

    /// The view of one weight, if the family has it, and its numbers lie plain.
    pub fn view(&self, role: Role) -> Option<&Tensor> {
        self.views
            .iter()
            .find(|(of, _)| *of == role)
            .map(|(_, view)| view)
    }

    pub fn bytes(&self) -> &SlabBytes {
        &self.bytes
    }
}

impl SlabBytes {
    /// Fresh memory of `bytes` bytes. On the CPU nothing backs it before it is written.
    pub fn new(bytes: usize, dtype: DType, device: &Device) -> Result<Self, OffloadError> {
        match device {
            Device::Cpu => Ok(Self(host_tensor(bytes, dtype)?)),
            device => {
                let elements = bytes / dtype.bytes();
                let zeros = Tensor::zeros(elements, candle_dtype(dtype), device);
                Ok(Self(zeros.map_err(|error| out_of_memory(bytes, error))?))
            }
        }
    }

    /// The most that memory of so many bytes takes of addresses beyond them. Nothing backs it.
    pub fn padding(bytes: usize) -> usize {
        // The whole pages, the room to begin later, and what the allocator keeps before it.
        alignment(bytes) + 2 * PAGE_BYTES + DIRECT_ALIGN_BYTES
    }

    /// Fresh memory for what is read once, in which a disk brings as much as can be to its place.
    pub fn for_source(
        source: &BlockSource,
        sources: &[Arc<dyn Storage>],
        device: &Device,
    ) -> Result<Self, OffloadError> {
        let bytes = source.slab_bytes();
        match device {
            Device::Cpu => Self::new(bytes + DIRECT_ALIGN_BYTES, source.dtype(), device)?
                .part(source.route(sources).shift, bytes),
            _ => Self::new(bytes, source.dtype(), device),
        }
    }

    /// So many bytes from there on, whole numbers.
    fn part(&self, start: usize, bytes: usize) -> Result<Self, OffloadError> {
        let number = self.0.dtype().size_in_bytes();
        Ok(Self(self.0.narrow(0, start / number, bytes / number)?))
    }

    /// Its size.
    pub fn len_bytes(&self) -> usize {
        self.0.elem_count() * self.0.dtype().size_in_bytes()
    }

    /// Asks for its pages on a node, where one is given (host memory only). To be called before it is
    /// filled.
    pub(crate) fn prefer(&self, node: Option<NumaNode>) -> Result<(), OffloadError> {
        match node {
            Some(node) => self.read(|bytes| node.prefer(bytes)),
            None => Ok(()),
        }
    }

    /// All of it, as one row of numbers.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// Runs `write` over the slab's bytes in place (host memory only).
    pub fn write<R>(&self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, OffloadError> {
        let op = WriteBytes {
            write: Cell::new(Some(write)),
            result: Cell::new(None),
        };
        self.0.inplace_op1(&op)?;
        op.result.into_inner().ok_or(OffloadError::NotHostMemory)
    }

    /// Runs `read` over the slab's bytes (host memory only). One lock for the whole block: readers
    /// that took one a weight could deadlock with a writer waiting between two of them.
    pub fn read<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Result<R, OffloadError> {
        let (storage, layout) = self.0.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            return Err(OffloadError::NotHostMemory);
        };
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        let bytes: &[u8] = match storage {
            CpuStorage::BF16(values) => bytemuck::cast_slice(&values[range]),
            CpuStorage::F16(values) => bytemuck::cast_slice(&values[range]),
            CpuStorage::F32(values) => bytemuck::cast_slice(&values[range]),
            _ => return Err(OffloadError::NotHostMemory),
        };
        Ok(read(bytes))
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

struct WriteBytes<F, R> {
    write: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(&mut [u8]) -> R> InplaceOp1 for WriteBytes<F, R> {
    fn name(&self) -> &'static str {
        "slab-write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        let bytes: &mut [u8] = match storage {
            CpuStorage::BF16(values) => bytemuck::cast_slice_mut(&mut values[range]),
            CpuStorage::F16(values) => bytemuck::cast_slice_mut(&mut values[range]),
            CpuStorage::F32(values) => bytemuck::cast_slice_mut(&mut values[range]),
            _ => return Ok(()),
        };
        if let Some(write) = self.write.take() {
            self.result.set(Some(write(bytes)));
        }
        Ok(())
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

/// An aligned 1-D CPU tensor over zero pages that the system has not backed yet. A `Vec` aligns to
/// its element only, so it is made longer and the tensor starts at the first aligned element.
fn host_tensor(bytes: usize, dtype: DType) -> Result<Tensor, OffloadError> {
    let align = alignment(bytes);
    let elements = bytes / dtype.bytes();
    let padded = (bytes.next_multiple_of(PAGE_BYTES) + align) / dtype.bytes();
    match dtype {
        DType::Bf16 => aligned(
            zero_pages::<u16>(padded)?.reinterpret_into::<half::bf16>(),
            elements,
            align,
        ),
        DType::F16 => aligned(
            zero_pages::<u16>(padded)?.reinterpret_into::<half::f16>(),
            elements,
            align,
        ),
        DType::F32 => aligned(zero_pages::<f32>(padded)?, elements, align),
    }
}

fn aligned<T: candle_core::WithDType>(
    values: Vec<T>,
    elements: usize,
    align: usize,
) -> Result<Tensor, OffloadError> {
    let start = values.as_ptr().align_offset(align);
    // As far as they are filled: the last would take memory that nobody planned.
    let whole = elements - elements % (HUGE_PAGE_BYTES / size_of::<T>());
    huge_pages::advise(&values[start..start + whole]);
    let all = values.len();
    Ok(Tensor::from_vec(values, all, &Device::Cpu)?.narrow(0, start, elements)?)
}

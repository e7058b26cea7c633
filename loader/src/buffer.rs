//! Memory that direct I/O can read into: a byte buffer whose first byte is aligned. It is reused
//! from chunk to chunk.
//!
//! Large buffers are mappings of their own. What the allocator hands out a second time is made of
//! small pages that were touched before, and a disk can read into those at half the speed.

use memmap2::MmapMut;

use crate::huge_pages::{self, HUGE_PAGE_BYTES};
use crate::storage::DIRECT_ALIGN_BYTES;

/// A reusable byte buffer aligned to [`DIRECT_ALIGN_BYTES`].
///
/// The alignment comes from a slightly larger allocation and an offset into it, which needs no
/// unsafe code: moving the owner does not move the memory.
#[derive(Debug)]
pub struct AlignedBuf {
    memory: Memory,
    start: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    Allocated(Vec<u8>),
}

impl Memory {
    /// It is in huge pages if it is large and the system gives them.
    fn new(bytes: usize, align: usize) -> Self {
        if align == HUGE_PAGE_BYTES
            && let Ok(mapped) = MmapMut::map_anon(bytes)
        {
            huge_pages::advise(&mapped);
            return Self::Mapped(mapped);
        }
        Self::Allocated(vec![0; bytes])
    }
}

impl AlignedBuf {
    /// A buffer of `bytes` bytes, rounded up to whole pages.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(DIRECT_ALIGN_BYTES);
        let align = match bytes < HUGE_PAGE_BYTES / 2 {
            true => DIRECT_ALIGN_BYTES,
            false => HUGE_PAGE_BYTES,
        };
        let memory = Memory::new(bytes.next_multiple_of(align) + align, align);
        let mut buffer = Self {
            memory,
            start: 0,
            bytes,
        };
        // `align_offset` may refuse in theory (never at run time for bytes); then nothing is
        // aligned, direct I/O says EINVAL and the storage falls back to the page cache.
        buffer.start = buffer.all().as_ptr().align_offset(align).min(align);
        buffer
    }

    fn all(&self) -> &[u8] {
        match &self.memory {
            Memory::Mapped(memory) => memory,
            Memory::Allocated(memory) => memory,
        }
    }

    /// A buffer that every [`crate::Chunk`] fits into.
    pub fn for_chunks() -> Self {
        Self::new(crate::chunk::CHUNK_BYTES)
    }

    /// Makes room for `bytes`; what the buffer held is lost if it has to grow.
    pub fn reserve(&mut self, bytes: usize) {
        if bytes > self.bytes {
            *self = Self::new(bytes);
        }
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.all()[self.start..self.start + self.bytes]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let memory: &mut [u8] = match &mut self.memory {
            Memory::Mapped(memory) => memory,
            Memory::Allocated(memory) => memory,
        };
        &mut memory[self.start..self.start + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_also_after_growing_and_moving() {
        for bytes in [1, 4095, 4096, 4097, 1 << 20] {
            let mut buf = AlignedBuf::new(bytes);
            assert!(buf.len() >= bytes);
            buf.reserve(bytes * 3);
            let moved = Box::new(buf);
            assert_eq!(moved.as_slice().as_ptr() as usize % DIRECT_ALIGN_BYTES, 0);
            assert!(moved.len() >= bytes * 3);
            assert_eq!(moved.as_slice().len(), moved.len());
        }
    }
}

//! Memory that the workers of one parallel region write together, and buffers aligned to cache
//! lines. Knows nothing of what is computed.
#![expect(unsafe_code, reason = "workers write disjoint parts of one slice")]
// A `Shared` is a mutable borrow that several workers hold at once. It is sound as long as no two
// workers touch the same elements in one phase, unless both only read; every caller of
// `get` and `get_mut` states why that holds. Bounds are checked here, always.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use super::memory::advise_huge_pages;

/// A mutable slice that several workers may use in disjoint parts.
#[derive(Debug)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: all access goes through the unsafe `get` and `get_mut`, whose callers promise disjointness.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares `slice` for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// A slice that workers only read, for what takes shared slices.
    ///
    /// # Safety
    /// Nothing is written through it.
    pub unsafe fn reading(slice: &'a [T]) -> Self {
        Shared {
            start: slice.as_ptr().cast_mut(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A part of it.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared part out of bounds"
        );
        Shared {
            start: self.start.wrapping_add(range.start),
            len: range.len(),
            borrow: PhantomData,
        }
    }

    /// Where a range starts: for parts that are finer than slices. Code that reads or writes
    /// through it promises what `get` and `get_mut` ask for.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared range out of bounds"
        );
        self.start.wrapping_add(range.start)
    }

    /// Elements to read.
    ///
    /// # Safety
    /// Nothing writes them while the result lives.
    #[inline]
    pub unsafe fn get(&self, range: Range<usize>) -> &'a [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared read out of bounds"
        );
        // SAFETY: in bounds of the borrowed slice; the caller promises that nothing writes.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Elements to write.
    ///
    /// # Safety
    /// Nothing else reads or writes them while the result lives.
    #[inline]
    pub unsafe fn get_mut(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared write out of bounds"
        );
        // SAFETY: in bounds of the borrowed slice; the caller promises that nothing else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Floats a cache line.
pub(crate) const LINE: usize = 16;

/// Zeroed floats that start on a cache line; the length is fixed.
pub(crate) struct Buffer {
    /// Longer by up to a line, of which the first float on a cache line is the buffer's first.
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Buffer({} floats)", self.len)
    }
}

impl Buffer {
    /// `len` zeros, for what is soon written all over. In huge pages, where the system grants them:
    /// rows of activations are far apart, a page each otherwise.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::growing(len);
        // This comes before the first touch.
        advise_huge_pages(&mut buffer.floats);
        buffer
    }

    /// `len` zeros, for what fills from one end, and mostly not to the other. They are the system's
    /// zero pages, which take memory and time when they are written: a cache is as long as the
    /// context, and its first row would take a huge page for each head of each layer.
    pub fn growing(len: usize) -> Self {
        let floats = vec![0.0; Self::floats_for(len)];
        let start = floats.as_ptr().align_offset(LINE * size_of::<f32>());
        Buffer { floats, start, len }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.floats)
    }

    /// Bytes that a buffer of `len` floats allocates.
    pub fn bytes_for(len: usize) -> usize {
        Self::floats_for(len) * size_of::<f32>()
    }

    /// Whole lines, and one more, because a `Vec` begins anywhere.
    fn floats_for(len: usize) -> usize {
        len.next_multiple_of(LINE) + LINE
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..self.start + self.len]
    }
}

/// `n` rounded up to a multiple of `step`.
pub(crate) const fn round_up(n: usize, step: usize) -> usize {
    n.div_ceil(step) * step
}

//! Memory that the workers of one parallel region write together, and buffers aligned to cache
//! lines. Knows nothing of what is computed.
#![expect(unsafe_code, reason = "workers write disjoint parts of one slice")]
// A `Shared` is a mutable borrow that several workers hold at once. It is sound as long as no two
// workers touch the same elements between two barriers, unless both only read; every caller of
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

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where a range starts: for parts that are finer than slices. Whoever reads or writes through
    /// it promises what `get` and `get_mut` ask for.
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
    /// Nobody writes them while the result lives.
    #[inline]
    pub unsafe fn get(&self, range: Range<usize>) -> &'a [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared read out of bounds"
        );
        // SAFETY: in bounds of the borrowed slice; the caller promises that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Elements to write.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the result lives.
    #[inline]
    pub unsafe fn get_mut(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "shared write out of bounds"
        );
        // SAFETY: in bounds of the borrowed slice; the caller promises that nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Floats a cache line.
pub(crate) const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Zeroed floats that start on a cache line; the length is fixed.
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Buffer({} floats)", self.len)
    }
}

impl Buffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let mut lines = Vec::with_capacity(count);
        // Before the first touch: rows of activations are far apart, a page each otherwise.
        advise_huge_pages(lines.spare_capacity_mut());
        lines.resize(count, Line([0.0; LINE]));
        Buffer { lines, len }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is an array of floats without padding, and `len` fits the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// `n` rounded up to a multiple of `step`.
pub(crate) const fn round_up(n: usize, step: usize) -> usize {
    n.div_ceil(step) * step
}

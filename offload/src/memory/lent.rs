#![expect(
    unsafe_code,
    reason = "a slab's bytes are written by several threads at once"
)]
//! A slab's bytes, lent to threads that each write a part of their own.
//!
//! Sound because whoever lends them holds the slab's lock, and does not let go of it before every
//! borrower has said that it is through ([`Lent::to`] waits, come what may); and because no two
//! parts that are asked for overlap, which [`loader::BlockSource::chunks`] sees to.

use std::ops::Range;

/// A slab's bytes while threads write them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lent {
    start: *mut u8,
    len: usize,
}

// SAFETY: it is plain memory, and what may be done with it is said at `part`.
unsafe impl Send for Lent {}

impl Lent {
    /// Lends `bytes` to `borrow`, which gives them to other threads, and then waits for those in
    /// `until_over`.
    pub fn to(bytes: &mut [u8], borrow: impl FnOnce(Self), until_over: impl Fn()) {
        // Also where `borrow` panics.
        let _over = OnDrop(until_over);
        borrow(Self {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
        });
    }

    /// A range of the slab's bytes.
    ///
    /// # Safety
    /// The lender is waiting still, and nobody else has asked, or will ask, for a byte of this
    /// range while what is returned is in use.
    ///
    /// # Panics
    /// If the slab is shorter.
    pub unsafe fn part<'a>(self, range: Range<usize>) -> &'a mut [u8] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?}"
        );
        // SAFETY: the range is inside the slab, whose memory the lender keeps from everybody else,
        // and the caller promises the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

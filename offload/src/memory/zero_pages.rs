//! Zeroed memory that nothing backs before it is written, or an error where there is none. (Asking
//! with `try_reserve` first, and giving back, teaches the C library to take the next from its heap,
//! where it has to write the zeros itself, all of them.)
//!
//! The system is asked first, and not through the allocator: a program's own may end it where there
//! is none, and whoever asks for layers can ask for fewer.
//!
//! Nothing backs large memory either that the allocator kept from a model before: a process that
//! opens many would have its slots in small pages, which a disk fills at four fifths of its rate.
#![expect(
    unsafe_code,
    reason = "the allocator has zeroed memory, and a Vec no way to ask for it"
)]
// Sound because the memory has the layout of the Vec's, is as long, and holds zeros, which every
// `Pod` may be. What the system is asked for on trial is nobody else's, and given back whole.

use std::alloc::{Layout, alloc_zeroed};
#[cfg(unix)]
use std::ptr;

use bytemuck::Pod;
use loader::huge_pages::{self, HUGE_PAGE_BYTES};

use crate::error::OffloadError;

pub(crate) fn zero_pages<T: Pod>(elements: usize) -> Result<Vec<T>, OffloadError> {
    let refused = || OffloadError::OutOfMemory {
        bytes: (elements as u64).saturating_mul(size_of::<T>() as u64),
    };
    let layout = Layout::array::<T>(elements).map_err(|_| refused())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    try_memory(layout.size())?;
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(refused());
    }
    // SAFETY: see the top of the file.
    let mut values = unsafe { Vec::from_raw_parts(start.cast(), elements, elements) };
    if layout.size() >= HUGE_PAGE_BYTES {
        huge_pages::renew(bytemuck::cast_slice_mut::<T, u8>(&mut values));
    }
    Ok(values)
}

/// Whether the system gives so much memory now. Nothing is touched, and it is given back at once.
pub fn try_memory(bytes: usize) -> Result<(), OffloadError> {
    // What is as small comes from the allocator's stock.
    #[cfg(unix)]
    if bytes >= HUGE_PAGE_BYTES {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: new memory, wherever the system likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            let bytes = bytes as u64;
            return Err(OffloadError::OutOfMemory { bytes });
        }
        // SAFETY: exactly that memory, to which nothing refers.
        unsafe { libc::munmap(start, bytes) };
    }
    let _ = bytes;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_zero_and_too_many_are_an_error() {
        for elements in [0, 1, 1000, 1 << 22] {
            let values = zero_pages::<u32>(elements).expect("a few megabytes");
            assert!(values.len() == elements && values.iter().all(|value| *value == 0));
        }
        for elements in [usize::MAX, usize::MAX / 4, 1 << 60] {
            assert!(matches!(
                zero_pages::<u32>(elements),
                Err(OffloadError::OutOfMemory { .. })
            ));
            let tried = try_memory(elements);
            assert!(matches!(tried, Err(OffloadError::OutOfMemory { .. })));
        }
    }
}

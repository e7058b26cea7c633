#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "madvise takes a raw address range")
)]
//! Asks the system to back large buffers with huge pages. Advice only: where it is refused or does
//! not exist, nothing changes. Sound because the advice never alters the contents.
//!
//! * Reading weights is bound by memory, and misses of the page-table cache cost 10 % and more.
//! * A direct read into one huge page is one segment of memory to the disk. In pages of 4 KiB a
//!   megabyte is 256, which some disks do not take in one request.

/// A huge page of the common kind.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Advises the whole pages inside `values`. Best called before the memory is first touched.
pub fn advise<T>(values: &[T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE_BYTES: usize = 4096;
        let start = values.as_ptr().addr().next_multiple_of(PAGE_BYTES);
        let end = (values.as_ptr().addr() + size_of_val(values)) / PAGE_BYTES * PAGE_BYTES;
        if end > start {
            let at = values.as_ptr().with_addr(start);
            // SAFETY: the range lies inside `values`, which is mapped; MADV_HUGEPAGE changes how
            // the pages are backed, never what they hold.
            unsafe {
                libc::madvise(at.cast_mut().cast(), end - start, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}

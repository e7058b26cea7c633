#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        reason = "madvise takes a raw address range, and sysconf is foreign"
    )
)]
//! Asks the system to back large buffers with huge pages. Advice only: where it is refused or does
//! not exist, nothing changes. Sound because the advice never alters the contents, and what is
//! renewed is borrowed to be written.
//!
//! * Reading weights is bound by memory, and misses of the page-table cache cost 10 % and more.
//! * A direct read into one huge page is one segment of memory to the disk. In pages of 4 KiB a
//!   megabyte is 256, which some disks do not take in one request.

/// A huge page of the common kind.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Advises the whole pages inside `values`. Best called before the memory is first touched.
pub fn advise<T>(values: &[T]) {
    #[cfg(target_os = "linux")]
    if let Some((start, bytes)) =
        whole_pages(values.as_ptr().cast_mut().cast(), size_of_val(values))
    {
        // SAFETY: the range lies inside `values`, which is mapped; MADV_HUGEPAGE changes how the
        // pages are backed, never what they hold.
        unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}

/// Gives back what backs the whole pages of `zeros`, for memory that an allocator hands out a
/// second time: it comes anew when it is touched, as it was advised. Where that is refused, nothing
/// changes.
pub fn renew(zeros: &mut [u8]) {
    #[cfg(target_os = "linux")]
    if let Some((start, bytes)) = whole_pages(zeros.as_mut_ptr(), zeros.len()) {
        // SAFETY: the range is whole pages of the system's, so that nothing is rounded, inside
        // `zeros`, which is borrowed to be written; every byte of it is 0 when it is read next.
        unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = zeros;
}

#[cfg(target_os = "linux")]
fn whole_pages(start: *mut u8, bytes: usize) -> Option<(*mut libc::c_void, usize)> {
    let page_bytes = page_bytes()?;
    let first = start.addr().checked_next_multiple_of(page_bytes)?;
    let end = (start.addr() + bytes) / page_bytes * page_bytes;
    (end > first).then(|| (start.with_addr(first).cast(), end - first))
}

/// The size of this system's pages: ARM has larger ones than 4 KiB.
#[cfg(target_os = "linux")]
fn page_bytes() -> Option<usize> {
    // SAFETY: it takes and returns integers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|&bytes| bytes > 0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_are_renewed_and_their_neighbours_stay() {
        let page_bytes = page_bytes().unwrap();
        let mut values = vec![7; 256 * page_bytes];
        let last = values.len() - 1;
        renew(&mut values[1..last]);
        let zeros = values.iter().filter(|&&value| value == 0).count();
        assert!(zeros >= 254 * page_bytes, "{zeros}");
        assert_eq!((values[0], values[last]), (7, 7));
        renew(&mut values[1..100]);
        assert!(values.iter().filter(|&&value| value == 0).count() == zeros);
    }
}

//! Asking the system for huge pages and touching fresh memory with the threads that will read it.
//! Knows nothing of what the memory holds, and allocates none.
#![expect(
    unsafe_code,
    reason = "one system call on a borrowed range, and volatile writes"
)]
// Sound because the advice changes how memory is mapped, never what it holds, and because the
// range that is advised or touched is borrowed for the call.

use super::shared::Shared;
use super::team::Team;

/// Asks the system to back `memory` with huge pages. Advice only: whether it was taken shows in
/// the speed, not here. Returns whether the system accepted it.
pub fn advise_huge_pages<T>(memory: &mut [T]) -> bool {
    #[cfg(target_os = "linux")]
    {
        const PAGE_BYTES: usize = 4096;
        let first = (memory.as_ptr() as usize).next_multiple_of(PAGE_BYTES);
        let end = (memory.as_ptr() as usize + size_of_val(memory)) / PAGE_BYTES * PAGE_BYTES;
        if first >= end {
            return false;
        }
        // SAFETY: whole pages inside the borrowed range; the call only changes their mapping.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = memory;
        false
    }
}

/// Writes a zero to every page of `memory` from all workers, so that the system hands the pages
/// out now and in parallel. Destroys what the first byte of each page held.
pub fn touch_in_parallel(team: &Team, memory: &mut [u8]) {
    const STEP_BYTES: usize = 4096;
    let shared = Shared::new(memory);
    team.run(|worker| {
        let share = worker.share(shared.len(), STEP_BYTES);
        // SAFETY: the shares of the workers do not overlap.
        let bytes = unsafe { shared.get_mut(share) };
        for byte in bytes.iter_mut().step_by(STEP_BYTES) {
            // SAFETY: a reference is valid for a write; volatile, so that it is not left out.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_zeroes_one_byte_a_page_and_advice_keeps_content() {
        let mut memory = vec![7u8; 5 << 20];
        advise_huge_pages(&mut memory);
        assert!(memory.iter().all(|byte| *byte == 7));
        touch_in_parallel(&Team::new(3), &mut memory);
        assert_eq!(
            memory.iter().filter(|byte| **byte == 0).count(),
            (5 << 20) / 4096
        );
        assert!(!advise_huge_pages(&mut memory[1..100]));
    }
}

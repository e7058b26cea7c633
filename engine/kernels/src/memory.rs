//! Asking the system for huge pages, and reading memory as fast as it comes: the ceiling that other
//! rates are compared with. Knows nothing of what the memory holds, and allocates none.
#![expect(
    unsafe_code,
    reason = "one system call on a borrowed range, and vector loads"
)]
// Sound because the advice changes how memory is mapped, never what it holds, and because the
// range that is advised or read is borrowed for the call.

use super::ahead::{Ahead, LINE_BYTES};
use super::isa::{Isa, Kernel, dispatch};
use super::team::{Cut, Team};

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

/// Reads all of `memory` once, with all workers, and does next to nothing with it: the time this
/// takes is the least that anything which reads as much can take.
pub fn read_in_parallel(team: &Team, memory: &[u8]) {
    const PIECE_BYTES: usize = 16 * 1024;
    let cut = Cut::at_least(PIECE_BYTES, memory.len(), team.threads());
    team.deal(cut, |piece, _| {
        // SAFETY: levels in use are supported.
        unsafe { dispatch(team.level(), Read(&memory[piece])) };
    });
}

struct Read<'a>(&'a [u8]);

impl Kernel for Read<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        const STREAMS: usize = 4;
        // The largest number: unlike a sum it takes the same time whatever the bits mean.
        // SAFETY: the instructions are supported, and all loads lie inside a chunk.
        unsafe {
            let mut tops = [I::splat(0.0); STREAMS];
            let stream_bytes = self.0.len() / STREAMS / LINE_BYTES * LINE_BYTES;
            let start = self.0.as_ptr();
            let mut ahead = Ahead::of::<I>(start.wrapping_add(self.0.len()));
            for at in (0..stream_bytes).step_by(LINE_BYTES) {
                for (stream, top) in tops.iter_mut().enumerate() {
                    let line = start.add(stream * stream_bytes + at);
                    ahead.line::<I>(line.wrapping_add(Ahead::near_bytes::<I>()));
                    for part in 0..LINE_BYTES / 4 / I::LANES {
                        *top = I::max(*top, I::load(line.cast::<f32>().add(part * I::LANES)));
                    }
                }
            }
            for top in tops {
                std::hint::black_box(I::top(top));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_keeps_content_and_needs_a_whole_page() {
        let mut memory = vec![7u8; 5 << 20];
        advise_huge_pages(&mut memory);
        assert!(memory.iter().all(|byte| *byte == 7));
        assert!(!advise_huge_pages(&mut memory[1..100]));
    }
}

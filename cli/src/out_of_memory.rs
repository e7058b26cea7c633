//! The allocator of last resort. The plan keeps within the memory there is, and says so with its
//! numbers; what runs out all the same (a limit that is set later, another program) ends the
//! process with words and an exit code, where the standard library would abort it.

#![expect(
    unsafe_code,
    reason = "the trait is unsafe; every call goes to the system's allocator as it came, which is \
              told one number before that"
)]
// Sound because nothing is done with the memory: calls are handed on unchanged, and the only thing
// added is that a null pointer ends the process instead of being returned.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::output;

/// As `--help` promises it.
const OUT_OF_MEMORY: i32 = 4;

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

struct OrEnd;

/// What is so large is mapped, and goes back to the system when it is freed: 1 MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// Has the system's allocator map what is large. Left to itself it takes ever larger pieces from its
/// heap, up to 32 MiB, and keeps them when they are free: 20 to 66 MiB that no plan can know. To be
/// called before there are threads.
pub fn map_what_is_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes two integers, and no other thread is there to allocate.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}

/// Where the address space is limited, all threads share one heap. The system's allocator would
/// reserve 64 MiB for one of its own for each, which no plan counts, and whose want the C library
/// itself answers with an abort. To be called before there are threads.
pub fn share_one_heap_if_limited() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if engine::memory::address_space_limit_bytes().is_some() {
        // SAFETY: takes two integers, and no other thread is there to allocate.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

// SAFETY: see the top of the file.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn or_end(memory: *mut u8, bytes: usize) -> *mut u8 {
    match memory.is_null() {
        true => end(bytes),
        false => memory,
    }
}

/// Allocates nothing.
#[cold]
fn end(bytes: usize) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        // Another thread is at it, and takes this one along.
        loop {
            thread::park();
        }
    }
    // An error in telling cannot be told.
    let _ = writeln!(
        io::stderr().lock(),
        "error: the system refused {bytes} bytes of memory\n\
         hint: keep fewer layers resident (--num-gpu-layers), use a shorter --context, or raise \
         the limit (ulimit -v, ulimit -d)"
    );
    output::abandon_if_free();
    process::exit(OUT_OF_MEMORY)
}

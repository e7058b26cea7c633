//! What the targets share: an allocator that ends the run when an input makes the program hold more
//! than it may, which a fuzzer sees as a crash; and what to do about panics.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is held; over the limit it aborts.
#[derive(Debug)]
pub struct Watched {
    held_bytes: AtomicUsize,
    most_bytes: AtomicUsize,
}

impl Watched {
    pub const fn new() -> Self {
        Self {
            held_bytes: AtomicUsize::new(0),
            most_bytes: AtomicUsize::new(usize::MAX),
        }
    }

    /// Runs `work`, which may hold `most_bytes` more than is held now.
    pub fn within<T>(&self, most_bytes: usize, work: impl FnOnce() -> T) -> T {
        let now_bytes = self.held_bytes.load(Ordering::Relaxed);
        self.most_bytes
            .store(now_bytes + most_bytes, Ordering::Relaxed);
        let done = work();
        self.most_bytes.store(usize::MAX, Ordering::Relaxed);
        done
    }

    fn take(&self, bytes: usize) {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.most_bytes.load(Ordering::Relaxed) {
            self.most_bytes.store(usize::MAX, Ordering::Relaxed);
            eprintln!("{bytes} bytes asked for, which makes {held}: more than this input may take");
            std::process::abort();
        }
    }
}

impl Default for Watched {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.held_bytes.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Other crates' panics that become errors are no findings; all others are.
#[cfg(feature = "engine")]
pub fn caught_panics_are_fine() {
    std::panic::set_hook(Box::new(|panic| {
        if !engine::text::panics_are_errors() {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

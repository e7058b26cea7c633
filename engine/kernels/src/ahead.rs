//! Asking for memory before it is needed, line by line in its own order, while it is read by rows:
//! left to itself the processor finds the start of every next group of rows cold. Knows nothing of
//! what is read.
#![expect(unsafe_code, unsafe_op_in_unsafe_fn, reason = "prefetch instructions")]
// Sound because a prefetch reads nothing: any address will do. The instructions are promised by
// the kernel's caller.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};

use super::isa::Isa;
use super::level::Level;

/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// In one step, straight into the first-level cache, where nothing was timed. On a Zen 5 this reads
/// bf16 rows as fast as plain reads go; 4 to 16 KiB are alike, two steps are 3 % slower.
const AHEAD_BYTES: usize = 8 * 1024;
/// In two steps, how far into the second-level cache. Measured on a Xeon with AMX only.
const FAR_BYTES: usize = 16 * 1024;
/// And how far ahead in each row from there.
const NEAR_BYTES: usize = 512;

/// How memory is asked for ahead. It changes the speed, and no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// So many bytes ahead, into the first-level cache.
    Once(usize),
    /// Into the second-level cache, and nearer into the first. On x86 with AVX-512.
    Twice,
}

impl Asking {
    /// What a level does where nothing was timed.
    pub fn usual(level: Level) -> Self {
        match level {
            Level::Amx => Self::Twice,
            _ => Self::Once(AHEAD_BYTES),
        }
    }

    /// What is worth trying at a level.
    pub fn all(level: Level) -> &'static [Self] {
        const ONCE: [Asking; 2] = [Asking::Once(AHEAD_BYTES), Asking::Once(2048)];
        const BOTH: [Asking; 3] = [ONCE[0], ONCE[1], Asking::Twice];
        match level {
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => &BOTH,
            _ => &ONCE,
        }
    }

    /// The one in use.
    pub fn current(level: Level) -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            0 => Self::usual(level),
            TWICE => Self::Twice,
            bytes => Self::Once(bytes),
        }
    }

    /// Uses it from now on, in the whole process: it is a matter of the processor.
    pub fn choose(self) {
        let chosen = match self {
            Self::Twice => TWICE,
            Self::Once(bytes) => bytes,
        };
        CHOSEN.store(chosen, Ordering::Relaxed);
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once(bytes) => write!(f, "{} KiB ahead", bytes / 1024),
            Self::Twice => f.write_str("in two steps"),
        }
    }
}

/// 0 until one is chosen; else the bytes of one step, or this.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);
const TWICE: usize = usize::MAX;

/// A place in memory that runs ahead of the reading.
pub(crate) struct Ahead(*const u8);

impl Ahead {
    /// For a reader of what ends at `end`, who goes on there.
    #[inline(always)]
    pub fn of<I: Isa>(end: *const u8) -> Self {
        let by = if I::ASKS_TWICE {
            FAR_BYTES
        } else {
            match CHOSEN.load(Ordering::Relaxed) {
                0 | TWICE => AHEAD_BYTES,
                bytes => bytes,
            }
        };
        Ahead(end.wrapping_add(by))
    }

    /// How far ahead in its own row each line is asked for as well: not at all, if 0.
    #[inline(always)]
    pub const fn near_bytes<I: Isa>() -> usize {
        if I::ASKS_TWICE { NEAR_BYTES } else { 0 }
    }

    /// To be called before each line is read, with the one near it that will be read soon.
    ///
    /// # Safety
    /// The instructions of `I` are supported.
    #[inline(always)]
    pub unsafe fn line<I: Isa>(&mut self, near: *const u8) {
        if I::ASKS_TWICE {
            I::prefetch(near);
            I::prefetch_far(self.0);
        } else {
            I::prefetch(self.0);
        }
        self.0 = self.0.wrapping_add(LINE_BYTES);
        // Left to itself the compiler gathers the loads of several lines behind their prefetches;
        // one line at a time reads a sixth faster.
        compiler_fence(Ordering::SeqCst);
    }
}

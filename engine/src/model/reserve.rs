//! What a run takes beside what its plan knows to the byte. The numbers are from runs: plans of 0.2
//! to 3 GB, with 2 to 60 threads, took 4 to 9 MiB more than planned of the memory that is touched.
//! Limits on what is asked for, touched or not, count stacks whole, and what makes slabs begin at
//! even addresses: 80 to 160 MiB more. Knows sizes, and not where layers go.

use loader::{BlockSource, READ_THREADS};
use offload::{ReserveBytes, SlabBytes};

use crate::machine::memory::LimitKind;

/// The program: its heap, what is touched of stacks, read buffers, small tables.
const PROGRAM: u64 = 16 << 20;

/// A vocabulary in memory is 5 to 9 times its file: two maps of 150,000 words, and their merges.
const TOKENIZER_TIMES: u64 = 9;

/// A page table takes a byte for 512, where pages are small; twice that, because what is asked for
/// is more than what is planned.
const PAGE_TABLES_ONE_IN: u64 = 256;

/// What the standard library gives a thread, and a page that guards it.
const STACK: u64 = (2 << 20) + 4096;

/// Threads for prefetching, touching slots, the head, the embedding, checksums and copies.
const OTHER_THREADS: usize = 6;

/// Embedding, norm, head, and a block while it is packed.
const OTHER_SLABS: u64 = 4;

/// The most that a tokenizer takes whose vocabulary has so many bytes in its file.
pub(crate) fn tokenizer_bytes(vocabulary_bytes: u64) -> u64 {
    TOKENIZER_TIMES * vocabulary_bytes
}

/// What is known of a run before it is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of the tokenizer's file.
    pub tokenizer: u64,
    pub slab: usize,
    /// The largest read that loading makes in one go, in chunks.
    pub chunks: usize,
    pub compute_threads: usize,
    /// That read streamed layers.
    pub stream_threads: usize,
}

impl Sizes {
    /// What is kept of a limit of this kind.
    pub fn reserve(&self, kind: LimitKind) -> ReserveBytes {
        let program = PROGRAM + tokenizer_bytes(self.tokenizer);
        match kind {
            // It is the user's word, and the plan's alone; a device has neither threads nor tables.
            LimitKind::Given | LimitKind::Device => ReserveBytes::default(),
            LimitKind::Available | LimitKind::ControlGroup => ReserveBytes {
                fixed: program,
                one_in: PAGE_TABLES_ONE_IN,
                ..ReserveBytes::default()
            },
            LimitKind::AddressSpace | LimitKind::DataSize | LimitKind::Committed => {
                let asked = self.asked();
                ReserveBytes {
                    fixed: program + asked.fixed,
                    ..asked
                }
            }
        }
    }

    /// The part of it that loading asks for itself.
    pub fn asked(&self) -> ReserveBytes {
        // The head is read beside the layers.
        let readers = 2 * READ_THREADS.min(self.chunks);
        let threads = self.compute_threads.saturating_sub(1) + readers + OTHER_THREADS;
        let each_slab = SlabBytes::padding(self.slab) as u64;
        ReserveBytes {
            fixed: threads as u64 * STACK + OTHER_SLABS * each_slab,
            streaming: self.stream_threads as u64 * STACK,
            each_slab,
            one_in: 0,
        }
    }
}

/// How many reads bring these.
pub(crate) fn chunks<'a>(sources: impl IntoIterator<Item = &'a BlockSource>) -> usize {
    let chunks = sources.into_iter().map(|source| source.chunks().len());
    chunks.max().unwrap_or(0)
}

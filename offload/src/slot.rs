//! A slot: one slab that blocks pass through. **Whoever holds the slot is its state**: in the
//! `free` channel it is empty, in a ticket it is being filled, in a visit it is read. There is no
//! state to read and none to forget to update.

use std::time::Instant;

use crate::slab::Slab;

/// Not `Clone`, on purpose.
#[derive(Debug)]
pub struct Slot {
    pub(crate) slab: Slab,
    /// Its place among the ring's slots: for records, never for decisions.
    pub(crate) index: u16,
    /// When it was last given to the ring. With prefetch, that orders its next load: what comes
    /// next is known, and nobody needs to ask.
    pub(crate) free_since: Instant,
}

impl Slot {
    pub fn new(slab: Slab) -> Self {
        Self {
            slab,
            index: 0,
            free_since: Instant::now(),
        }
    }

    /// The memory to fill.
    pub fn slab(&self) -> &Slab {
        &self.slab
    }

    /// Its place among the ring's slots.
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }
}

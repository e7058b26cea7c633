//! A slot: one slab's memory that blocks pass through. **Whoever holds the slot is its state**: in
//! the `free` channel it is empty, in a ticket it is being filled, in a visit it is read. There is
//! no state to read and none to forget to update.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use crate::memory::slab::Slab;

/// Not `Clone`, on purpose.
#[derive(Debug)]
pub struct Slot {
    slab: Slab,
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

    /// Whether a fresh one had better be touched before it is filled. A device's memory is there.
    pub(crate) fn is_large(&self) -> bool {
        let memory = self.slab.bytes();
        memory.is_host() && memory.len_bytes() >= SMALL_BYTES
    }

    /// Its place among the ring's slots.
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }
}

/// Memory that the system backs in no time worth a thread.
const SMALL_BYTES: usize = 8 << 20;

/// Large fresh slots on their way into the ring. Dropping it ends that: the others stay out, and no
/// thread is left.
#[derive(Debug)]
pub(crate) struct Touching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Touching {
    /// Touches slots on a thread of its own and gives each to the ring when that is done: what
    /// fills them does not have to wait for a system that is slow to find memory, as the guest of a
    /// host is that took it back.
    pub fn start(slots: Vec<Slot>, free: &Sender<Slot>) -> Self {
        // Cannot fail while the ring is there, and there is room for every slot.
        let give = |slot, free: &Sender<Slot>| drop(free.send(slot));
        let (queue, queued) = bounded::<Slot>(slots.len());
        let (rest, stop) = (free.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let touch = move || {
            for mut slot in queued {
                slot.slab().touch(&stopped);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                slot.free_since = Instant::now();
                give(slot, &rest);
            }
        };
        let thread = thread::Builder::new().name("slots".into()).spawn(touch);
        for slot in slots {
            match thread {
                // There is room, and the thread takes all of them.
                Ok(_) => drop(queue.send(slot)),
                // It was refused: then they are touched as they are filled.
                Err(_) => give(slot, free),
            }
        }
        Self {
            stop,
            thread: thread.ok(),
        }
    }
}

impl Drop for Touching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use loader::DType;

    use super::*;

    fn slot(bytes: usize) -> Slot {
        Slot::new(Slab::new(bytes, DType::Bf16, &Device::Cpu).unwrap())
    }

    #[test]
    fn slots_arrive_and_no_thread_is_left() {
        let (free, arrived) = bounded(2);
        let touching = Touching::start(vec![slot(4096), slot(4096)], &free);
        for _ in 0..2 {
            arrived.recv().unwrap();
        }
        drop(touching);
        drop(free);
        assert!(arrived.recv().is_err(), "somebody still holds an end");
    }

    #[test]
    fn a_slot_that_nobody_waits_for_any_more_is_not_touched_to_its_end() {
        // 800 MB that nothing backs: many milliseconds.
        let large = slot(800 << 20);
        assert!(large.is_large());
        let (free, arrived) = bounded(1);
        drop(Touching::start(vec![large], &free));
        assert!(arrived.try_recv().is_err());
    }
}

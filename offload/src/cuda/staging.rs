//! The staging ring: what cannot be read by the device itself (files, memory that could not be
//! pinned) passes through a few pinned buffers. Three stages overlap: a host link fills one buffer
//! while another is copied to its slot and a third waits for its turn.
//!
//! ```text
//! carry -> [stager: free buffer, host link starts to fill it] -> [forwarder: filled, order the
//!           copy, wait for it] -> buffer is free again
//! ```
//!
//! Both threads may wait as they like: they are neither the prefetch thread nor the visit's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use candle_core::Device;
use crossbeam_channel::{Receiver, Sender, bounded};
use loader::{DType, Move};

use super::pinned::{Filled, Pinned};
use super::streams::Streams;
use super::visit::PendingCopy;
use crate::block::BlockId;
use crate::error::{LinkError, OffloadError};
use crate::links::{Link, Mark};
use crate::memory::numa::NumaNode;
use crate::memory::slab::{Slab, SlabBytes};
use crate::place::Homes;
use crate::ring::slot::Slot;

/// One filling, one being copied, one waiting for either.
const BUFFERS: usize = 3;

#[derive(Debug)]
pub(super) struct Staging {
    jobs: Option<Sender<StagedCopy>>,
    threads: Vec<JoinHandle<()>>,
}

struct StagedCopy {
    block: BlockId,
    copy: PendingCopy,
}

/// A pinned buffer, as the slot that a host link fills.
#[derive(Debug)]
pub(super) struct Buffer {
    slot: Slot,
    pinned: Pinned,
}

/// A buffer that is being filled.
struct Filling {
    job: StagedCopy,
    buffer: Buffer,
    mark: Arc<dyn Mark>,
}

impl Buffer {
    pub fn memory(&self) -> &SlabBytes {
        self.pinned.memory()
    }

    /// What is filled; `moves`: where it belongs, if that is elsewhere than it is.
    fn filled<'a>(&'a self, moves: Option<&'a Vec<Move>>) -> Filled<'a> {
        match moves {
            Some(moves) => self.pinned.parts(moves),
            None => self.pinned.all(),
        }
    }
}

impl Staging {
    /// Pins buffers of so many bytes, on a node of the host where one is given.
    pub fn buffers(
        streams: &Streams,
        near: Option<NumaNode>,
        bytes: usize,
    ) -> Result<Vec<Buffer>, OffloadError> {
        let buffer = |index| {
            let slot = buffer_slot(bytes, index)?;
            let memory = slot.slab().bytes().clone();
            memory.prefer(near)?;
            match Pinned::new(streams.context(), memory) {
                Ok(pinned) => Ok(Buffer { slot, pinned }),
                Err(error) => Err(OffloadError::NotPinned {
                    bytes: bytes as u64,
                    said: error.to_string(),
                }),
            }
        };
        (0..BUFFERS).map(buffer).collect()
    }

    /// Starts to carry blocks through the buffers, from `homes` to `slots` slots. A block without
    /// `moves` lies there as in its buffer.
    pub fn start(
        buffers: Vec<Buffer>,
        homes: Homes,
        moves: BTreeMap<BlockId, Vec<Move>>,
        slots: usize,
    ) -> Result<Self, OffloadError> {
        let (free, free_end) = bounded(BUFFERS);
        for buffer in buffers {
            // Cannot fail: the other end is here, and there is room.
            let _ = free.send(buffer);
        }
        let link = homes.into_host_link(BUFFERS)?;
        let (jobs, jobs_end) = bounded(slots);
        let (filling, filling_end) = bounded(BUFFERS);
        let stager = thread::Builder::new()
            .name("stager".into())
            .spawn(move || stage(link, &jobs_end, &free_end, &filling));
        let forwarder = thread::Builder::new()
            .name("forwarder".into())
            .spawn(move || forward(&filling_end, &free, &moves));
        Ok(Self {
            jobs: Some(jobs),
            threads: vec![
                stager.map_err(|source| OffloadError::refused("stager", source))?,
                forwarder.map_err(|source| OffloadError::refused("forwarder", source))?,
            ],
        })
    }

    /// Takes the copy on. There is room for one a slot, so this does not wait.
    pub fn carry(&self, block: BlockId, copy: PendingCopy) -> Result<(), LinkError> {
        let jobs = self.jobs.as_ref().ok_or(LinkError::WorkersGone)?;
        jobs.send(StagedCopy { block, copy })
            .map_err(|_| LinkError::WorkersGone)
    }
}

/// A buffer as the slot of a ring of its own.
fn buffer_slot(bytes: usize, index: usize) -> Result<Slot, OffloadError> {
    let mut slot = Slot::new(Slab::new(bytes, DType::Bf16, &Device::Cpu)?);
    slot.index = u16::try_from(index).unwrap_or(u16::MAX);
    Ok(slot)
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that died dropped its copies, and their visits have heard of it.
            let _ = thread.join();
        }
    }
}

fn stage(
    mut link: Box<dyn Link>,
    jobs: &Receiver<StagedCopy>,
    free: &Receiver<Buffer>,
    filling: &Sender<Filling>,
) {
    for job in jobs {
        let Ok(buffer) = free.recv() else { return };
        match link.start(job.block, &buffer.slot) {
            Ok(mark) => {
                let _ = filling.send(Filling { job, buffer, mark });
            }
            // The run is over; the buffer goes with it.
            Err(error) => return job.copy.fail(error),
        }
    }
}

fn forward(
    filling: &Receiver<Filling>,
    free: &Sender<Buffer>,
    moves: &BTreeMap<BlockId, Vec<Move>>,
) {
    for Filling { job, buffer, mark } in filling {
        let filled = mark
            .wait()
            .and_then(|()| mark.release())
            .and_then(|()| mark.arrival());
        let arrival = match filled {
            Ok(arrival) => arrival,
            Err(error) => return job.copy.fail(error),
        };
        let filled = buffer.filled(moves.get(&job.block));
        let landed = job
            .copy
            .order(filled, Some(arrival.copy_from))
            .and_then(|ordered| ordered.landed());
        // An error of the device is the next call's too: the visit hears of it there.
        if landed.is_err() || free.send(buffer).is_err() {
            return;
        }
    }
}

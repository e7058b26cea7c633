//! How fast the checkpoint's own files can be read, which is the ceiling that streaming is
//! measured against. Reads real bytes with the reads that streaming uses, as many at once, and throws
//! them away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{
    AccessReport, AlignedBuf, CHUNK_BYTES, Checkpoint, DIRECT_ALIGN_BYTES, Error, STREAM_READS,
    crew,
};

/// A measured rate and what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRate {
    /// 10^9 bytes a second.
    pub gbps: f64,
    pub bytes: u64,
    pub seconds: f64,
    /// What was really read: the page cache is no disk.
    pub access: AccessReport,
}

/// Reads the checkpoint's files from front to back, again and again, for `budget`.
pub fn measure_read_gbps(checkpoint: &Checkpoint, budget: Duration) -> Result<ReadRate, Error> {
    let access = checkpoint.access_report();
    let windows: Vec<(usize, u64)> = checkpoint
        .sources()
        .iter()
        .enumerate()
        .flat_map(|(source, storage)| {
            (0..storage.len())
                .step_by(CHUNK_BYTES)
                .map(move |offset| (source, offset))
        })
        .collect();
    let threads = STREAM_READS.min(windows.len());
    // Touched before the clock runs: a system may take longer to find memory than a disk to fill it.
    let touched = |_| {
        let mut buffer = AlignedBuf::for_chunks();
        buffer.as_mut_slice().fill(0);
        buffer
    };
    let buffers: Mutex<Vec<AlignedBuf>> = Mutex::new((0..threads).map(touched).collect());
    let buffer = || {
        let buffer = buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        buffer.unwrap_or_else(AlignedBuf::for_chunks)
    };
    let bytes = AtomicU64::new(0);
    let start = Instant::now();
    // However short the time, something is read.
    let in_time = |(turn, _): &(usize, _)| *turn < threads || start.elapsed() < budget;
    let turns = windows.iter().cycle().enumerate().take_while(in_time);
    crew::deal(threads, turns, buffer, |buffer, (_, &(source, offset))| {
        let storage = &checkpoint.sources()[source];
        let need = (storage.len() - offset).min(CHUNK_BYTES as u64) as usize;
        let len = need.next_multiple_of(DIRECT_ALIGN_BYTES);
        storage.read_direct(offset, &mut buffer.as_mut_slice()[..len], need)?;
        bytes.fetch_add(need as u64, Ordering::Relaxed);
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = bytes.into_inner();
    Ok(ReadRate {
        gbps: bytes as f64 / 1e9 / seconds.max(f64::MIN_POSITIVE),
        bytes,
        seconds,
        access,
    })
}

//! How fast the checkpoint's own files can be read, which is the ceiling that streaming is
//! measured against. Reads real bytes with the reads that streaming uses, and throws them away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{AccessReport, AlignedBuf, CHUNK_BYTES, Checkpoint, Error, READ_THREADS};

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
    let next = AtomicU64::new(0);
    let bytes = AtomicU64::new(0);
    let stop = AtomicBool::new(windows.is_empty());
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let start = Instant::now();
    let worker = || {
        let mut buf = AlignedBuf::for_chunks();
        while !stop.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let (source, offset) = windows[(turn % windows.len() as u64) as usize];
            let storage = &checkpoint.sources()[source];
            let need = (storage.len() - offset).min(CHUNK_BYTES as u64) as usize;
            let len = need.next_multiple_of(crate::DIRECT_ALIGN_BYTES);
            match storage.read_direct(offset, &mut buf.as_mut_slice()[..len], need) {
                Ok(()) => {
                    bytes.fetch_add(need as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if start.elapsed() >= budget {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    crate::crew::run(READ_THREADS, worker);
    let seconds = start.elapsed().as_secs_f64();
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => {
            let bytes = bytes.into_inner();
            Ok(ReadRate {
                gbps: bytes as f64 / 1e9 / seconds.max(f64::MIN_POSITIVE),
                bytes,
                seconds,
                access,
            })
        }
    }
}

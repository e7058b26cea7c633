//! How fast the checkpoint's own files can be read, which is the ceiling that streaming is measured
//! against. Reads real bytes with the reads that streaming uses, as many at once, and throws them
//! away.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{
    AccessReport, AlignedBuf, CHUNK_BYTES, Checkpoint, DIRECT_ALIGN_BYTES, Error, STREAM_READS,
    crew,
};

/// A measured rate and what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRate {
    /// 10^9 bytes a second, in the best of a few stretches: a limit is what is possible.
    pub gbps: f64,
    pub bytes: u64,
    pub seconds: f64,
    /// What was really read: the page cache is no disk.
    pub access: AccessReport,
}

/// Stretches that a budget is cut into.
const STRETCHES: u32 = 3;

/// One in which fewer reads end for every thread says more of its edges than of the disk.
const READS_EACH_MIN: usize = 4;

/// The rate in the best stretch, of reads that ended at these times after the start; over all of
/// it where there were few.
fn best_gbps(ends: &[(Duration, usize)], threads: usize, seconds: f64) -> f64 {
    let gbps = |bytes: usize, seconds: f64| bytes as f64 / 1e9 / seconds.max(f64::MIN_POSITIVE);
    let whole = gbps(ends.iter().map(|&(_, bytes)| bytes).sum(), seconds);
    let stretch = seconds / f64::from(STRETCHES);
    let parts = (0..STRETCHES).map(|index| {
        let (from, to) = (f64::from(index) * stretch, f64::from(index + 1) * stretch);
        let inside = ends.iter().filter(|(end, _)| {
            let end = end.as_secs_f64();
            from < end && end <= to
        });
        let (reads, bytes) =
            inside.fold((0, 0), |(reads, sum), (_, bytes)| (reads + 1, sum + bytes));
        match reads >= READS_EACH_MIN * threads {
            true => gbps(bytes, stretch),
            false => 0.0,
        }
    });
    parts.fold(whole, f64::max)
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
    // Touched before the clock runs: a system may take longer to find memory than a disk to fill
    // it.
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
    let ends: Mutex<Vec<(Duration, usize)>> = Mutex::default();
    let start = Instant::now();
    // However short the time, something is read.
    let in_time = |(turn, _): &(usize, _)| *turn < threads || start.elapsed() < budget;
    let turns = windows.iter().cycle().enumerate().take_while(in_time);
    crew::deal(threads, turns, buffer, |buffer, (_, &(source, offset))| {
        let storage = &checkpoint.sources()[source];
        let need = (storage.len() - offset).min(CHUNK_BYTES as u64) as usize;
        let len = need.next_multiple_of(DIRECT_ALIGN_BYTES);
        storage.read_direct(offset, &mut buffer.as_mut_slice()[..len], need)?;
        let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push((start.elapsed(), need));
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(ReadRate {
        gbps: best_gbps(&ends, threads, seconds),
        bytes: ends.iter().map(|&(_, bytes)| bytes as u64).sum(),
        seconds,
        access,
    })
}

/// The most that one read on its own brings: as much as a link has under way at once. More of the
/// same adds nothing that the rate does not say, and takes seconds where a disk is slow.
const LONE_BYTES_MAX: u64 = (STREAM_READS * CHUNK_BYTES) as u64;

/// A copy on its own, timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoneRead {
    /// What was read, each time: no more than is under way at once.
    pub bytes: u64,
    /// The median.
    pub time: Duration,
}

impl LoneRead {
    /// What it took longer than its bytes do at this rate.
    pub fn start_ms(&self, gbps: f64) -> f64 {
        (self.time.as_secs_f64() * 1e3 - self.bytes as f64 / gbps / 1e6).max(0.0)
    }
}

/// How long a copy of so many bytes takes on its own, with the reads that streaming uses: the
/// median of what `budget` allows, and one at least, of 64 MiB at most.
pub fn measure_lone_read(
    checkpoint: &Checkpoint,
    bytes: u64,
    budget: Duration,
) -> Result<LoneRead, Error> {
    const TURNS_MAX: usize = 64;
    let largest = checkpoint
        .sources()
        .iter()
        .max_by_key(|storage| storage.len());
    let Some(storage) = largest else {
        return Ok(LoneRead {
            bytes: 0,
            time: Duration::ZERO,
        });
    };
    let bytes = bytes.min(storage.len()).min(LONE_BYTES_MAX);
    let chunks: Vec<u64> = (0..bytes).step_by(CHUNK_BYTES).collect();
    let threads = STREAM_READS.min(chunks.len()).max(1);
    let buffers: Vec<Mutex<AlignedBuf>> = (0..threads)
        .map(|_| {
            let mut buffer = AlignedBuf::for_chunks();
            buffer.as_mut_slice().fill(0);
            Mutex::new(buffer)
        })
        .collect();
    // There are as many as threads, and each thread takes one.
    let buffer = || buffers.iter().find_map(|buffer| buffer.try_lock().ok());
    // Another part of the file each time: a disk may keep what it read last.
    let align = DIRECT_ALIGN_BYTES as u64;
    let (room, step) = ((storage.len() - bytes) / align + 1, bytes.div_ceil(align));
    let started = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (times.len() < TURNS_MAX && started.elapsed() < budget) {
        let first = times.len() as u64 * step % room * align;
        let from = Instant::now();
        crew::deal(threads, chunks.iter(), buffer, |buffer, &chunk| {
            let Some(buffer) = buffer else { return Ok(()) };
            let need = (bytes - chunk).min(CHUNK_BYTES as u64) as usize;
            let len = need.next_multiple_of(DIRECT_ALIGN_BYTES);
            storage.read_direct(first + chunk, &mut buffer.as_mut_slice()[..len], need)?;
            Ok(())
        })?;
        times.push(from.elapsed());
    }
    times.sort();
    Ok(LoneRead {
        bytes,
        time: times[times.len() / 2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{self, SynthSpec};
    use crate::{DType, Family};

    #[test]
    fn the_best_stretch_counts_and_too_few_reads_do_not() {
        // One MB each 10 ms, and twice as fast in the second of three seconds.
        let mut ends = Vec::new();
        let mut at_ms = 0;
        while at_ms < 3000 {
            at_ms += match (1000..2000).contains(&at_ms) {
                true => 5,
                false => 10,
            };
            ends.push((Duration::from_millis(at_ms), 1_000_000));
        }
        assert!((best_gbps(&ends, 4, 3.0) - 0.2).abs() < 1e-9);
        // Of 60 threads none ended four reads on its own in a third of the time: all of it counts.
        let whole = best_gbps(&ends, 60, 3.0);
        assert!((whole - 0.4 / 3.0).abs() < 1e-3, "{whole}");
    }

    #[test]
    fn a_lone_read_brings_what_is_under_way_at_once_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        let spec = SynthSpec {
            hidden_size: 512,
            intermediate_size: 4096,
            dtype: DType::Bf16,
            ..SynthSpec::tiny(Family::LLAMA)
        };
        synth::write(&path, &spec.with_layers(6), &mut |_, _| {}).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.stored_bytes() > LONE_BYTES_MAX);
        let lone = |bytes| measure_lone_read(&checkpoint, bytes, Duration::ZERO).unwrap();
        assert_eq!(lone(u64::MAX).bytes, LONE_BYTES_MAX);
        assert_eq!(lone(3 << 20).bytes, 3 << 20);
        // The start is over the bytes that were read.
        let lone = LoneRead {
            bytes: 8_000_000,
            time: Duration::from_millis(10),
        };
        assert!((lone.start_ms(1.0) - 2.0).abs() < 1e-9);
        assert!(lone.start_ms(0.5).abs() < 1e-9);
    }
}

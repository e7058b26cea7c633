//! What the memory gives to plain reads: the limit of decode with everything resident.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Far more than any cache, random, and backed by huge pages where the system gives them.
pub struct Ceiling {
    memory: Vec<u64>,
    threads: usize,
}

const BYTES: usize = 1 << 30;

impl Ceiling {
    pub fn new(threads: usize) -> Self {
        let mut memory = vec![0_u64; BYTES / 8];
        engine::kernels::advise_huge_pages(&mut memory);
        thread::scope(|scope| {
            for (index, part) in memory.chunks_mut(BYTES / 8 / threads).enumerate() {
                scope.spawn(move || {
                    let mut state = index as u64 + 1;
                    for value in part {
                        state = state
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        *value = state;
                    }
                });
            }
        });
        Self { memory, threads }
    }

    /// GB/s of one sweep by all threads.
    pub fn measure_gbps(&self) -> f64 {
        let started = Instant::now();
        thread::scope(|scope| {
            for part in self.memory.chunks(self.memory.len() / self.threads) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        BYTES as f64 / started.elapsed().as_secs_f64() / 1e9
    }
}

/// Independent sums, so that the loads and not the additions are what takes the time.
fn sum(values: &[u64]) -> u64 {
    let mut sums = [0_u64; 64];
    for line in values.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

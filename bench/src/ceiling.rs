//! What the memory gives to plain reads: the limit of decode with everything resident.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// As large as the weights it is compared with (a smaller buffer would be served from a large last
/// cache in part), random, and backed by huge pages where the system gives them.
pub struct Ceiling {
    memory: Vec<u64>,
    threads: usize,
}

impl Ceiling {
    pub fn new(threads: usize, bytes: usize) -> Self {
        let mut memory = vec![0_u64; bytes / 8];
        engine::kernels::advise_huge_pages(&mut memory);
        thread::scope(|scope| {
            for (index, part) in memory.chunks_mut((bytes / 8).div_ceil(threads)).enumerate() {
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
        self.read_part(0, 1);
        size_of_val(&*self.memory) as f64 / started.elapsed().as_secs_f64() / 1e9
    }

    /// All threads read the `part`th of `parts` equal parts.
    pub fn read_part(&self, part: usize, parts: usize) {
        let bounds = |part| self.memory.len() * part / parts;
        let values = &self.memory[bounds(part)..bounds(part + 1)];
        thread::scope(|scope| {
            for share in values.chunks(values.len().div_ceil(self.threads).max(1)) {
                scope.spawn(move || black_box(sum(share)));
            }
        });
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

//! Random weights, fast and the same on every machine: each element follows from the seed, the
//! tensor and the element's index, however many threads make them.

use rayon::prelude::*;

use crate::DType;
use crate::convert::{STEP, narrow};

/// Elements that one task makes.
const TASK_ELEMENTS: usize = 1 << 16;

/// Which numbers to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Values {
    One,
    /// About normal, from a stream of its own.
    Normal {
        stream: u64,
        mean: f32,
        std_dev: f32,
    },
}

impl Values {
    /// About normal around 0, from the stream of that name.
    pub fn normal(seed: u64, name: &str, std_dev: f32) -> Self {
        Self::around(0.0, seed, name, std_dev)
    }

    pub fn around(mean: f32, seed: u64, name: &str, std_dev: f32) -> Self {
        Self::Normal {
            stream: stream(seed, name),
            mean,
            std_dev,
        }
    }
}

/// A stream of its own for each tensor, so that two tensors never share their numbers.
fn stream(seed: u64, name: &str) -> u64 {
    name.bytes().fold(mix(seed.wrapping_add(1)), |hash, byte| {
        mix(hash ^ u64::from(byte))
    })
}

/// Fills `out` with the elements from `first` on; `first` is a multiple of [`TASK_ELEMENTS`].
pub(super) fn fill(values: Values, first: usize, dtype: DType, out: &mut [u8]) {
    debug_assert_eq!(first % TASK_ELEMENTS, 0);
    out.par_chunks_mut(TASK_ELEMENTS * dtype.bytes())
        .enumerate()
        .for_each(|(task, out)| fill_task(values, first / TASK_ELEMENTS + task, dtype, out));
}

fn fill_task(values: Values, task: usize, dtype: DType, out: &mut [u8]) {
    let mut state = match values {
        Values::One => 0,
        Values::Normal { stream, .. } => mix(stream ^ mix(task as u64 + 1)),
    };
    let mut wide = [0f32; STEP];
    for out in out.chunks_mut(STEP * dtype.bytes()) {
        let wide = &mut wide[..out.len() / dtype.bytes()];
        match values {
            Values::One => wide.fill(1.0),
            Values::Normal { mean, std_dev, .. } => {
                for x in wide.iter_mut() {
                    *x = normal(&mut state) * std_dev + mean;
                }
            }
        }
        narrow(wide, dtype, out);
    }
}

/// The sum of four uniform numbers, centred and scaled to variance 1: close enough to normal for
/// weights, without a logarithm. The half keeps it from ever being zero.
fn normal(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = mix(*state);
    let sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
    // Variance of one 16-bit uniform is 65536^2 / 12; of four, 65536^2 / 3.
    const SCALE: f32 = 1.732_050_8 / 65_536.0;
    (sum as f32 - 131_070.5) * SCALE
}

/// The finaliser of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

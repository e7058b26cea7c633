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
    /// Rows about normal around 0, but for some that are half of another: what that one is multiplied
    /// with then gives it more than them, or none of them much.
    Shadowed {
        stream: u64,
        std_dev: f32,
        cols: usize,
        row: u32,
        shadows: [u32; 3],
    },
}

impl Values {
    /// About normal around 0, from the stream of that name.
    pub fn normal(seed: u64, name: &str, std_dev: f32) -> Self {
        Self::around(0.0, seed, name, std_dev)
    }

    /// The same numbers, with rows that are half of one of them.
    pub fn shadowed(self, cols: usize, row: u32, shadows: [u32; 3]) -> Self {
        match self {
            Self::Normal {
                stream, std_dev, ..
            } => Self::Shadowed {
                stream,
                std_dev,
                cols,
                row,
                shadows,
            },
            other => other,
        }
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
        Values::Normal { stream, .. } | Values::Shadowed { stream, .. } => begin(stream, task),
    };
    let mut wide = [0f32; STEP];
    let mut at = task * TASK_ELEMENTS;
    for out in out.chunks_mut(STEP * dtype.bytes()) {
        let wide = &mut wide[..out.len() / dtype.bytes()];
        match values {
            Values::One => wide.fill(1.0),
            Values::Normal { mean, std_dev, .. } => {
                for x in wide.iter_mut() {
                    *x = normal(&mut state) * std_dev + mean;
                }
            }
            Values::Shadowed {
                stream,
                std_dev,
                cols,
                row,
                shadows,
            } => {
                for (index, x) in (at..).zip(wide.iter_mut()) {
                    let own = normal(&mut state);
                    *x = std_dev
                        * match shadows.contains(&((index / cols) as u32)) {
                            true => normal_at(stream, row as usize * cols + index % cols) / 2.0,
                            false => own,
                        };
                }
            }
        }
        at += wide.len();
        narrow(wide, dtype, out);
    }
}

/// Where the numbers of a task begin.
fn begin(stream: u64, task: usize) -> u64 {
    mix(stream ^ mix(task as u64 + 1))
}

/// The number of an element.
fn normal_at(stream: u64, element: usize) -> f32 {
    let before = (element % TASK_ELEMENTS) as u64;
    let mut state =
        begin(stream, element / TASK_ELEMENTS).wrapping_add(GOLDEN.wrapping_mul(before));
    normal(&mut state)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum of four uniform numbers, centred and scaled to variance 1: close enough to normal for
/// weights, without a logarithm. The half keeps it from ever being zero.
fn normal(state: &mut u64) -> f32 {
    *state = state.wrapping_add(GOLDEN);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_is_half_of_its_row_and_the_rest_is_as_it_was() {
        const COLS: usize = 1000;
        let plain = Values::normal(3, "rows", 1.0);
        let shadowed = plain.shadowed(COLS, 150, [2, 66, 151]);
        let numbers = |values| {
            let mut bytes = vec![0; 4 * TASK_ELEMENTS * 4];
            fill(values, 0, DType::F32, &mut bytes);
            let numbers = bytes.chunks_exact(4);
            let numbers = numbers.map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]));
            numbers.collect::<Vec<f32>>()
        };
        let (plain, shadowed) = (numbers(plain), numbers(shadowed));
        let row = |all: &[f32], row: usize| all[row * COLS..][..COLS].to_vec();
        let half: Vec<f32> = row(&plain, 150).iter().map(|x| x / 2.0).collect();
        for shadow in [2, 66, 151] {
            assert_eq!(row(&shadowed, shadow), half);
        }
        for same in [0, 3, 65, 150, 152] {
            assert_eq!(row(&shadowed, same), row(&plain, same));
        }
    }
}

//! One linear layer inside a parallel region: `y = W x`, with what follows it (bias, residual or
//! gated activation) done while the result is still in registers or cache. Picks the form for the
//! number of rows and the level. Knows nothing of blocks.
#![expect(unsafe_code, reason = "hands shared buffers to vector kernels")]
// Sound because every worker writes only the outputs of its own share of the weight rows, and
// because `x` is not written while the layer runs: callers put a barrier before and after it.

mod dot;
mod epilogue;

use super::isa::dispatch;
use super::level::Level;
use super::shared::Shared;
use super::team::Worker;
use super::weights::{Matrix, Weights};

pub(crate) use dot::dot_tile;
pub(crate) use epilogue::{Epilogue, Then};

/// Whether this process may use AMX tiles.
#[cfg(target_arch = "x86_64")]
pub(crate) fn amx_is_usable() -> bool {
    false
}

/// One linear layer over `rows` activations of `x`, `x_stride` floats apart.
#[derive(Clone, Copy)]
pub(crate) struct Linear<'a> {
    pub weights: Matrix<'a>,
    pub x: Shared<'a, f32>,
    pub x_stride: usize,
    pub rows: usize,
    pub epilogue: Epilogue<'a>,
}

impl Linear<'_> {
    /// This worker's part. The outputs are complete after the next barrier.
    ///
    /// # Safety
    /// Every worker of the region calls it with the same values; nobody writes `x` and nobody
    /// uses the output meanwhile; `level` is supported.
    pub unsafe fn run(&self, level: Level, worker: &Worker<'_>) {
        let cols = self.weights.cols();
        assert!(self.rows > 0 && self.x_stride >= cols);
        assert!(self.x.len() >= (self.rows - 1) * self.x_stride + cols);
        let share = worker.share(self.epilogue.outputs(self.weights.rows()), dot::BLOCK_ROWS);
        // SAFETY: the caller promises what `Dot` asks for.
        unsafe {
            match self.weights.data() {
                Weights::Bf16(data) => dispatch(
                    level,
                    dot::Dot {
                        linear: self,
                        data,
                        share,
                    },
                ),
                Weights::F16(data) => dispatch(
                    level,
                    dot::Dot {
                        linear: self,
                        data,
                        share,
                    },
                ),
                Weights::F32(data) => dispatch(
                    level,
                    dot::Dot {
                        linear: self,
                        data,
                        share,
                    },
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Blocks that stand beside a stack, in tensor operations: others keep their weights, bring their rows
//! and time them.

use candle_core::{Device, Tensor};
use offload::LayerIndex;

use super::tensors::BlockTensors;
use super::{ClearCompute, ClearSize};
use crate::compute::batch::State;
use crate::compute::laps::Laps;
use crate::error::EngineError;
use crate::profile::Clock;

impl ClearCompute {
    /// One that is no stack's.
    pub(crate) fn of_blocks(size: ClearSize, device: &Device) -> Result<Self, EngineError> {
        Self::timed(size, device, Laps::none())
    }

    /// Rows of one sequence, from `position` on, through a block that is no stack's.
    pub(crate) fn through(
        &mut self,
        layer: LayerIndex,
        weights: &BlockTensors,
        rows: &Tensor,
        (state, position): (&State, usize),
    ) -> Result<Tensor, EngineError> {
        self.prepare_mask(layer, position, rows.dim(0)?)?;
        let caches = &state.tensors()[layer.as_usize()];
        let untold = &mut Clock::default();
        self.block_over(layer, weights, rows, (caches, position), untold)
    }
}

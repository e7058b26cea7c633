//! Which positions some rows may look at, and the tensor that says so. Knows a window and nothing
//! else of a model.

use candle_core::Tensor;
use loader::ModelConfig;
use offload::LayerIndex;

/// Which positions some rows may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaskShape {
    position: usize,
    rows: usize,
    window: usize,
}

impl MaskShape {
    pub(super) fn of(
        config: &ModelConfig,
        layer: LayerIndex,
        position: usize,
        rows: usize,
    ) -> Self {
        Self {
            position,
            rows,
            window: config.window(layer.as_usize()).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn hides_something(self) -> bool {
        self.rows > 1 || self.position >= self.window
    }

    /// 0 where a row may look, minus infinity elsewhere. Made where it is used: that of a long
    /// prompt's chunk is millions of numbers, and each layer needs those of all chunks.
    pub(super) fn tensor(self, positions: &Tensor) -> candle_core::Result<Tensor> {
        let seen = self.position + self.rows;
        let rows = positions.narrow(0, self.position, self.rows)?;
        let keys = positions.narrow(0, 0, seen)?.reshape((1, seen))?;
        let mut hidden = keys.broadcast_gt(&rows)?;
        if self.window < seen {
            let first = (rows - (self.window as f64 - 1.0))?;
            hidden = (hidden + keys.broadcast_lt(&first)?)?;
        }
        let shape = (self.rows, seen);
        let value = |value: f32| Tensor::new(value, positions.device())?.broadcast_as(shape);
        hidden
            .where_cond(&value(f32::NEG_INFINITY)?, &value(0.0)?)?
            .reshape((1, 1, self.rows, seen))
    }
}

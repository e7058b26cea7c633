//! Attention in tensor operations: heads turned, scores, shares, and what is mixed by them.

use candle_core::{DType as TensorDType, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::{rope, rope_i};
use kernels::Pairing;
use loader::{HeadNorms, Mixer, ModelConfig, Role};
use offload::LayerIndex;

use super::ClearCompute;
use super::mask::MaskShape;
use super::tensors::BlockTensors;
use crate::compute::rope::pairing;

impl ClearCompute {
    pub(super) fn attention(
        &self,
        layer: LayerIndex,
        weights: &BlockTensors,
        x: &Tensor,
        ((keys, values), position): (&(Tensor, Tensor), usize),
    ) -> candle_core::Result<Tensor> {
        let ModelConfig {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self.config;
        let rows = x.dim(0)?;
        let Mixer::Attention {
            head_norms, scale, ..
        } = self.config.block.mixer;
        let qkv = weights.linear(x, Role::Qkv, Role::QkvBias)?;
        let part = |start: usize, count: usize| {
            let part = qkv.narrow(1, start * head_dim, count * head_dim)?;
            part.contiguous()
        };
        // (rows, heads * dim) -> (heads, rows, dim)
        let split = |part: Tensor| {
            part.reshape((rows, part.dim(1)? / head_dim, head_dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let turned = |part: Tensor, norm: Role| -> candle_core::Result<Tensor> {
            let heads = match head_norms {
                HeadNorms::Whole => split(self.norm(weights, &part, norm)?)?,
                HeadNorms::Each | HeadNorms::None => self.norm(weights, &split(part)?, norm)?,
            };
            let cos = self.turns.0.narrow(0, position, rows)?;
            let sin = self.turns.1.narrow(0, position, rows)?;
            let rope = match pairing(&self.config) {
                Pairing::Halves => rope,
                Pairing::Neighbours => rope_i,
            };
            let dims = self.config.rope.dims;
            if dims == head_dim {
                return rope(&heads.unsqueeze(0)?, &cos, &sin)?.squeeze(0);
            }
            let turning = heads.narrow(2, 0, dims)?.contiguous()?;
            let turned = rope(&turning.unsqueeze(0)?, &cos, &sin)?.squeeze(0)?;
            Tensor::cat(&[turned, heads.narrow(2, dims, head_dim - dims)?], 2)?.contiguous()
        };
        let q = turned(part(0, heads)?, Role::QNorm)?;
        let rounded = |rows: Tensor| match self.cached {
            Some(cached) => rows.to_dtype(cached)?.to_dtype(self.numbers),
            None => Ok(rows),
        };
        let new_keys = turned(part(heads, kv_heads)?, Role::KNorm)?;
        keys.slice_set(&rounded(new_keys)?, 1, position)?;
        let new_values = split(part(heads + kv_heads, kv_heads)?)?;
        values.slice_set(&rounded(new_values)?, 1, position)?;

        let seen = position + rows;
        let group = heads / kv_heads;
        let keys = keys.narrow(1, 0, seen)?;
        let values = values.narrow(1, 0, seen)?;
        // The query heads of one key head are stacked as further rows of it.
        let q = q.reshape((kv_heads, group * rows, head_dim))?;
        let scale = scale.unwrap_or(1.0 / (head_dim as f64).sqrt());
        let scores = q.matmul(&keys.transpose(1, 2)?)?;
        let scores = (scores.to_dtype(TensorDType::F32)? * scale)?;
        let scores = match &self.mask {
            Some((shape, mask)) if *shape == MaskShape::of(&self.config, layer, position, rows) => {
                let scores = scores.reshape((kv_heads, group, rows, seen))?;
                scores.broadcast_add(mask)?
            }
            _ => scores,
        };
        let shares = softmax_last_dim(&scores)?.reshape((kv_heads, group * rows, seen))?;
        let mixed = shares.to_dtype(self.numbers)?.matmul(&values)?;
        let mixed = mixed
            .reshape((heads, rows, head_dim))?
            .transpose(0, 1)?
            .contiguous()?;
        let mixed = mixed.reshape((rows, heads * head_dim))?;
        weights.linear(&mixed, Role::Out, Role::OutBias)
    }

    /// Has the mask for these rows ready, if they need one: a single row that may look at all it
    /// has seen does not.
    pub(super) fn prepare_mask(
        &mut self,
        layer: LayerIndex,
        position: usize,
        rows: usize,
    ) -> candle_core::Result<()> {
        let shape = MaskShape::of(&self.config, layer, position, rows);
        if self.mask.as_ref().is_some_and(|(of, _)| *of == shape) {
            return Ok(());
        }
        self.mask = match shape.hides_something() {
            true => Some((shape, shape.tensor(&self.positions)?)),
            false => None,
        };
        Ok(())
    }
}

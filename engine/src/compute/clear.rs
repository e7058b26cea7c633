//! The block spelled out in candle operations: the slow, clear version that the fast one is held
//! against, and the one that runs on any device candle has. Activations are f32; weights are
//! widened whole at each use, which is exact and slow.

use candle_core::{DType as TensorDType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;
use loader::{ModelConfig, Role};
use offload::{LayerIndex, Slab, SlabBytes};

use super::{CHUNK_ROWS, Compute};
use crate::device::gpu_sync;
use crate::ends::{Ends, SharedConfig};
use crate::error::EngineError;
use crate::profile::{Clock, stage};
use crate::rope::inverse_frequencies;

/// See the module.
#[derive(Debug)]
pub struct ClearCompute {
    config: SharedConfig,
    device: Device,
    /// Keys and values of each layer: (kv heads, capacity, head dim).
    caches: Vec<(Tensor, Tensor)>,
    /// Cosines and sines: (positions, head dim / 2).
    turns: (Tensor, Tensor),
    /// The pass's rows, in chunks.
    chunks: Vec<Tensor>,
    position: usize,
    logits: Vec<f32>,
}

impl ClearCompute {
    pub fn new(
        config: SharedConfig,
        capacity: usize,
        device: &Device,
    ) -> Result<Self, EngineError> {
        let frequencies = inverse_frequencies(&config);
        let half = frequencies.len();
        let frequencies = Tensor::from_vec(frequencies, (1, half), device)?;
        let positions: Vec<f32> = (0..capacity).map(|position| position as f32).collect();
        let angles = Tensor::from_vec(positions, (capacity, 1), device)?.matmul(&frequencies)?;
        let cache = || {
            let shape = (config.kv_heads, capacity, config.head_dim);
            Tensor::zeros(shape, TensorDType::F32, device)
        };
        let caches = (0..config.layers)
            .map(|_| Ok((cache()?, cache()?)))
            .collect::<Result<_, candle_core::Error>>()?;
        Ok(Self {
            caches,
            turns: (angles.cos()?, angles.sin()?),
            chunks: Vec::new(),
            position: 0,
            logits: Vec::new(),
            device: device.clone(),
            config,
        })
    }

    fn block_over(
        &self,
        layer: LayerIndex,
        weights: &BlockTensors,
        x: &Tensor,
        position: usize,
        clock: &mut Clock,
    ) -> candle_core::Result<Tensor> {
        let eps = self.config.norm_eps as f32;
        let normed = stage!(
            clock,
            Norm,
            rms_norm(x, weights.get(Role::InputNorm)?, eps)?
        );
        let x = stage!(
            clock,
            Attention,
            (x + self.attention(layer, weights, &normed, position)?)?
        );
        let normed = stage!(
            clock,
            Norm,
            rms_norm(&x, weights.get(Role::PostNorm)?, eps)?
        );
        stage!(clock, Mlp, self.mlp(weights, x, &normed))
    }

    fn mlp(
        &self,
        weights: &BlockTensors,
        x: Tensor,
        normed: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let gate_up = weights.linear(normed, Role::GateUp, Role::GateUpBias)?;
        let ffn = self.config.intermediate_size;
        let gate = silu(&gate_up.narrow(1, 0, ffn)?)?;
        let activated = (gate * gate_up.narrow(1, ffn, ffn)?)?;
        x + weights.linear(&activated, Role::Down, Role::DownBias)?
    }

    fn attention(
        &self,
        layer: LayerIndex,
        weights: &BlockTensors,
        x: &Tensor,
        position: usize,
    ) -> candle_core::Result<Tensor> {
        let ModelConfig {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self.config;
        let rows = x.dim(0)?;
        let qkv = weights.linear(x, Role::Qkv, Role::QkvBias)?;
        // (rows, heads * dim) -> (heads, rows, dim)
        let split = |start: usize, count: usize| {
            qkv.narrow(1, start * head_dim, count * head_dim)?
                .reshape((rows, count, head_dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let turned = |heads: Tensor, norm: Role| -> candle_core::Result<Tensor> {
            let heads = match weights.find(norm) {
                Some(weight) => rms_norm(&heads, weight, self.config.norm_eps as f32)?,
                None => heads,
            };
            let cos = self.turns.0.narrow(0, position, rows)?;
            let sin = self.turns.1.narrow(0, position, rows)?;
            rope(&heads.unsqueeze(0)?, &cos, &sin)?.squeeze(0)
        };
        let q = turned(split(0, heads)?, Role::QNorm)?;
        let (keys, values) = &self.caches[layer.as_usize()];
        keys.slice_set(&turned(split(heads, kv_heads)?, Role::KNorm)?, 1, position)?;
        values.slice_set(&split(heads + kv_heads, kv_heads)?, 1, position)?;

        let seen = position + rows;
        let group = heads / kv_heads;
        let keys = keys.narrow(1, 0, seen)?.contiguous()?;
        let values = values.narrow(1, 0, seen)?.contiguous()?;
        // The query heads of one key head are stacked as further rows of it.
        let q = q.reshape((kv_heads, group * rows, head_dim))?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let scores = (q.matmul(&keys.transpose(1, 2)?.contiguous()?)? * scale)?;
        let mask = self.mask(layer, position, rows)?;
        let scores = scores
            .reshape((kv_heads, group, rows, seen))?
            .broadcast_add(&mask)?;
        let shares = softmax_last_dim(&scores)?.reshape((kv_heads, group * rows, seen))?;
        let mixed = shares.matmul(&values)?;
        let mixed = mixed
            .reshape((heads, rows, head_dim))?
            .transpose(0, 1)?
            .contiguous()?;
        let mixed = mixed.reshape((rows, heads * head_dim))?;
        weights.linear(&mixed, Role::Out, Role::OutBias)
    }

    /// 0 where a row may look, minus infinity elsewhere.
    fn mask(&self, layer: LayerIndex, position: usize, rows: usize) -> candle_core::Result<Tensor> {
        let seen = position + rows;
        let window = self.config.window(layer.as_usize()).unwrap_or(usize::MAX);
        let values: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let at = position + row;
                (0..seen).map(move |key| match key <= at && at - key < window {
                    true => 0.0,
                    false => f32::NEG_INFINITY,
                })
            })
            .collect();
        Tensor::from_vec(values, (1, 1, rows, seen), &self.device)
    }

    fn matrix(&self, bytes: &SlabBytes) -> candle_core::Result<Tensor> {
        bytes
            .tensor()
            .reshape((self.config.vocab_size, self.config.hidden_size))
    }
}

impl Compute for ClearCompute {
    fn embed(&mut self, ends: &Ends, tokens: &[u32], position: usize) -> Result<(), EngineError> {
        let table = self.matrix(&ends.embedding)?;
        self.chunks.clear();
        for chunk in tokens.chunks(CHUNK_ROWS) {
            let rows = table.index_select(&Tensor::new(chunk, &self.device)?, 0)?;
            self.chunks.push(rows.to_dtype(TensorDType::F32)?);
        }
        self.position = position;
        Ok(())
    }

    fn block(
        &mut self,
        layer: LayerIndex,
        slab: &Slab,
        clock: &mut Clock,
    ) -> Result<(), EngineError> {
        let weights = BlockTensors::widened(slab)?;
        let mut position = self.position;
        for index in 0..self.chunks.len() {
            let rows = self.block_over(layer, &weights, &self.chunks[index], position, clock)?;
            position += rows.dim(0)?;
            self.chunks[index] = rows;
        }
        Ok(())
    }

    fn finish(&mut self, ends: &Ends) -> Result<(), EngineError> {
        let Some(rows) = self.chunks.last() else {
            return Err(EngineError::EmptyPrompt);
        };
        let last = rows.narrow(0, rows.dim(0)? - 1, 1)?;
        let norm = ends.norm.tensor().to_dtype(TensorDType::F32)?;
        let normed = rms_norm(&last, &norm, self.config.norm_eps as f32)?;
        let head = self.matrix(ends.head())?.to_dtype(TensorDType::F32)?;
        let logits = normed.matmul(&head.t()?)?.squeeze(0)?;
        self.logits = gpu_sync!("logits", logits.to_vec1())?;
        Ok(())
    }

    fn logits(&mut self) -> &mut [f32] {
        &mut self.logits
    }
}

/// A block's weights as f32, for one visit.
struct BlockTensors(Vec<(Role, Tensor)>);

impl BlockTensors {
    fn widened(slab: &Slab) -> candle_core::Result<Self> {
        let widened = |role| {
            let view = slab.view(role)?;
            Some(view.to_dtype(TensorDType::F32).map(|tensor| (role, tensor)))
        };
        Role::ALL
            .into_iter()
            .filter_map(widened)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn find(&self, role: Role) -> Option<&Tensor> {
        self.0
            .iter()
            .find(|(of, _)| *of == role)
            .map(|(_, tensor)| tensor)
    }

    fn get(&self, role: Role) -> candle_core::Result<&Tensor> {
        self.find(role)
            .ok_or_else(|| candle_core::Error::msg(format!("the block has no {role:?}")))
    }

    fn linear(&self, x: &Tensor, weight: Role, bias: Role) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.get(weight)?.t()?)?;
        match self.find(bias) {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

//! The predictor in tensors: a small transformer whose blocks are those of a stack, over a cache that
//! each frame writes over. Its codes are chosen by the caller, on the host or where they are.

use std::sync::Arc;

use candle_core::{DType as TensorDType, Device, Tensor};
use candle_nn::ops::rms_norm;
use loader::{DType, PredictorConfig, Role};
use offload::LayerIndex;

use super::tensors::Named;
use crate::compute::Compute;
use crate::compute::batch::State;
use crate::compute::clear::linear::Linear;
use crate::compute::clear::tensors::BlockTensors;
use crate::compute::clear::{ClearCompute, ClearSize};
use crate::compute::size::Room;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;

/// Rows that a frame begins with.
const ROWS: usize = 2;

/// How large what computes the blocks is. Their weights lie in the numbers that are computed with.
pub fn size(config: &PredictorConfig, numbers: DType) -> ClearSize {
    let room = Room::of(config.steps() + 1, 1, 1);
    ClearSize::on_device(Arc::new(config.layers.clone()), room, numbers)
}

/// The weights.
#[derive(Debug)]
pub struct PredictorTensors {
    /// From the width of what comes in to that of the blocks, where they differ.
    projection: Option<Linear>,
    blocks: Vec<BlockTensors>,
    norm: Tensor,
    norm_eps: f32,
    /// Of each step.
    heads: Vec<Linear>,
    /// Of each step: a row for each of its codes, as wide as what comes in.
    embeddings: Vec<Tensor>,
    numbers: TensorDType,
}

impl PredictorTensors {
    /// The part's numbers are those that are computed with.
    pub fn new(
        part: &Part,
        config: &PredictorConfig,
        numbers: DType,
        device: &Device,
    ) -> Result<Self, EngineError> {
        const PROJECTION: &str = "small_to_mtp_projection";
        let named = Named { part, device };
        let numbers = offload::candle_dtype(numbers);
        let block = |layer: usize| {
            let of = |name: &str| format!("model.layers.{layer}.{name}.weight");
            let joined = |names: &[&str]| {
                let names: Vec<String> = names.iter().map(|name| of(name)).collect();
                named.joined(&names.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let vector = |name: &str| named.plain_vector(&of(name));
            let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
            let found = vec![
                (Role::InputNorm, vector("input_layernorm")?),
                (Role::Qkv, joined(&qkv)?),
                (Role::QNorm, vector("self_attn.q_norm")?),
                (Role::KNorm, vector("self_attn.k_norm")?),
                (Role::Out, joined(&["self_attn.o_proj"])?),
                (Role::PostNorm, vector("post_attention_layernorm")?),
                (Role::GateUp, joined(&["mlp.gate_proj", "mlp.up_proj"])?),
                (Role::Down, joined(&["mlp.down_proj"])?),
            ];
            Ok(BlockTensors::of(numbers, found))
        };
        let projects = config.projects();
        let steps = 0..config.steps();
        Ok(Self {
            projection: projects.then(|| named.linear(PROJECTION)).transpose()?,
            blocks: (0..config.layers.layers)
                .map(block)
                .collect::<Result<_, EngineError>>()?,
            norm: named.plain_vector("model.norm.weight")?,
            norm_eps: config.layers.norm_eps as f32,
            heads: (steps.clone())
                .map(|step| named.plain_linear(&[&format!("lm_head.{step}.weight")]))
                .collect::<Result<_, _>>()?,
            embeddings: steps
                .map(|step| named.matrix(&format!("model.codec_embedding.{step}.weight")))
                .collect::<Result<_, _>>()?,
            numbers,
        })
    }

    /// Bytes that a frame reads of the part.
    pub fn frame_bytes(part: &Part, steps: usize) -> u64 {
        let each_step = |name: &str| name.starts_with("model.layers.") || name.contains("to_mtp");
        let heads = part.bytes_of_weights(|name| name.starts_with("lm_head."));
        steps as u64 * part.bytes_of_weights(each_step) + heads
    }

    /// Rows of the embedding of a step's codes, in f32.
    pub fn embedded(&self, step: usize, codes: &Tensor) -> candle_core::Result<Tensor> {
        let rows = self.embeddings[step].index_select(codes, 0)?;
        rows.to_dtype(TensorDType::F32)
    }
}

/// What computes a frame's steps.
#[derive(Debug)]
pub struct Predictor<'m> {
    weights: &'m PredictorTensors,
    blocks: ClearCompute,
    state: State,
}

/// What the steps of a frame give.
#[derive(Debug)]
pub struct Predicted {
    /// One code for each step.
    pub codes: Vec<Tensor>,
    /// Their embeddings, added: (1, width).
    pub sum: Tensor,
    /// Of each step, one for each code.
    pub logits: Vec<Tensor>,
}

impl<'m> Predictor<'m> {
    pub fn new(
        weights: &'m PredictorTensors,
        size: &ClearSize,
        device: &Device,
    ) -> Result<Self, EngineError> {
        let positions = weights.heads.len() + 1;
        let blocks = ClearCompute::of_blocks(size.clone(), device)?;
        Ok(Self {
            state: blocks.state(positions)?,
            blocks,
            weights,
        })
    }

    /// The codes of a frame that begins with these rows: (2, width), in f32. `choose` gives one code of
    /// a step's logits.
    pub fn frame(
        &mut self,
        rows: &Tensor,
        mut choose: impl FnMut(usize, &Tensor) -> Result<Tensor, EngineError>,
    ) -> Result<Predicted, EngineError> {
        let weights = self.weights;
        let steps = weights.heads.len();
        let (mut rows, mut position) = (rows.clone(), 0);
        let mut codes = Vec::with_capacity(steps);
        let mut all_logits = Vec::with_capacity(steps);
        let mut sum: Option<Tensor> = None;
        for step in 0..steps {
            let logits = self.step(step, &rows, position)?;
            position = step + ROWS;
            let code = choose(step, &logits)?;
            rows = weights.embedded(step, &code)?;
            sum = Some(match sum {
                Some(sum) => (sum + &rows)?,
                None => rows.clone(),
            });
            codes.push(code);
            all_logits.push(logits);
        }
        Ok(Predicted {
            codes,
            // There is a step: a frame has two codes or more.
            sum: sum.unwrap_or(rows),
            logits: all_logits,
        })
    }

    /// The logits after the last of these rows, in f32.
    fn step(&mut self, step: usize, rows: &Tensor, position: usize) -> Result<Tensor, EngineError> {
        let weights = self.weights;
        let rows = match &weights.projection {
            Some(projection) => projection.run(rows)?,
            None => rows.clone(),
        };
        let mut rows = rows.to_dtype(weights.numbers)?;
        let layers = LayerIndex::first(weights.blocks.len());
        for (layer, block) in layers.zip(&weights.blocks) {
            let state = (&self.state, position);
            rows = self.blocks.through(layer, block, &rows, state)?;
        }
        let last = rows.narrow(0, rows.dim(0)? - 1, 1)?;
        let normed = rms_norm(&last, &weights.norm, weights.norm_eps)?;
        let logits = weights.heads[step].run(&normed.to_dtype(TensorDType::F32)?)?;
        Ok(logits.flatten_all()?)
    }
}

//! The projector spelled out in candle operations, in f32: what the fast one is held against, and
//! what a device runs.

use candle_core::{DType as TensorDType, Tensor};
use candle_nn::ops::{rms_norm, sigmoid};
use kernels::{CacheType, ProjectorShape};
use loader::{BlockLayout, Half, Placement, ProjectorPart, Role};
use offload::Slab;

use crate::error::EngineError;
use crate::weights::weight::tensor;

const NORM_EPS: f32 = 1e-6;

/// Rows of activations that are there together, about, beside the weights in f32.
const WIDTHS: usize = 8;

/// What it takes at the most.
pub(super) fn bytes(shape: &ProjectorShape, positions: usize) -> u64 {
    let (input, output) = (shape.input(), shape.output());
    let inner = shape.hidden.max(shape.intermediate);
    let blocks = 2 * (shape.layers.max(2)) * shape.hidden * inner;
    let half = shape.hidden * (input + output + shape.target_heads) + blocks;
    let rows = WIDTHS * positions * input.max(inner);
    ((2 * half + rows) * size_of::<f32>()) as u64
}

/// The tensors of one projector, in f32.
pub(super) struct Weights(Vec<(Role, Tensor)>);

impl Weights {
    pub fn of(layout: &BlockLayout, slab: &Slab) -> Result<Self, EngineError> {
        let one = |place: &Placement| {
            let parts = place.parts.iter().map(|part| {
                let bytes = slab.bytes().part(part.offset..part.offset + part.bytes);
                let tensor = tensor(&bytes, part.encoding, part.rows, part.cols)?;
                Ok(tensor.to_dtype(TensorDType::F32)?)
            });
            let parts = parts.collect::<Result<Vec<_>, EngineError>>()?;
            Ok((place.role, Tensor::cat(&parts, 0)?))
        };
        let placements = layout.placements().iter();
        placements.map(one).collect::<Result<_, _>>().map(Self)
    }

    fn find(&self, half: Half, part: ProjectorPart) -> Option<&Tensor> {
        let role = Role::Projector(half, part);
        let found = self.0.iter().find(|(of, _)| *of == role);
        found.map(|(_, tensor)| tensor)
    }

    fn get(&self, half: Half, part: ProjectorPart) -> candle_core::Result<&Tensor> {
        self.find(half, part)
            .ok_or_else(|| candle_core::Error::msg(format!("the projector has no {part:?}")))
    }

    fn linear(
        &self,
        half: Half,
        x: &Tensor,
        (weight, bias): (ProjectorPart, Option<ProjectorPart>),
    ) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.get(half, weight)?.t()?)?;
        match bias {
            Some(bias) => y.broadcast_add(self.get(half, bias)?),
            None => Ok(y),
        }
    }

    /// `x + down(gelu(up(norm(x))))`
    fn block(&self, half: Half, x: &Tensor, index: u8) -> candle_core::Result<Tensor> {
        use ProjectorPart::{Down, Norm, Up};
        let normed = rms_norm(x, self.get(half, Norm(index))?, NORM_EPS)?;
        let inner = self.linear(half, &normed, (Up(index), None))?.gelu_erf()?;
        x + self.linear(half, &inner, (Down(index), None))?
    }
}

type Kept = (Tensor, Tensor);

pub(super) fn fuse(
    (shape, cache_type): (&ProjectorShape, CacheType),
    weights: &Weights,
    source: &Kept,
    clean: Option<&Kept>,
    target: &Kept,
    positions: usize,
) -> candle_core::Result<()> {
    let from = clean.unwrap_or(target);
    let rounded = match cache_type {
        CacheType::F32 => TensorDType::F32,
        CacheType::F16 => TensorDType::F16,
        CacheType::Bf16 => TensorDType::BF16,
    };
    // Both are computed before either is written.
    let mut done = Vec::new();
    for (half, source, from, to) in [
        (Half::Key, &source.0, &from.0, &target.0),
        (Half::Value, &source.1, &from.1, &target.1),
    ] {
        if weights.find(half, ProjectorPart::In).is_some() {
            let add = residual(shape, weights, half, (source, from), positions)?;
            let now = to.narrow(1, 0, positions)?.to_dtype(TensorDType::F32)?;
            let new = (now + add)?.to_dtype(rounded)?.to_dtype(to.dtype())?;
            done.push((to, new.contiguous()?));
        }
    }
    done.iter()
        .try_for_each(|(to, new)| to.slice_set(new, 1, 0))
}

/// (kv heads, positions, head dim)
fn residual(
    shape: &ProjectorShape,
    weights: &Weights,
    half: Half,
    (source, target): (&Tensor, &Tensor),
    positions: usize,
) -> candle_core::Result<Tensor> {
    use ProjectorPart::{HeadGate, HeadGateBias, In, InBias, Out, OutBias};
    let rows = |kept: &Tensor| {
        let kept = kept
            .narrow(1, 0, positions)?
            .transpose(0, 1)?
            .contiguous()?;
        let channels = kept.dim(1)? * kept.dim(2)?;
        kept.reshape((positions, channels))?
            .to_dtype(TensorDType::F32)
    };
    let both = Tensor::cat(&[rows(source)?, rows(target)?], 1)?;
    let hidden = weights.linear(half, &both, (In, Some(InBias)))?;
    let hidden = weights.block(half, &hidden, 0)?;
    let scalar = weights.block(half, &hidden, 1)?;
    let gates = weights.linear(half, &scalar, (HeadGate, Some(HeadGateBias)))?;
    let mut projected = hidden;
    for index in (2..).take_while(|&index| weights.find(half, ProjectorPart::Norm(index)).is_some())
    {
        projected = weights.block(half, &projected, index)?;
    }
    let projected = weights.linear(half, &projected, (Out, Some(OutBias)))?;
    let size = (positions, shape.target_heads, shape.target_dim);
    let weighed = projected
        .reshape(size)?
        .broadcast_mul(&sigmoid(&gates)?.unsqueeze(2)?)?;
    weighed.transpose(0, 1)?.contiguous()
}

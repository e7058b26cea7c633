//! The projector spelled out in candle operations, in f32: what the fast one is held against, and
//! what a device runs.

use candle_core::{DType as TensorDType, Tensor};
use candle_nn::ops::{rms_norm, sigmoid};
use kernels::{CacheType, Pairing, ProjectorShape};
use loader::{Half, ProjectorPart, Role};

use crate::compute::clear::tensors::BlockTensors;

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

/// One half's weights.
#[derive(Clone, Copy)]
struct HalfOf<'a> {
    tensors: &'a BlockTensors,
    half: Half,
}

impl HalfOf<'_> {
    fn has(self, part: ProjectorPart) -> bool {
        self.tensors
            .find(Role::Projector(self.half, part))
            .is_some()
    }

    /// Without a bias where the projector has none of that name.
    fn linear(
        self,
        x: &Tensor,
        weight: ProjectorPart,
        bias: ProjectorPart,
    ) -> candle_core::Result<Tensor> {
        let role = |part| Role::Projector(self.half, part);
        self.tensors.linear(x, role(weight), role(bias))
    }

    /// `x + down(gelu(up(norm(x))))`
    fn block(self, x: &Tensor, index: u8) -> candle_core::Result<Tensor> {
        use ProjectorPart::{Down, Norm, Up};
        let role = |part| Role::Projector(self.half, part);
        let normed = rms_norm(x, self.tensors.get(role(Norm(index)))?, NORM_EPS)?;
        let inner = normed.matmul(&self.tensors.get(role(Up(index)))?.t()?)?;
        x + inner
            .gelu_erf()?
            .matmul(&self.tensors.get(role(Down(index)))?.t()?)?
    }
}

type Kept = (Tensor, Tensor);

pub(super) fn fuse(
    (shape, cache_type): (&ProjectorShape, CacheType),
    tensors: &BlockTensors,
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
        let weights = HalfOf { tensors, half };
        if weights.has(ProjectorPart::In) {
            let keys = match half {
                Half::Key => [shape.source_keys, shape.target_keys],
                Half::Value => [Pairing::Halves; 2],
            };
            let add = residual(shape, weights, (source, from), keys, positions)?;
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
    weights: HalfOf<'_>,
    (source, target): (&Tensor, &Tensor),
    [source_keys, target_keys]: [Pairing; 2],
    positions: usize,
) -> candle_core::Result<Tensor> {
    use ProjectorPart::{HeadGate, HeadGateBias, In, InBias, Out, OutBias};
    let rows = |kept: &Tensor, keys| {
        let kept = kept.narrow(1, 0, positions)?;
        let kept = swapped(&kept, keys, |half| [half, 2])?
            .transpose(0, 1)?
            .contiguous()?;
        let channels = kept.dim(1)? * kept.dim(2)?;
        kept.reshape((positions, channels))?
            .to_dtype(TensorDType::F32)
    };
    let both = [rows(source, source_keys)?, rows(target, target_keys)?];
    let both = Tensor::cat(&both, 1)?;
    let hidden = weights.linear(&both, In, InBias)?;
    let hidden = weights.block(&hidden, 0)?;
    let scalar = weights.block(&hidden, 1)?;
    let gates = weights.linear(&scalar, HeadGate, HeadGateBias)?;
    let mut projected = hidden;
    for index in (2..).take_while(|&index| weights.has(ProjectorPart::Norm(index))) {
        projected = weights.block(&projected, index)?;
    }
    let projected = weights.linear(&projected, Out, OutBias)?;
    let size = (positions, shape.target_heads, shape.target_dim);
    let weighed = projected
        .reshape(size)?
        .broadcast_mul(&sigmoid(&gates)?.unsqueeze(2)?)?;
    swapped(
        &weighed.transpose(0, 1)?.contiguous()?,
        target_keys,
        |half| [2, half],
    )
}

/// (heads, positions, head dim) with each head's dimensions in the other order: from neighbours to halves
/// as half by two, and back as two by half. As they are where a cache has halves.
fn swapped(
    kept: &Tensor,
    keys: Pairing,
    size: fn(usize) -> [usize; 2],
) -> candle_core::Result<Tensor> {
    if keys == Pairing::Halves {
        return Ok(kept.clone());
    }
    let (heads, positions, dim) = kept.dims3()?;
    let [rows, cols] = size(dim / 2);
    let kept = kept
        .contiguous()?
        .reshape((heads, positions, rows, cols))?
        .transpose(2, 3)?;
    kept.contiguous()?.reshape((heads, positions, dim))
}

//! An encoder or a decoder of audio in tensor operations, a stream at a time. What it keeps of the
//! stream is a value: one from before can be gone back to.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::rms_norm;
use kernels::{CodecPart, CodecShape};

use crate::compute::clear::conv::{Conv, ConvSize, Depthwise, Kept, Transposed, follow};
use crate::compute::clear::linear::Linear;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;
use crate::pipelines::speech::vibevoice::weights::{HEAD, STEM, block_name, resample_name};

/// What all convolutions keep, one after the other.
pub type CodecState = Vec<Kept>;

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Conv,
    Transposed,
    Block,
}

/// A layer in the order they run, by its name and its sizes.
#[derive(Debug, Clone)]
pub struct LayerSize {
    pub kind: Kind,
    name: String,
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Times a frame that it takes.
    pub times: usize,
}

impl LayerSize {
    /// Times before that it sees; of a transposed convolution none.
    pub fn history(&self) -> usize {
        match self.kind {
            Kind::Transposed => 0,
            Kind::Conv | Kind::Block => self.kernel - self.stride,
        }
    }

    /// Numbers that it keeps, as the kernels do.
    pub fn kept(&self) -> usize {
        match self.kind {
            Kind::Transposed => self.outputs * self.kernel,
            Kind::Conv | Kind::Block => self.history() * self.inputs,
        }
    }

    fn conv(&self) -> ConvSize {
        ConvSize {
            inputs: self.inputs,
            kernel: self.kernel,
            stride: self.stride,
            apart: 1,
        }
    }
}

/// All layers of a shape.
pub fn layers(shape: &CodecShape) -> Vec<LayerSize> {
    let is_encoder = shape.part == CodecPart::Encoder;
    let count = shape.ratios.len();
    let width = |at: usize| shape.filters << if is_encoder { at } else { count - at };
    let (first, last) = match is_encoder {
        true => (shape.channels, shape.latent),
        false => (shape.latent, shape.channels),
    };
    let mut times = if is_encoder { shape.hop() } else { 1 };
    let layer = |kind, name, (inputs, outputs), (kernel, stride), times| LayerSize {
        kind,
        name,
        inputs,
        outputs,
        kernel,
        stride,
        times,
    };
    let own = (shape.kernel, 1);
    let stem = STEM.to_owned();
    let mut all = vec![layer(Kind::Conv, stem, (first, width(0)), own, times)];
    for (stage, &depth) in shape.depths.iter().enumerate() {
        for block in 0..depth {
            let (name, channels) = (block_name(stage, block), (width(stage), width(stage)));
            all.push(layer(Kind::Block, name, channels, own, times));
        }
        if stage == count {
            break;
        }
        let name = resample_name(shape.part, stage + 1);
        let channels = (width(stage), width(stage + 1));
        let (kind, ratio) = match is_encoder {
            true => (Kind::Conv, shape.ratios[stage]),
            false => (Kind::Transposed, shape.ratios[count - 1 - stage]),
        };
        all.push(layer(kind, name, channels, (2 * ratio, ratio), times));
        times = match is_encoder {
            true => times / ratio,
            false => times * ratio,
        };
    }
    let head = HEAD.to_owned();
    all.push(layer(Kind::Conv, head, (width(count), last), own, times));
    all
}

/// A codec's encoder or decoder, as tensors.
#[derive(Debug)]
pub struct Codec {
    layers: Vec<(LayerSize, Layer)>,
}

#[derive(Debug)]
enum Layer {
    Conv(Conv),
    Transposed(Transposed),
    Block(Box<Block>),
}

/// `x += gamma * mixer(norm(x))`, then `x += ffn_gamma * down(gelu(up(ffn_norm(x))))`.
#[derive(Debug)]
struct Block {
    norm: Tensor,
    mixer: Depthwise,
    gamma: Tensor,
    ffn_norm: Tensor,
    up: Linear,
    down: Linear,
    ffn_gamma: Tensor,
    eps: f32,
}

impl Block {
    fn new(part: &Part, layer: &LayerSize, eps: f32, device: &Device) -> Result<Self, EngineError> {
        let name = &layer.name;
        let tensor = |of: &str| part.tensor(&format!("{name}.{of}"), device);
        let vector =
            |of: &str| -> Result<Tensor, EngineError> { Ok(tensor(of)?.to_dtype(DType::F32)?) };
        let linear = |of: &str| -> Result<Linear, EngineError> {
            let weight = tensor(&format!("{of}.weight"))?;
            Ok(Linear::new(&weight, Some(&tensor(&format!("{of}.bias"))?))?)
        };
        let (weight, bias) = (tensor("mixer.conv.weight")?, tensor("mixer.conv.bias")?);
        Ok(Self {
            norm: vector("norm.weight")?,
            mixer: Depthwise::new(&weight, &bias, layer.kernel)?,
            gamma: vector("gamma")?,
            ffn_norm: vector("ffn_norm.weight")?,
            up: linear("ffn.linear1")?,
            down: linear("ffn.linear2")?,
            ffn_gamma: vector("ffn_gamma")?,
            eps,
        })
    }

    fn run(&self, kept: &mut Kept, x: &Tensor) -> candle_core::Result<Tensor> {
        // Kept as they come, as the kernels do, and normed again.
        let seen = follow(kept, x, self.mixer.history())?;
        let mixed = self.mixer.over(&rms_norm(&seen, &self.norm, self.eps)?)?;
        let x = (x + mixed.broadcast_mul(&self.gamma)?)?;
        let inner = self.up.run(&rms_norm(&x, &self.ffn_norm, self.eps)?)?;
        let given = self.down.run(&inner.gelu_erf()?)?;
        x + given.broadcast_mul(&self.ffn_gamma)?
    }
}

impl Codec {
    pub fn new(part: &Part, shape: &CodecShape, device: &Device) -> Result<Self, EngineError> {
        let layer = |size: LayerSize| -> Result<(LayerSize, Layer), EngineError> {
            let tensor = |of: &str| part.tensor(&format!("{}.{of}", size.name), device);
            let layer = match size.kind {
                Kind::Conv => {
                    let (weight, bias) = (tensor("weight")?, tensor("bias")?);
                    Layer::Conv(Conv::new(&weight, &bias, size.conv())?)
                }
                Kind::Transposed => {
                    let (weight, bias) = (tensor("weight")?, tensor("bias")?);
                    let transposed = Transposed::new(&weight, &bias, size.kernel, size.stride)?;
                    Layer::Transposed(transposed)
                }
                Kind::Block => {
                    let block = Block::new(part, &size, shape.norm_eps, device)?;
                    Layer::Block(Box::new(block))
                }
            };
            Ok((size, layer))
        };
        let layers = layers(shape).into_iter().map(layer);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Of a stream that begins.
    pub fn start(&self) -> CodecState {
        vec![None; self.layers.len()]
    }

    /// What whole frames that follow what `state` has seen become: rows are times.
    pub fn run(&self, state: &mut CodecState, rows: &Tensor) -> candle_core::Result<Tensor> {
        let mut rows = rows.clone();
        for ((_, layer), kept) in self.layers.iter().zip(state) {
            rows = match layer {
                Layer::Conv(conv) => conv.run(kept, &rows)?,
                Layer::Transposed(transposed) => transposed.run(kept, &rows)?,
                Layer::Block(block) => block.run(kept, &rows)?,
            };
        }
        Ok(rows)
    }

    /// What is kept of a stream, as the kernels keep it: all of it in a row.
    pub fn filed(&self, state: &CodecState, device: &Device) -> candle_core::Result<Tensor> {
        let filed = self.layers.iter().zip(state);
        let filed = filed.map(|((size, layer), kept)| match (layer, kept) {
            (Layer::Transposed(transposed), kept) => transposed.filed(kept, device),
            (Layer::Conv(_) | Layer::Block(_), Some(kept)) => kept.flatten_all(),
            (Layer::Conv(_) | Layer::Block(_), None) => {
                Tensor::zeros(size.kept(), DType::F32, device)
            }
        });
        Tensor::cat(&filed.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }

    /// Goes on from that; `None` where there are not as many numbers.
    pub fn unfiled(
        &self,
        numbers: &[f32],
        device: &Device,
    ) -> candle_core::Result<Option<CodecState>> {
        let sizes = self.layers.iter().map(|(size, _)| size.kept());
        if numbers.len() != sizes.sum::<usize>() {
            return Ok(None);
        }
        let mut rest = numbers;
        let kept = self.layers.iter().map(|(size, layer)| {
            let (own, after) = rest.split_at(size.kept());
            rest = after;
            let own = Tensor::from_slice(own, own.len(), device)?;
            match layer {
                Layer::Transposed(transposed) => transposed.unfiled(&own),
                Layer::Conv(_) | Layer::Block(_) => {
                    Ok(Some(own.reshape((size.history(), size.inputs))?))
                }
            }
        });
        Ok(Some(kept.collect::<candle_core::Result<_>>()?))
    }
}

#[cfg(test)]
mod tests;

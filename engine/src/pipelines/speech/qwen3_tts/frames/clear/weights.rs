//! The vocoder's weights as tensors, by their names in the files, and what they take of memory.

use candle_core::{Device, Tensor};
use kernels::VocoderShape;

use super::tensors::Named;
use crate::compute::clear::conv::{Conv, ConvSize, Depthwise, Transposed};
use crate::compute::clear::linear::Linear;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;
use crate::pipelines::speech::qwen3_tts::weights::codebook;

/// Its logarithms were made numbers when it was loaded.
#[derive(Debug)]
pub struct Snake {
    pub frequency: Tensor,
    pub gain: Tensor,
}

#[derive(Debug)]
pub struct Block {
    pub input_norm: Tensor,
    pub qkv: Linear,
    pub out: Linear,
    pub attention_scale: Tensor,
    pub post_norm: Tensor,
    pub gate_up: Linear,
    pub down: Linear,
    pub ffn_scale: Tensor,
}

/// A first stage.
#[derive(Debug)]
pub struct Upsample {
    pub conv: Transposed,
    pub mixer: Depthwise,
    pub norm: Tensor,
    pub norm_bias: Tensor,
    pub linear1: Linear,
    pub linear2: Linear,
    pub gamma: Tensor,
}

/// A second stage.
#[derive(Debug)]
pub struct Stage {
    pub snake: Snake,
    pub conv: Transposed,
    pub units: Vec<Unit>,
}

#[derive(Debug)]
pub struct Unit {
    pub snake1: Snake,
    pub conv1: Conv,
    pub snake2: Snake,
    /// Sees one time.
    pub conv2: Linear,
}

/// The weights, in f32.
#[derive(Debug)]
pub struct VocoderTensors {
    /// Of all codebooks, one after the other.
    pub entries: Tensor,
    /// Where each codebook begins among them.
    pub offsets: Tensor,
    pub first_out: Linear,
    pub rest_out: Linear,
    pub pre_conv: Conv,
    pub input: Linear,
    pub blocks: Vec<Block>,
    pub norm: Tensor,
    pub output: Linear,
    pub upsample: Vec<Upsample>,
    pub stem: Conv,
    pub stages: Vec<Stage>,
    pub snake: Snake,
    pub head: Conv,
}

impl VocoderTensors {
    /// Of a part that was prepared.
    pub fn new(part: &Part, shape: &VocoderShape, device: &Device) -> Result<Self, EngineError> {
        let named = Named { part, device };
        let books: Vec<String> = (0..shape.quantisers)
            .map(|at| format!("{}.embedding_sum", codebook(at)))
            .collect();
        let books: Vec<&str> = books.iter().map(String::as_str).collect();
        let offsets: Vec<u32> = (0..shape.quantisers)
            .map(|at| (at * shape.codes) as u32)
            .collect();
        let out =
            |kind: &str| named.plain_linear(&[&format!("quantizer.rvq_{kind}.output_proj.weight")]);
        let (kernel, stages) = (shape.kernel, shape.rates.len());
        Ok(Self {
            entries: named.joined(&books)?,
            offsets: Tensor::from_vec(offsets, shape.quantisers, device)?,
            first_out: out("first")?,
            rest_out: out("rest")?,
            pre_conv: named.conv("pre_conv", (shape.quantised, shape.pre_kernel, 1))?,
            input: named.linear("pre_transformer.input_proj")?,
            blocks: (0..shape.layers)
                .map(|at| named.block(&format!("pre_transformer.layers.{at}")))
                .collect::<Result<_, _>>()?,
            norm: named.vector("pre_transformer.norm.weight")?,
            output: named.linear("pre_transformer.output_proj")?,
            upsample: (shape.upsampling.iter().enumerate())
                .map(|(at, rate)| named.upsample(&format!("upsample.{at}"), *rate, kernel))
                .collect::<Result<_, _>>()?,
            stem: named.conv("decoder.0", (shape.latent, kernel, 1))?,
            stages: (0..stages)
                .map(|at| named.stage(shape, at))
                .collect::<Result<_, _>>()?,
            snake: named.snake(&format!("decoder.{}", stages + 1))?,
            head: named.conv(
                &format!("decoder.{}", stages + 2),
                (shape.channels >> stages, kernel, 1),
            )?,
        })
    }

    /// Bytes that a frame reads of the part: all but the codebooks.
    pub fn frame_bytes(part: &Part) -> u64 {
        part.bytes_of_weights(|name| !name.contains("._codebook."))
    }
}

impl Named<'_> {
    /// A convolution of so many inputs, over so many times, so far apart.
    fn conv(
        self,
        name: &str,
        (inputs, kernel, apart): (usize, usize, usize),
    ) -> Result<Conv, EngineError> {
        let weight = self.matrix(&format!("{name}.conv.weight"))?;
        let bias = self.vector(&format!("{name}.conv.bias"))?;
        let size = ConvSize {
            inputs,
            kernel,
            stride: 1,
            apart,
        };
        Ok(Conv::new(&weight, &bias, size)?)
    }

    fn transposed(
        self,
        name: &str,
        (kernel, stride): (usize, usize),
    ) -> Result<Transposed, EngineError> {
        let weight = self.matrix(&format!("{name}.conv.weight"))?;
        let bias = self.vector(&format!("{name}.conv.bias"))?;
        Ok(Transposed::new(&weight, &bias, kernel, stride)?)
    }

    fn snake(self, name: &str) -> Result<Snake, EngineError> {
        Ok(Snake {
            frequency: self.vector(&format!("{name}.alpha"))?,
            gain: self.vector(&format!("{name}.beta"))?,
        })
    }

    fn block(self, name: &str) -> Result<Block, EngineError> {
        let of = |part: &str| format!("{name}.{part}");
        let joined = |parts: &[&str]| {
            let names: Vec<String> = parts.iter().map(|it| of(&format!("{it}.weight"))).collect();
            self.plain_linear(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Ok(Block {
            input_norm: self.vector(&of("input_layernorm.weight"))?,
            qkv: joined(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])?,
            out: joined(&["self_attn.o_proj"])?,
            attention_scale: self.vector(&of("self_attn_layer_scale.scale"))?,
            post_norm: self.vector(&of("post_attention_layernorm.weight"))?,
            gate_up: joined(&["mlp.gate_proj", "mlp.up_proj"])?,
            down: joined(&["mlp.down_proj"])?,
            ffn_scale: self.vector(&of("mlp_layer_scale.scale"))?,
        })
    }

    fn upsample(self, name: &str, rate: usize, kernel: usize) -> Result<Upsample, EngineError> {
        let of = |part: &str| format!("{name}.1.{part}");
        let mixer = self.matrix(&of("dwconv.conv.weight"))?;
        let bias = self.vector(&of("dwconv.conv.bias"))?;
        Ok(Upsample {
            conv: self.transposed(&format!("{name}.0"), (rate, rate))?,
            mixer: Depthwise::new(&mixer, &bias, kernel)?,
            norm: self.vector(&of("norm.weight"))?,
            norm_bias: self.vector(&of("norm.bias"))?,
            linear1: self.linear(&of("pwconv1"))?,
            linear2: self.linear(&of("pwconv2"))?,
            gamma: self.vector(&of("gamma"))?,
        })
    }

    fn stage(self, shape: &VocoderShape, at: usize) -> Result<Stage, EngineError> {
        let of = |part: &str| format!("decoder.{}.block.{part}", at + 1);
        let (rate, width) = (shape.rates[at], shape.channels >> (at + 1));
        let unit = |(unit, apart): (usize, &usize)| {
            let of = |part: &str| of(&format!("{}.{part}", unit + 2));
            Ok(Unit {
                snake1: self.snake(&of("act1"))?,
                conv1: self.conv(&of("conv1"), (width, shape.kernel, *apart))?,
                snake2: self.snake(&of("act2"))?,
                conv2: self.linear(&of("conv2.conv"))?,
            })
        };
        Ok(Stage {
            snake: self.snake(&of("0"))?,
            conv: self.transposed(&of("1"), (2 * rate, rate))?,
            units: (shape.dilations.iter().enumerate())
                .map(unit)
                .collect::<Result<_, EngineError>>()?,
        })
    }
}

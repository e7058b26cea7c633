//! The vocoder in tensors: a frame of codes becomes its samples, behind what the stream's convolutions
//! and its window of frames have seen. Rows are times, with their channels side by side, in f32. A
//! frame at a time, so that however a stream is cut it has the same bits.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::{layer_norm, rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;
use kernels::VocoderShape;

use super::weights::{Block, Snake, Stage, Upsample, VocoderTensors};
use crate::compute::clear::conv::Kept;

/// What is kept of a stream.
#[derive(Debug)]
pub struct Heard {
    /// Frames so far.
    frames: usize,
    /// Of each block keys and values of a window: (kv heads, window, head dim). A frame is written
    /// over the one that no frame sees any more.
    caches: Vec<(Tensor, Tensor)>,
    convs: Convs,
}

/// What convolutions keep of the times before.
#[derive(Debug, Default)]
struct Convs {
    pre: Kept,
    /// Of each first stage: where it lengthens the stream, and where it mixes times.
    upsample: Vec<(Kept, Kept)>,
    stem: Kept,
    stages: Vec<StageKept>,
    head: Kept,
}

#[derive(Debug, Clone, Default)]
struct StageKept {
    conv: Kept,
    units: Vec<Kept>,
}

impl Convs {
    fn of(shape: &VocoderShape) -> Self {
        let stage = StageKept {
            units: vec![None; shape.dilations.len()],
            ..StageKept::default()
        };
        Self {
            upsample: vec![(None, None); shape.upsampling.len()],
            stages: vec![stage; shape.rates.len()],
            ..Self::default()
        }
    }
}

impl Heard {
    pub fn new(shape: &VocoderShape, device: &Device) -> Result<Self> {
        let size = (shape.block.kv_heads, shape.window, shape.block.head_dim);
        let cache = || Tensor::zeros(size, DType::F32, device);
        let caches = (0..shape.layers).map(|_| Ok((cache()?, cache()?)));
        Ok(Self {
            frames: 0,
            caches: caches.collect::<Result<_>>()?,
            convs: Convs::of(shape),
        })
    }

    /// The stream begins anew.
    pub fn begin(&mut self, shape: &VocoderShape) {
        self.frames = 0;
        self.convs = Convs::of(shape);
    }
}

/// A look at what each part gives: its name and its rows.
pub type Look<'a> = dyn FnMut(String, &Tensor) + 'a;

/// A stream through a vocoder.
#[derive(Debug)]
pub struct Vocoder<'m> {
    pub weights: &'m VocoderTensors,
    pub shape: &'m VocoderShape,
    pub heard: Heard,
}

impl Vocoder<'_> {
    /// The samples of a frame, not yet cut off at 1. `codes`: one for each codebook.
    pub fn frame(&mut self, codes: &Tensor, look: &mut Look<'_>) -> Result<Tensor> {
        let (w, shape) = (self.weights, self.shape);
        let mut x = self.quantised(codes)?;
        look("quantizer".into(), &x);
        x = w.pre_conv.run(&mut self.heard.convs.pre, &x)?;
        look("pre_conv".into(), &x);
        x = self.transformed(&w.input.run(&x)?)?;
        x = w
            .output
            .run(&rms_norm(&x, &w.norm, shape.block.norm_eps)?)?;
        look("transformer".into(), &x);
        let kept = &mut self.heard.convs;
        for (at, (stage, kept)) in w.upsample.iter().zip(&mut kept.upsample).enumerate() {
            x = lengthened(stage, &x, kept, shape.layer_norm_eps)?;
            look(format!("upsample.{at}"), &x);
        }
        x = w.stem.run(&mut kept.stem, &x)?;
        look("decoder.0".into(), &x);
        for (at, (stage, kept)) in w.stages.iter().zip(&mut kept.stages).enumerate() {
            x = staged(stage, &x, kept)?;
            look(format!("decoder.{}", at + 1), &x);
        }
        x = waved(&w.snake, &x)?;
        look(format!("decoder.{}", w.stages.len() + 1), &x);
        x = w.head.run(&mut kept.head, &x)?;
        look(format!("decoder.{}", w.stages.len() + 2), &x);
        self.heard.frames += 1;
        x.flatten_all()
    }

    /// The first codebook's entry and the sum of the others', each by its own matrix.
    fn quantised(&self, codes: &Tensor) -> Result<Tensor> {
        let w = self.weights;
        let entries = w.entries.index_select(&(codes + &w.offsets)?, 0)?;
        let first = entries.narrow(0, 0, 1)?;
        let rest = entries.narrow(0, 1, entries.dim(0)? - 1)?;
        w.first_out.run(&first)? + w.rest_out.run(&rest.sum_keepdim(0)?)?
    }

    /// A row through the blocks of the transformer.
    fn transformed(&self, x: &Tensor) -> Result<Tensor> {
        let (shape, heard) = (self.shape, &self.heard);
        let turns = turns(shape, heard.frames, x.device())?;
        let mut x = x.clone();
        for (block, caches) in self.weights.blocks.iter().zip(&heard.caches) {
            let normed = rms_norm(&x, &block.input_norm, shape.block.norm_eps)?;
            let given = attended(shape, block, &normed, &turns, (caches, heard.frames))?;
            x = (x + given.broadcast_mul(&block.attention_scale)?)?;
            let normed = rms_norm(&x, &block.post_norm, shape.block.norm_eps)?;
            let both = block.gate_up.run(&normed)?;
            let ffn = shape.block.ffn;
            let inner = (silu(&both.narrow(1, 0, ffn)?)? * both.narrow(1, ffn, ffn)?)?;
            x = (x + block.down.run(&inner)?.broadcast_mul(&block.ffn_scale)?)?;
        }
        Ok(x)
    }
}

/// Cosines and sines of a frame's place. Streams are long: angles are made in double precision.
fn turns(shape: &VocoderShape, frame: usize, device: &Device) -> Result<[Tensor; 2]> {
    let pairs = shape.block.head_dim / 2;
    let angle = |pair: usize| {
        let exponent = -(pair as f64) / pairs as f64;
        frame as f64 * f64::from(shape.rope_theta).powf(exponent)
    };
    let both = (0..pairs).map(|pair| angle(pair).cos() as f32);
    let both = both.chain((0..pairs).map(|pair| angle(pair).sin() as f32));
    let both = Tensor::from_vec(both.collect::<Vec<f32>>(), (2, pairs), device)?;
    Ok([both.narrow(0, 0, 1)?, both.narrow(0, 1, 1)?])
}

/// What a row takes of the frames in its window.
fn attended(
    shape: &VocoderShape,
    block: &Block,
    normed: &Tensor,
    [cos, sin]: &[Tensor; 2],
    ((keys, values), frame): (&(Tensor, Tensor), usize),
) -> Result<Tensor> {
    let (heads, kv_heads) = (shape.block.heads, shape.block.kv_heads);
    let dim = shape.block.head_dim;
    let qkv = block.qkv.run(normed)?;
    let part = |first: usize, count: usize| {
        let part = qkv.narrow(1, first * dim, count * dim)?.contiguous()?;
        part.reshape((count, 1, dim))
    };
    let turned = |part: Tensor| rope(&part.unsqueeze(0)?, cos, sin)?.squeeze(0);
    let q = turned(part(0, heads)?)?;
    let place = frame % shape.window;
    keys.slice_set(&turned(part(heads, kv_heads)?)?, 1, place)?;
    values.slice_set(&part(heads + kv_heads, kv_heads)?, 1, place)?;
    // In the order of their places, which attention does not ask for.
    let seen = (frame + 1).min(shape.window);
    let (keys, values) = (keys.narrow(1, 0, seen)?, values.narrow(1, 0, seen)?);
    let q = q.reshape((kv_heads, heads / kv_heads, dim))?;
    let scores = (q.matmul(&keys.transpose(1, 2)?)? / (dim as f64).sqrt())?;
    let mixed = softmax_last_dim(&scores)?.matmul(&values)?;
    block.out.run(&mixed.reshape((1, heads * dim))?)
}

/// `x = conv(x)`, then `x += gamma * linear2(gelu(linear1(norm(mixer(x)))))`.
fn lengthened(
    stage: &Upsample,
    x: &Tensor,
    (conv, mixer): &mut (Kept, Kept),
    eps: f32,
) -> Result<Tensor> {
    let x = stage.conv.run(conv, x)?;
    let mixed = stage.mixer.run(mixer, &x)?;
    let normed = layer_norm(&mixed, &stage.norm, &stage.norm_bias, eps)?;
    let inner = stage.linear1.run(&normed)?.gelu_erf()?;
    let given = stage.linear2.run(&inner)?;
    x + given.broadcast_mul(&stage.gamma)?
}

/// `x = conv(snake(x))`, then its units: `x += conv2(snake2(conv1(snake1(x))))`.
fn staged(stage: &Stage, x: &Tensor, kept: &mut StageKept) -> Result<Tensor> {
    let mut x = stage.conv.run(&mut kept.conv, &waved(&stage.snake, x)?)?;
    for (unit, kept) in stage.units.iter().zip(&mut kept.units) {
        let inner = unit.conv1.run(kept, &waved(&unit.snake1, &x)?)?;
        let given = unit.conv2.run(&waved(&unit.snake2, &inner)?)?;
        x = (x + given)?;
    }
    Ok(x)
}

/// `x + gain * sin(frequency * x)^2`.
fn waved(snake: &Snake, x: &Tensor) -> Result<Tensor> {
    let wave = x.broadcast_mul(&snake.frequency)?.sin()?.sqr()?;
    x + wave.broadcast_mul(&snake.gain)?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use offload::PlaceChoice;

    use super::*;
    use crate::compute::Kernels;
    use crate::model::options::ModelOptions;
    use crate::pipelines::speech::qwen3_tts::frames::Parts;
    use crate::pipelines::speech::qwen3_tts::{Tts, TtsOptions};

    fn bytes(heard: &Heard) -> usize {
        let convs = &heard.convs;
        let stages = convs.stages.iter();
        let units = stages.flat_map(|stage| stage.units.iter().chain([&stage.conv]));
        let lengthened = convs
            .upsample
            .iter()
            .flat_map(|(conv, mixer)| [conv, mixer]);
        let kept = units.chain(lengthened);
        let kept = kept.chain([&convs.pre, &convs.stem, &convs.head]).flatten();
        let caches = heard
            .caches
            .iter()
            .flat_map(|(keys, values)| [keys, values]);
        let numbers = kept.chain(caches).map(Tensor::elem_count);
        numbers.sum::<usize>() * size_of::<f32>()
    }

    #[test]
    fn what_is_kept_of_a_stream_is_what_is_counted() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3tts");
        let options = TtsOptions {
            model: ModelOptions {
                kernels: Kernels::Clear,
                device: PlaceChoice::Host,
                context: Some(64),
                ..ModelOptions::default()
            },
            ..TtsOptions::default()
        };
        let tts = Tts::open(&fixtures.join("tiny"), &options).unwrap();
        let Parts::Clear(parts) = &tts.parts else {
            panic!("the kernels, which were not asked for");
        };
        let shape = &parts.size.vocoder;
        let mut vocoder = Vocoder {
            weights: &parts.vocoder,
            shape,
            heard: Heard::new(shape, &Device::Cpu).unwrap(),
        };
        let codes = Tensor::zeros(shape.quantisers, DType::U32, &Device::Cpu).unwrap();
        for _ in 0..3 {
            vocoder.frame(&codes, &mut |_, _| ()).unwrap();
            assert_eq!(bytes(&vocoder.heard), parts.size.kept_bytes());
        }
    }
}

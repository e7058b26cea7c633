//! An encoder and a decoder spelt in double precision over a whole stream, with weights of any
//! format.

use crate::codec::{CodecBlock, CodecPart, CodecShape, CodecWeights};
use crate::conv::ConvWeights;
use crate::testing::{Format, Owned, Random, gelu};
use crate::weights::{Matrix, Weights};

/// Numbers and the sizes of what they make.
struct Part(Owned, usize, usize);

impl Part {
    fn matrix(&self) -> Matrix<'_> {
        self.0.matrix(self.1, self.2)
    }

    fn vector(&self) -> Weights<'_> {
        self.0.weights()
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        f64::from(self.0.weights().get(row * self.2 + col))
    }
}

struct Conv {
    weight: Part,
    bias: Part,
}

impl Conv {
    fn weights(&self) -> ConvWeights<'_> {
        ConvWeights {
            weight: self.weight.matrix(),
            bias: self.bias.vector(),
        }
    }
}

struct Block {
    mixer: Conv,
    linear1: Conv,
    linear2: Conv,
    /// The norm, gamma, the second norm and its gamma.
    vectors: [Part; 4],
}

impl Block {
    fn weights(&self) -> CodecBlock<'_> {
        let [norm, gamma, ffn_norm, ffn_gamma] = self.vectors.each_ref().map(Part::vector);
        CodecBlock {
            norm,
            mixer: self.mixer.weights(),
            gamma,
            ffn_norm,
            linear1: self.linear1.weight.matrix(),
            bias1: self.linear1.bias.vector(),
            linear2: self.linear2.weight.matrix(),
            bias2: self.linear2.bias.vector(),
            ffn_gamma,
        }
    }
}

pub(super) struct Plain {
    shape: CodecShape,
    stem: Conv,
    stages: Vec<Vec<Block>>,
    resample: Vec<Conv>,
    head: Conv,
}

/// Rows of channels.
type Rows = Vec<Vec<f64>>;

impl Plain {
    pub fn new(shape: &CodecShape, format: Format, random: &mut Random) -> Self {
        let count = shape.ratios.len();
        let is_encoder = shape.part == CodecPart::Encoder;
        let width = |at: usize| shape.width(if is_encoder { at } else { count - at });
        let mut part = |rows: usize, cols: usize, scale: f32| {
            let owned = Owned::random(format, rows * cols, scale, random);
            Part(owned, rows, cols)
        };
        let mut conv = |rows: usize, cols: usize, fan: usize, outputs: usize| Conv {
            weight: part(rows, cols, 2.0 / (fan as f32).sqrt()),
            bias: part(outputs, 1, 0.3),
        };
        let (first, last) = match shape.part {
            CodecPart::Encoder => (shape.channels, shape.latent),
            CodecPart::Decoder => (shape.latent, shape.channels),
        };
        let seen = first * shape.kernel;
        let stem = conv(width(0), seen, seen, width(0));
        let seen = width(count) * shape.kernel;
        let head = conv(last, seen, seen, last);
        let ratios: Vec<usize> = shape.ratios_run().collect();
        let resample = ratios.iter().enumerate().map(|(at, ratio)| {
            let (from, to) = (width(at), width(at + 1));
            match shape.part {
                CodecPart::Encoder => conv(to, from * 2 * ratio, from * 2 * ratio, to),
                CodecPart::Decoder => conv(from, to * 2 * ratio, 2 * from, to),
            }
        });
        let resample = resample.collect();
        let mut stages = Vec::new();
        for (at, depth) in shape.depths.iter().enumerate() {
            let (channels, inner) = (width(at), width(at) * shape.expansion);
            let block = |_| Block {
                mixer: conv(channels, shape.kernel, shape.kernel, channels),
                linear1: conv(inner, channels, channels, inner),
                linear2: conv(channels, inner, inner, channels),
                vectors: [(); 4].map(|()| conv(channels, 1, 1, 1).weight),
            };
            stages.push((0..*depth).map(block).collect());
        }
        Plain {
            shape: shape.clone(),
            stem,
            stages,
            resample,
            head,
        }
    }

    pub fn weights(&self) -> CodecWeights<'_> {
        let mut stages = Vec::new();
        for stage in &self.stages {
            stages.push(stage.iter().map(Block::weights).collect());
        }
        CodecWeights {
            stem: self.stem.weights(),
            stages,
            resample: self.resample.iter().map(Conv::weights).collect(),
            head: self.head.weights(),
        }
    }

    /// The latents of a whole stream of audio, or the audio of latents.
    pub fn run(&self, from: &[f32]) -> Vec<f64> {
        let shape = &self.shape;
        let width = match shape.part {
            CodecPart::Encoder => shape.channels,
            CodecPart::Decoder => shape.latent,
        };
        let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect();
        let rows: Rows = from.chunks(width).map(wide).collect();
        let mut rows = convolve(&self.stem, rows, shape.kernel, 1);
        let mut ratios = shape.ratios_run();
        for (at, stage) in self.stages.iter().enumerate() {
            rows = stage
                .iter()
                .fold(rows, |rows, block| self.block(block, rows));
            if let Some(ratio) = ratios.next() {
                rows = match shape.part {
                    CodecPart::Encoder => convolve(&self.resample[at], rows, 2 * ratio, ratio),
                    CodecPart::Decoder => spread(&self.resample[at], rows, ratio),
                };
            }
        }
        convolve(&self.head, rows, shape.kernel, 1).concat()
    }

    fn norm(&self, row: &[f64], weight: &Part) -> Vec<f64> {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.shape.norm_eps)).sqrt();
        let all = row.iter().enumerate();
        all.map(|(i, x)| x * scale * weight.at(i, 0)).collect()
    }

    fn block(&self, block: &Block, rows: Rows) -> Rows {
        let [norm, gamma, ffn_norm, ffn_gamma] = &block.vectors;
        let normed: Rows = rows.iter().map(|row| self.norm(row, norm)).collect();
        let kernel = self.shape.kernel;
        let mixed = |time: usize, channel: usize| -> f64 {
            let tap = |tap: usize| match (time + tap).checked_sub(kernel - 1) {
                Some(time) => block.mixer.weight.at(channel, tap) * normed[time][channel],
                None => 0.0,
            };
            (0..kernel).map(tap).sum::<f64>() + block.mixer.bias.at(channel, 0)
        };
        let mut out = Vec::new();
        for (time, row) in rows.iter().enumerate() {
            let add = |(i, x): (usize, &f64)| x + gamma.at(i, 0) * mixed(time, i);
            let row: Vec<f64> = row.iter().enumerate().map(add).collect();
            let inner = linear(&block.linear1, &self.norm(&row, ffn_norm));
            let inner: Vec<f64> = inner.into_iter().map(gelu).collect();
            let down = linear(&block.linear2, &inner);
            let both = row.iter().zip(&down).enumerate();
            out.push(both.map(|(i, (x, d))| x + ffn_gamma.at(i, 0) * d).collect());
        }
        out
    }
}

fn linear(Conv { weight, bias }: &Conv, x: &[f64]) -> Vec<f64> {
    let output = |row: usize| {
        let products = x.iter().enumerate().map(|(col, x)| weight.at(row, col) * x);
        products.sum::<f64>() + bias.at(row, 0)
    };
    (0..weight.1).map(output).collect()
}

/// A causal convolution: `kernel - stride` zeros before the first row.
fn convolve(conv: &Conv, rows: Rows, kernel: usize, stride: usize) -> Rows {
    let width = rows[0].len();
    let mut padded = vec![vec![0.0; width]; kernel - stride];
    padded.extend(rows);
    let mut out = Vec::new();
    for first in (0..=padded.len() - kernel).step_by(stride) {
        let window = &padded[first..first + kernel];
        let x = (0..width).flat_map(|channel| window.iter().map(move |row| row[channel]));
        out.push(linear(conv, &x.collect::<Vec<f64>>()));
    }
    out
}

/// A transposed convolution of twice as many taps as its stride, without the end.
fn spread(conv: &Conv, rows: Rows, stride: usize) -> Rows {
    let (kernel, width) = (2 * stride, conv.bias.1);
    let mut out = vec![vec![0.0; width]; (rows.len() + 1) * stride];
    for (time, row) in rows.iter().enumerate() {
        for (tap, out) in out[time * stride..].iter_mut().take(kernel).enumerate() {
            for (channel, out) in out.iter_mut().enumerate() {
                let products = row.iter().enumerate();
                let weight = |input| conv.weight.at(input, channel * kernel + tap);
                *out += products.map(|(input, x)| weight(input) * x).sum::<f64>();
            }
        }
    }
    out.truncate(rows.len() * stride);
    let bias = |(channel, x): (usize, f64)| x + conv.bias.at(channel, 0);
    let row = |row: Vec<f64>| row.into_iter().enumerate().map(bias).collect();
    out.into_iter().map(row).collect()
}

//! A vocoder at released sizes.

use kernels::{
    BlockShape, StageWeights, Team, UnitWeights, UpsampleWeights, VocoderLayer, VocoderScratch,
    VocoderShape, VocoderState, VocoderWeights, decode_codes,
};

use super::{Frame, Numbers, block_stages, stage};

pub struct Vocoder<'a> {
    team: &'a Team,
    shape: VocoderShape,
    weights: VocoderWeights<'a>,
    state: VocoderState,
    scratch: VocoderScratch,
    codes: Vec<u32>,
    audio: Vec<f32>,
}

impl<'a> Vocoder<'a> {
    pub fn new(team: &'a Team, mut numbers: Numbers<'a>, frames: usize) -> Self {
        let shape = VocoderShape {
            quantisers: 16,
            codes: 2048,
            entry: 256,
            quantised: 512,
            pre_kernel: 3,
            latent: 1024,
            layers: 8,
            block: BlockShape {
                hidden: 1024,
                ffn: 3072,
                heads: 16,
                kv_heads: 16,
                head_dim: 64,
                norm_eps: 1e-5,
                scale: None,
                residual: 1.0,
            },
            window: 72,
            rope_theta: 1e4,
            upsampling: vec![2, 2],
            expansion: 4,
            layer_norm_eps: 1e-6,
            channels: 1536,
            rates: vec![8, 5, 4, 3],
            dilations: vec![1, 3, 9],
            kernel: 7,
        };
        let weights = vocoder_weights(&shape, &mut numbers);
        let samples = shape.samples();
        Vocoder {
            team,
            weights,
            state: VocoderState::new(&shape),
            scratch: VocoderScratch::new(team, &shape, frames),
            codes: (0..frames * 16).map(|at| at as u32 * 77 % 2048).collect(),
            audio: vec![0.0; frames * samples],
            shape,
        }
    }
}

fn vocoder_weights<'a>(shape: &VocoderShape, numbers: &mut Numbers<'a>) -> VocoderWeights<'a> {
    let (latent, hidden, kernel) = (shape.latent, shape.block.hidden, shape.kernel);
    let width = |at: usize| shape.channels >> at;
    let codebook = |numbers: &mut Numbers<'a>| numbers.matrix(shape.codes, shape.entry);
    let inner = shape.expansion * latent;
    let upsample = |numbers: &mut Numbers<'a>, rate: usize| UpsampleWeights {
        conv: numbers.conv(latent, latent * rate, latent),
        mixer: numbers.conv(latent, kernel, latent),
        norm: numbers.take(latent),
        norm_bias: numbers.take(latent),
        linear1: numbers.matrix(inner, latent),
        bias1: numbers.take(inner),
        linear2: numbers.matrix(latent, inner),
        bias2: numbers.take(latent),
        gamma: numbers.take(latent),
    };
    let unit = |numbers: &mut Numbers<'a>, width: usize| UnitWeights {
        snake1: numbers.snake(width),
        conv1: numbers.conv(width, width * kernel, width),
        snake2: numbers.snake(width),
        conv2: numbers.conv(width, width, width),
    };
    let last = width(shape.rates.len());
    VocoderWeights {
        codebooks: (0..shape.quantisers).map(|_| codebook(numbers)).collect(),
        first_out: numbers.matrix(shape.quantised, shape.entry),
        rest_out: numbers.matrix(shape.quantised, shape.entry),
        pre_conv: numbers.conv(latent, shape.quantised * shape.pre_kernel, latent),
        input: (numbers.matrix(hidden, latent), numbers.take(hidden)),
        layers: (0..shape.layers)
            .map(|_| VocoderLayer {
                block: numbers.block(&shape.block, false),
                attention_scale: numbers.take(hidden),
                ffn_scale: numbers.take(hidden),
            })
            .collect(),
        norm: numbers.take(hidden),
        output: (numbers.matrix(latent, hidden), numbers.take(latent)),
        upsample: (shape.upsampling.iter())
            .map(|rate| upsample(numbers, *rate))
            .collect(),
        stem: numbers.conv(shape.channels, latent * kernel, shape.channels),
        stages: (shape.rates.iter().enumerate())
            .map(|(at, rate)| StageWeights {
                snake: numbers.snake(width(at)),
                conv: numbers.conv(width(at), width(at + 1) * 2 * rate, width(at + 1)),
                units: (shape.dilations.iter())
                    .map(|_| unit(numbers, width(at + 1)))
                    .collect(),
            })
            .collect(),
        snake: numbers.snake(last),
        head: numbers.conv(1, last * kernel, 1),
    }
}

impl Frame for Vocoder<'_> {
    fn name(&self) -> String {
        format!("vocoder, {} together", self.count())
    }

    fn stages(&self) -> Vec<(f64, f64)> {
        let w = &self.weights;
        let ends = [w.first_out, w.rest_out, w.pre_conv.weight, w.input.0];
        let mut all: Vec<(f64, f64)> = ends.iter().map(|matrix| stage(matrix, 1)).collect();
        let layers = w.layers.iter();
        all.extend(layers.flat_map(|layer| block_stages(&layer.block, 1)));
        all.push(stage(&w.output.0, 1));
        let mut times = 1;
        for (weights, rate) in w.upsample.iter().zip(&self.shape.upsampling) {
            all.push(stage(&weights.conv.weight, times));
            times *= rate;
            all.push(stage(&weights.linear1, times));
            all.push(stage(&weights.linear2, times));
        }
        all.push(stage(&w.stem.weight, times));
        for (weights, rate) in w.stages.iter().zip(&self.shape.rates) {
            all.push(stage(&weights.conv.weight, times));
            times *= rate;
            for unit in &weights.units {
                all.push(stage(&unit.conv1.weight, times));
                all.push(stage(&unit.conv2.weight, times));
            }
        }
        all.push(stage(&w.head.weight, times));
        all
    }

    fn count(&self) -> usize {
        self.codes.len() / self.shape.quantisers
    }

    fn run(&mut self) {
        decode_codes(
            self.team,
            &self.shape,
            &self.weights,
            &mut self.state,
            &self.codes,
            &mut self.audio,
            &mut self.scratch,
        );
    }
}

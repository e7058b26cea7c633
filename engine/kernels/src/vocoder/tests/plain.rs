//! A vocoder spelt in double precision over a whole stream, with weights of any format.

use super::parts::{Conv, Maker, Part, Rows, Waves};
use crate::block::{BlockShape, BlockWeights};
use crate::testing::{Format, Random, gelu};
use crate::vocoder::{
    StageWeights, UnitWeights, UpsampleWeights, VocoderLayer, VocoderShape, VocoderWeights,
};

struct Layer {
    norms: [Part; 2],
    qkv: Part,
    out: Part,
    gate_up: Part,
    down: Part,
    scales: [Part; 2],
}

struct Upsample {
    conv: Conv,
    mixer: Conv,
    norm: Conv,
    linear1: Conv,
    linear2: Conv,
    gamma: Part,
}

struct Unit {
    snake1: Waves,
    conv1: Conv,
    snake2: Waves,
    conv2: Conv,
}

struct Stage {
    snake: Waves,
    conv: Conv,
    units: Vec<Unit>,
}

pub(super) struct Plain {
    shape: VocoderShape,
    codebooks: Vec<Part>,
    outs: [Part; 2],
    pre_conv: Conv,
    input: Conv,
    layers: Vec<Layer>,
    norm: Part,
    output: Conv,
    upsample: Vec<Upsample>,
    stem: Conv,
    stages: Vec<Stage>,
    snake: Waves,
    head: Conv,
}

impl Maker<'_> {
    fn layer(&mut self, block: &BlockShape) -> Layer {
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = *block;
        Layer {
            norms: [(); 2].map(|()| self.part(hidden, 1, 1.0)),
            qkv: self.matrix(block.qkv_rows(), hidden),
            out: self.matrix(hidden, heads * head_dim),
            gate_up: self.matrix(2 * ffn, hidden),
            down: self.matrix(hidden, ffn),
            scales: [(); 2].map(|()| self.part(hidden, 1, 1.0)),
        }
    }

    fn upsample(&mut self, shape: &VocoderShape, rate: usize) -> Upsample {
        let (latent, inner) = (shape.latent, shape.expansion * shape.latent);
        Upsample {
            conv: self.spread(latent, latent, rate),
            mixer: self.linear(latent, shape.kernel),
            norm: self.linear(latent, 1),
            linear1: self.linear(inner, latent),
            linear2: self.linear(latent, inner),
            gamma: self.part(latent, 1, 1.0),
        }
    }

    fn stage(&mut self, shape: &VocoderShape, at: usize) -> Stage {
        let (from, to) = (shape.channels >> at, shape.channels >> (at + 1));
        Stage {
            snake: self.waves(from),
            conv: self.spread(from, to, 2 * shape.rates[at]),
            units: (shape.dilations.iter())
                .map(|_| Unit {
                    snake1: self.waves(to),
                    conv1: self.linear(to, to * shape.kernel),
                    snake2: self.waves(to),
                    conv2: self.linear(to, to),
                })
                .collect(),
        }
    }
}

impl Plain {
    pub fn new(shape: &VocoderShape, format: Format, random: &mut Random) -> Self {
        let mut make = Maker { format, random };
        let (latent, hidden) = (shape.latent, shape.block.hidden);
        let last = shape.channels >> shape.rates.len();
        Plain {
            codebooks: (0..shape.quantisers)
                .map(|_| make.part(shape.codes, shape.entry, 1.0))
                .collect(),
            outs: [(); 2].map(|()| make.matrix(shape.quantised, shape.entry)),
            pre_conv: make.linear(latent, shape.quantised * shape.pre_kernel),
            input: make.linear(hidden, latent),
            layers: (0..shape.layers)
                .map(|_| make.layer(&shape.block))
                .collect(),
            norm: make.part(hidden, 1, 1.0),
            output: make.linear(latent, hidden),
            upsample: (shape.upsampling.iter())
                .map(|rate| make.upsample(shape, *rate))
                .collect(),
            stem: make.linear(shape.channels, latent * shape.kernel),
            stages: (0..shape.rates.len())
                .map(|at| make.stage(shape, at))
                .collect(),
            snake: make.waves(last),
            head: make.linear(1, last * shape.kernel),
            shape: shape.clone(),
        }
    }

    pub fn weights(&self) -> VocoderWeights<'_> {
        VocoderWeights {
            codebooks: self.codebooks.iter().map(Part::matrix).collect(),
            first_out: self.outs[0].matrix(),
            rest_out: self.outs[1].matrix(),
            pre_conv: self.pre_conv.weights(),
            input: (self.input.weight.matrix(), self.input.bias.vector()),
            layers: self.layers.iter().map(Layer::weights).collect(),
            norm: self.norm.vector(),
            output: (self.output.weight.matrix(), self.output.bias.vector()),
            upsample: self.upsample.iter().map(Upsample::weights).collect(),
            stem: self.stem.weights(),
            stages: self.stages.iter().map(Stage::weights).collect(),
            snake: self.snake.weights(),
            head: self.head.weights(),
        }
    }

    /// The audio of a whole stream.
    pub fn run(&self, codes: &[u32]) -> Vec<f64> {
        let shape = &self.shape;
        let mut rows: Rows = Vec::new();
        for codes in codes.chunks(shape.quantisers) {
            let entry = |at: usize| -> Vec<f64> {
                let row = codes[at] as usize;
                (0..shape.entry)
                    .map(|i| self.codebooks[at].at(row, i))
                    .collect()
            };
            let mut rest = vec![0.0; shape.entry];
            for at in 1..shape.quantisers {
                add(&mut rest, &entry(at));
            }
            let mut row = self.outs[0].times(&entry(0));
            add(&mut row, &self.outs[1].times(&rest));
            rows.push(row);
        }
        rows = self.pre_conv.convolve(&rows, shape.pre_kernel, 1);
        rows = rows.iter().map(|row| self.input.linear(row)).collect();
        for layer in &self.layers {
            rows = self.layer(layer, rows);
        }
        let out = |row: &Vec<f64>| {
            let normed = self.norm.rms(row, shape.block.norm_eps);
            self.output.linear(&normed)
        };
        rows = rows.iter().map(out).collect();
        for (stage, rate) in self.upsample.iter().zip(&shape.upsampling) {
            rows = stage.conv.spread(&rows, *rate, *rate);
            rows = stage.next(shape, rows);
        }
        rows = self.stem.convolve(&rows, shape.kernel, 1);
        for (stage, rate) in self.stages.iter().zip(&shape.rates) {
            rows = stage.conv.spread(&stage.snake.run(&rows), 2 * rate, *rate);
            for (unit, apart) in stage.units.iter().zip(&shape.dilations) {
                let inner = unit.snake1.run(&rows);
                let inner = unit.conv1.convolve(&inner, shape.kernel, *apart);
                let inner = unit.conv2.convolve(&unit.snake2.run(&inner), 1, 1);
                for (row, inner) in rows.iter_mut().zip(&inner) {
                    add(row, inner);
                }
            }
        }
        let audio = self.head.convolve(&self.snake.run(&rows), shape.kernel, 1);
        audio
            .concat()
            .into_iter()
            .map(|x| x.clamp(-1.0, 1.0))
            .collect()
    }

    fn layer(&self, layer: &Layer, mut rows: Rows) -> Rows {
        let BlockShape {
            ffn,
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            ..
        } = self.shape.block;
        let turn = |position: usize, head: &[f64]| -> Vec<f64> {
            let half = head_dim / 2;
            let mut out = head.to_vec();
            for at in 0..half {
                let theta = f64::from(self.shape.rope_theta);
                let frequency = theta.powf(-(at as f64) / half as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (low, high) = (head[at], head[at + half]);
                (out[at], out[at + half]) = (low * cos - high * sin, high * cos + low * sin);
            }
            out
        };
        let mut cache: Vec<(Rows, Vec<f64>)> = Vec::new();
        for (position, x) in rows.iter_mut().enumerate() {
            let qkv = layer.qkv.times(&layer.norms[0].rms(x, norm_eps));
            let (q, kv) = qkv.split_at(heads * head_dim);
            let (k, v) = kv.split_at(kv_heads * head_dim);
            let turned = |all: &[f64]| -> Rows {
                let heads = all.chunks(head_dim);
                heads.map(|head| turn(position, head)).collect()
            };
            cache.push((turned(k), v.to_vec()));
            let seen = &cache[(position + 1).saturating_sub(self.shape.window)..];
            let mut attended = Vec::new();
            for (head, q) in turned(q).iter().enumerate() {
                let of_group = head / (heads / kv_heads);
                let score = |(k, _): &(Rows, Vec<f64>)| {
                    let dot: f64 = q.iter().zip(&k[of_group]).map(|(q, k)| q * k).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = seen.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                let first = of_group * head_dim;
                attended.extend((first..first + head_dim).map(|at| {
                    let values = seen.iter().zip(&scores);
                    values
                        .map(|((_, v), score)| v[at] * score / total)
                        .sum::<f64>()
                }));
            }
            let scaled = |given: Vec<f64>, scale: &Part| -> Vec<f64> {
                let all = given.iter().enumerate();
                all.map(|(at, x)| x * scale.at(at, 0)).collect()
            };
            add(x, &scaled(layer.out.times(&attended), &layer.scales[0]));
            let both = layer.gate_up.times(&layer.norms[1].rms(x, norm_eps));
            let (gates, values) = both.split_at(ffn);
            let inner = gates.iter().zip(values);
            let inner: Vec<f64> = inner.map(|(g, v)| g / (1.0 + (-g).exp()) * v).collect();
            add(x, &scaled(layer.down.times(&inner), &layer.scales[1]));
        }
        rows
    }
}

fn add(row: &mut [f64], more: &[f64]) {
    row.iter_mut().zip(more).for_each(|(x, more)| *x += more);
}

impl Layer {
    fn weights(&self) -> VocoderLayer<'_> {
        VocoderLayer {
            block: BlockWeights {
                input_norm: Some(self.norms[0].vector()),
                qkv: self.qkv.matrix(),
                qkv_bias: None,
                q_norm: None,
                k_norm: None,
                out: self.out.matrix(),
                out_bias: None,
                out_norm: None,
                post_norm: Some(self.norms[1].vector()),
                gate_up: self.gate_up.matrix(),
                gate_up_bias: None,
                down: self.down.matrix(),
                down_bias: None,
                down_norm: None,
            },
            attention_scale: self.scales[0].vector(),
            ffn_scale: self.scales[1].vector(),
        }
    }
}

impl Upsample {
    fn weights(&self) -> UpsampleWeights<'_> {
        UpsampleWeights {
            conv: self.conv.weights(),
            mixer: self.mixer.weights(),
            norm: self.norm.weight.vector(),
            norm_bias: self.norm.bias.vector(),
            linear1: self.linear1.weight.matrix(),
            bias1: self.linear1.bias.vector(),
            linear2: self.linear2.weight.matrix(),
            bias2: self.linear2.bias.vector(),
            gamma: self.gamma.vector(),
        }
    }

    fn next(&self, shape: &VocoderShape, mut rows: Rows) -> Rows {
        let seen = rows.clone();
        for (time, row) in rows.iter_mut().enumerate() {
            let mixed = |channel: usize| -> f64 {
                let tap = |tap: usize| match (time + tap).checked_sub(shape.kernel - 1) {
                    Some(time) => self.mixer.weight.at(channel, tap) * seen[time][channel],
                    None => 0.0,
                };
                (0..shape.kernel).map(tap).sum::<f64>() + self.mixer.bias.at(channel, 0)
            };
            let mixed: Vec<f64> = (0..row.len()).map(mixed).collect();
            let count = mixed.len() as f64;
            let mean = mixed.iter().sum::<f64>() / count;
            let variance = mixed.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let scale = 1.0 / (variance + f64::from(shape.layer_norm_eps)).sqrt();
            let normed = mixed.iter().enumerate().map(|(at, x)| {
                (x - mean) * scale * self.norm.weight.at(at, 0) + self.norm.bias.at(at, 0)
            });
            let inner = self.linear1.linear(&normed.collect::<Vec<f64>>());
            let inner: Vec<f64> = inner.into_iter().map(gelu).collect();
            let given = self.linear2.linear(&inner);
            let all = row.iter_mut().zip(given).enumerate();
            all.for_each(|(at, (x, given))| *x += self.gamma.at(at, 0) * given);
        }
        rows
    }
}

impl Stage {
    fn weights(&self) -> StageWeights<'_> {
        StageWeights {
            snake: self.snake.weights(),
            conv: self.conv.weights(),
            units: self.units.iter().map(Unit::weights).collect(),
        }
    }
}

impl Unit {
    fn weights(&self) -> UnitWeights<'_> {
        UnitWeights {
            snake1: self.snake1.weights(),
            conv1: self.conv1.weights(),
            snake2: self.snake2.weights(),
            conv2: self.conv2.weights(),
        }
    }
}

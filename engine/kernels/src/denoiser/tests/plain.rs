//! A diffusion head and a connector spelt in double precision, over weights of any format.

use crate::denoiser::{DenoiserLayer, DenoiserShape, DenoiserWeights};
use crate::testing::{Format, Owned, Random};
use crate::weights::{Matrix, Weights};

pub(super) struct Plain {
    shape: DenoiserShape,
    /// `noisy_proj`, `cond_proj`, `time_fc1`, `time_fc2`, `final_modulation`, `final_linear`.
    ends: Vec<(Owned, usize, usize)>,
    /// Of each layer the norm, `gate`, `up`, `down` and the modulation.
    layers: Vec<Vec<(Owned, usize, usize)>>,
}

fn matrix((numbers, rows, cols): &(Owned, usize, usize)) -> Matrix<'_> {
    numbers.matrix(*rows, *cols)
}

fn layer_of(parts: &[(Owned, usize, usize)]) -> DenoiserLayer<'_> {
    DenoiserLayer {
        norm: parts[0].0.weights(),
        gate: matrix(&parts[1]),
        up: matrix(&parts[2]),
        down: matrix(&parts[3]),
        modulation: matrix(&parts[4]),
    }
}

impl Plain {
    pub fn new(shape: &DenoiserShape, format: Format, random: &mut Random) -> Self {
        let DenoiserShape {
            hidden,
            ffn,
            latent,
            frequency,
            ..
        } = *shape;
        let mut part = |(rows, cols): (usize, usize)| {
            let scale = 2.0 / (cols as f32).sqrt();
            (
                Owned::random(format, rows * cols, scale, random),
                rows,
                cols,
            )
        };
        let ends = [
            (hidden, latent),
            (hidden, hidden),
            (hidden, frequency),
            (hidden, hidden),
            (2 * hidden, hidden),
            (latent, hidden),
        ];
        let layer = [
            (hidden, 1),
            (ffn, hidden),
            (ffn, hidden),
            (hidden, ffn),
            (3 * hidden, hidden),
        ];
        Plain {
            shape: *shape,
            ends: ends.map(&mut part).into(),
            layers: (0..shape.layers)
                .map(|_| layer.map(&mut part).into())
                .collect(),
        }
    }

    pub fn weights(&self) -> DenoiserWeights<'_> {
        let mut layers = Vec::new();
        for parts in &self.layers {
            layers.push(layer_of(parts));
        }
        DenoiserWeights {
            noisy_proj: matrix(&self.ends[0]),
            cond_proj: matrix(&self.ends[1]),
            time_fc1: matrix(&self.ends[2]),
            time_fc2: matrix(&self.ends[3]),
            layers,
            final_modulation: matrix(&self.ends[4]),
            final_linear: matrix(&self.ends[5]),
        }
    }

    /// A step of one row.
    pub fn run(&self, noisy: &[f32], time: f32, condition: &[f32]) -> Vec<f64> {
        let (hidden, weights) = (self.shape.hidden, self.weights());
        let half = self.shape.frequency / 2;
        let angle = |j: usize| {
            let frequency = (-(1e4f64.ln()) * j as f64 / half as f64).exp() as f32;
            f64::from(time * frequency)
        };
        let waves = (0..half).map(|j| angle(j).cos());
        let waves: Vec<f64> = waves.chain((0..half).map(|j| angle(j).sin())).collect();
        let embedded = linear(&weights.time_fc1, &waves).into_iter().map(silu);
        let embedded = linear(&weights.time_fc2, &embedded.collect::<Vec<f64>>());
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        let condition = linear(&weights.cond_proj, &wide(condition));
        let condition = condition.iter().zip(&embedded).map(|(c, t)| silu(c + t));
        let condition: Vec<f64> = condition.collect();
        let mut x = linear(&weights.noisy_proj, &wide(noisy));
        for layer in &weights.layers {
            let by = linear(&layer.modulation, &condition);
            let weight = |i| f64::from(layer.norm.get(i));
            let normed = self.norm(&x, weight, &by);
            let gates = linear(&layer.gate, &normed).into_iter().map(silu);
            let inner = gates.zip(linear(&layer.up, &normed)).map(|(g, u)| g * u);
            let down = linear(&layer.down, &inner.collect::<Vec<f64>>());
            let gates = &by[2 * hidden..];
            x.iter_mut()
                .zip(gates.iter().zip(down))
                .for_each(|(x, (gate, down))| *x += gate * down);
        }
        let by = linear(&weights.final_modulation, &condition);
        linear(&weights.final_linear, &self.norm(&x, |_| 1.0, &by))
    }

    /// Normalised, scaled and shifted.
    fn norm(&self, x: &[f64], weight: impl Fn(usize) -> f64, by: &[f64]) -> Vec<f64> {
        let normed = norm(x, f64::from(self.shape.norm_eps));
        let all = normed.into_iter().enumerate();
        let (shift, scale) = by.split_at(self.shape.hidden);
        let all = all.map(|(i, x)| x * weight(i) * (1.0 + scale[i]) + shift[i]);
        all.collect()
    }
}

fn norm(x: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x / (mean + eps).sqrt()).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn linear(matrix: &Matrix<'_>, x: &[f64]) -> Vec<f64> {
    let mut row = vec![0.0; matrix.cols()];
    let mut out = Vec::new();
    for at in 0..matrix.rows() {
        matrix.row_into(at, &mut row);
        out.push(row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum());
    }
    out
}

/// What a connector makes of rows; the vectors are a bias, a norm and a bias.
pub(super) fn connected(
    fc1: Matrix<'_>,
    fc2: Matrix<'_>,
    [bias1, weight, bias2]: [Weights<'_>; 3],
    x: &[f32],
) -> Vec<f64> {
    let mut all = Vec::new();
    for x in x.chunks(fc1.cols()) {
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let biased = |out: Vec<f64>, bias: Weights<'_>| -> Vec<f64> {
            let out = out.into_iter().enumerate();
            out.map(|(i, x)| x + f64::from(bias.get(i))).collect()
        };
        let inner = norm(&biased(linear(&fc1, &x), bias1), 1e-6);
        let inner = inner.into_iter().enumerate();
        let inner = inner.map(|(i, x)| x * f64::from(weight.get(i)));
        all.extend(biased(linear(&fc2, &inner.collect::<Vec<f64>>()), bias2));
    }
    all
}

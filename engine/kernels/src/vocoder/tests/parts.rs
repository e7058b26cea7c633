//! Layers of a vocoder spelt in double precision, with random weights of any format.

use crate::conv::ConvWeights;
use crate::testing::{Format, Owned, Random};
use crate::vocoder::Snake;
use crate::weights::{Matrix, Weights};

/// Rows of channels.
pub type Rows = Vec<Vec<f64>>;

/// Numbers and the sizes of what they make.
pub struct Part(Owned, usize, pub usize);

impl Part {
    pub fn matrix(&self) -> Matrix<'_> {
        self.0.matrix(self.1, self.2)
    }

    pub fn vector(&self) -> Weights<'_> {
        self.0.weights()
    }

    pub fn at(&self, row: usize, col: usize) -> f64 {
        f64::from(self.0.weights().get(row * self.2 + col))
    }

    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        let output = |row| (0..self.2).map(|col| self.at(row, col) * x[col]).sum();
        (0..self.1).map(output).collect()
    }

    pub fn rms(&self, x: &[f64], eps: f32) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        let all = x.iter().enumerate();
        all.map(|(i, x)| x * scale * self.at(i, 0)).collect()
    }
}

pub struct Conv {
    pub weight: Part,
    pub bias: Part,
}

impl Conv {
    pub fn weights(&self) -> ConvWeights<'_> {
        ConvWeights {
            weight: self.weight.matrix(),
            bias: self.bias.vector(),
        }
    }

    pub fn linear(&self, x: &[f64]) -> Vec<f64> {
        let all = self.weight.times(x).into_iter().enumerate();
        all.map(|(at, x)| x + self.bias.at(at, 0)).collect()
    }

    /// A causal convolution over times that are `apart`.
    pub fn convolve(&self, rows: &Rows, kernel: usize, apart: usize) -> Rows {
        let width = rows[0].len();
        let seen = |time: usize, tap: usize, channel: usize| {
            let time = (time + tap * apart).checked_sub((kernel - 1) * apart);
            time.map_or(0.0, |time| rows[time][channel])
        };
        let mut out = Vec::new();
        for time in 0..rows.len() {
            let taps = |channel| (0..kernel).map(move |tap| seen(time, tap, channel));
            out.push(self.linear(&(0..width).flat_map(taps).collect::<Vec<f64>>()));
        }
        out
    }

    /// A transposed convolution without the end.
    pub fn spread(&self, rows: &Rows, kernel: usize, stride: usize) -> Rows {
        let width = self.bias.1;
        let mut out = vec![vec![0.0; width]; rows.len() * stride + kernel];
        for (time, row) in rows.iter().enumerate() {
            for tap in 0..kernel {
                for (channel, out) in out[time * stride + tap].iter_mut().enumerate() {
                    let column = channel * kernel + tap;
                    let products = row.iter().enumerate();
                    *out += products
                        .map(|(input, x)| self.weight.at(input, column) * x)
                        .sum::<f64>();
                }
            }
        }
        out.truncate(rows.len() * stride);
        for row in &mut out {
            let all = row.iter_mut().enumerate();
            all.for_each(|(channel, x)| *x += self.bias.at(channel, 0));
        }
        out
    }
}

pub struct Waves {
    pub frequency: Part,
    pub gain: Part,
}

impl Waves {
    pub fn weights(&self) -> Snake<'_> {
        Snake {
            frequency: self.frequency.vector(),
            gain: self.gain.vector(),
        }
    }

    pub fn run(&self, rows: &Rows) -> Rows {
        let snake = |(at, x): (usize, &f64)| {
            x + self.gain.at(at, 0) * (self.frequency.at(at, 0) * x).sin().powi(2)
        };
        let row = |row: &Vec<f64>| row.iter().enumerate().map(snake).collect();
        rows.iter().map(row).collect()
    }
}

/// Of convolutions: a stream neither dies out nor grows, and few samples are clamped.
const GAIN: f32 = 1.2;

pub struct Maker<'a> {
    pub format: Format,
    pub random: &'a mut Random,
}

impl Maker<'_> {
    pub fn part(&mut self, rows: usize, cols: usize, scale: f32) -> Part {
        let owned = Owned::random(self.format, rows * cols, scale, self.random);
        Part(owned, rows, cols)
    }

    pub fn matrix(&mut self, rows: usize, cols: usize) -> Part {
        self.part(rows, cols, 2.0 / (cols as f32).sqrt())
    }

    pub fn linear(&mut self, outputs: usize, inputs: usize) -> Conv {
        let scale = GAIN / (inputs as f32).sqrt();
        Conv {
            weight: self.part(outputs, inputs, scale),
            bias: self.part(outputs, 1, 0.3),
        }
    }

    pub fn spread(&mut self, inputs: usize, outputs: usize, kernel: usize) -> Conv {
        Conv {
            weight: self.part(inputs, outputs * kernel, GAIN / (inputs as f32).sqrt()),
            bias: self.part(outputs, 1, 0.3),
        }
    }

    pub fn waves(&mut self, width: usize) -> Waves {
        Waves {
            frequency: self.part(width, 1, 1.5),
            gain: self.part(width, 1, 0.5),
        }
    }
}

//! A projector spelt in double precision, over weights of any format.

use smallvec::SmallVec;

use crate::projector::{HalfWeights, MlpWeights, ProjectorShape};
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
}

struct Block {
    norm: Part,
    up: Part,
    down: Part,
}

pub(super) struct Half {
    input: [Part; 2],
    first: Block,
    scalar: Block,
    head_gate: [Part; 2],
    rest: Vec<Block>,
    out: [Part; 2],
}

pub(super) fn half(shape: &ProjectorShape, format: Format, random: &mut Random) -> Half {
    let mut part = |rows: usize, cols: usize, scale: f32| {
        let scale = scale / (cols as f32).sqrt();
        Part(
            Owned::random(format, rows * cols, scale, random),
            rows,
            cols,
        )
    };
    let mut block = |inner| Block {
        norm: part(shape.hidden, 1, 1.5),
        up: part(inner, shape.hidden, 3.0),
        down: part(shape.hidden, inner, 3.0),
    };
    let (first, scalar) = (block(shape.intermediate), block(shape.hidden));
    let rest = (0..shape.rest()).map(|_| block(shape.intermediate));
    let rest = rest.collect();
    let mut layer = |rows, cols| [part(rows, cols, 2.0), part(rows, 1, 1.0)];
    Half {
        input: layer(shape.hidden, shape.input()),
        first,
        scalar,
        head_gate: layer(shape.target_heads, shape.hidden),
        rest,
        out: layer(shape.output(), shape.hidden),
    }
}

impl Block {
    fn weights(&self) -> MlpWeights<'_> {
        MlpWeights {
            norm: self.norm.vector(),
            up: self.up.matrix(),
            down: self.down.matrix(),
        }
    }

    /// `x + down(gelu(up(norm(x))))` in double precision.
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + 1e-6).sqrt();
        let weight = |i| f64::from(self.norm.vector().get(i));
        let normed = x.iter().enumerate().map(|(i, x)| x * scale * weight(i));
        let inner = linear(&self.up, None, &normed.collect::<Vec<f64>>());
        let inner: Vec<f64> = inner.into_iter().map(gelu).collect();
        let down = linear(&self.down, None, &inner);
        x.iter().zip(down).map(|(x, down)| x + down).collect()
    }
}

fn linear(Part(numbers, rows, cols): &Part, bias: Option<&Part>, x: &[f64]) -> Vec<f64> {
    assert_eq!(x.len(), *cols);
    let weights = numbers.weights();
    let output = |row: usize| {
        let products = x.iter().enumerate();
        let products = products.map(|(col, x)| f64::from(weights.get(row * cols + col)) * x);
        let bias = bias.map_or(0.0, |bias| bias.vector().get(row));
        products.sum::<f64>() + f64::from(bias)
    };
    (0..*rows).map(output).collect()
}

impl Half {
    pub fn weights(&self) -> HalfWeights<'_> {
        let rest: SmallVec<_> = self.rest.iter().map(Block::weights).collect();
        HalfWeights {
            input: self.input[0].matrix(),
            input_bias: self.input[1].vector(),
            first: self.first.weights(),
            scalar: self.scalar.weights(),
            head_gate: self.head_gate[0].matrix(),
            head_gate_bias: self.head_gate[1].vector(),
            rest,
            out: self.out[0].matrix(),
            out_bias: self.out[1].vector(),
        }
    }

    /// The residual times the gates, in double precision.
    pub fn residual(&self, joined: &[f64]) -> Vec<f64> {
        let [input, bias] = &self.input;
        let hidden = self.first.apply(&linear(input, Some(bias), joined));
        let [gate, bias] = &self.head_gate;
        let gates = linear(gate, Some(bias), &self.scalar.apply(&hidden));
        let hidden = self.rest.iter().fold(hidden, |x, block| block.apply(&x));
        let [out, bias] = &self.out;
        let residual = linear(out, Some(bias), &hidden);
        let dim = residual.len() / gates.len();
        let gate = |channel: usize| 1.0 / (1.0 + (-gates[channel / dim]).exp());
        let residual = residual.into_iter().enumerate();
        residual.map(|(channel, p)| gate(channel) * p).collect()
    }
}

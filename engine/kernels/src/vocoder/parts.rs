//! What a vocoder is made of: its sizes and its weights, wherever they lie. Knows nothing of how it
//! is computed.

use crate::block::{BlockShape, BlockWeights};
use crate::conv::{ConvWeights, check_plain};
use crate::weights::{Matrix, Weights, check_matrix, check_size, check_vector};

/// Sizes of a vocoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VocoderShape {
    /// Codes of a frame, each with a codebook of its own.
    pub quantisers: usize,
    /// Entries of a codebook.
    pub codes: usize,
    /// Numbers of an entry.
    pub entry: usize,
    /// Numbers that a frame's entries become.
    pub quantised: usize,
    /// Times that the convolution before the transformer sees.
    pub pre_kernel: usize,
    /// Width of the rows around the transformer.
    pub latent: usize,
    pub layers: usize,
    pub block: BlockShape,
    /// Positions that a row of the transformer sees, its own included.
    pub window: usize,
    pub rope_theta: f32,
    /// By how much each first stage lengthens the stream.
    pub upsampling: Vec<usize>,
    /// How many times as wide as a first stage its inner rows are.
    pub expansion: usize,
    /// Added to the variance in the norms of the first stages.
    pub layer_norm_eps: f32,
    /// Channels before the second stages; each of them halves their number.
    pub channels: usize,
    /// By how much each second stage lengthens the stream.
    pub rates: Vec<usize>,
    /// How far apart the times are that each unit of a second stage sees.
    pub dilations: Vec<usize>,
    /// Times that all other convolutions see.
    pub kernel: usize,
}

impl VocoderShape {
    /// Samples of a frame.
    pub fn samples(&self) -> usize {
        self.upsampling.iter().chain(&self.rates).product()
    }

    /// Channels after so many of the second stages.
    pub(super) fn width(&self, stages: usize) -> usize {
        self.channels >> stages
    }
}

/// `x + gain * sin(frequency * x)^2`, with a frequency and a gain for each channel. Models store
/// logarithms of both: the frequency is `e^alpha`, the gain `1 / (e^beta + 1e-9)`.
#[derive(Clone, Copy, Debug)]
pub struct Snake<'a> {
    pub frequency: Weights<'a>,
    pub gain: Weights<'a>,
}

/// A block of the transformer, with what each output of attention, and of the feed-forward part, is
/// multiplied with before it is added.
#[derive(Clone, Copy, Debug)]
pub struct VocoderLayer<'a> {
    pub block: BlockWeights<'a>,
    pub attention_scale: Weights<'a>,
    pub ffn_scale: Weights<'a>,
}

/// A first stage: `x = upsample(x)`, then
/// `x += gamma * linear2(gelu(linear1(layer_norm(mixer(x)))))`.
#[derive(Clone, Copy, Debug)]
pub struct UpsampleWeights<'a> {
    /// Transposed, with as many taps as its stride.
    pub conv: ConvWeights<'a>,
    /// Depthwise.
    pub mixer: ConvWeights<'a>,
    pub norm: Weights<'a>,
    pub norm_bias: Weights<'a>,
    pub linear1: Matrix<'a>,
    pub bias1: Weights<'a>,
    pub linear2: Matrix<'a>,
    pub bias2: Weights<'a>,
    pub gamma: Weights<'a>,
}

/// A unit of a second stage: `x += conv2(snake2(conv1(snake1(x))))`.
#[derive(Clone, Copy, Debug)]
pub struct UnitWeights<'a> {
    pub snake1: Snake<'a>,
    /// Sees times that are apart from each other.
    pub conv1: ConvWeights<'a>,
    pub snake2: Snake<'a>,
    /// Sees one time.
    pub conv2: ConvWeights<'a>,
}

/// A second stage: `x = conv(snake(x))`, then its units.
#[derive(Clone, Debug)]
pub struct StageWeights<'a> {
    pub snake: Snake<'a>,
    /// Transposed, with twice as many taps as its stride.
    pub conv: ConvWeights<'a>,
    pub units: Vec<UnitWeights<'a>>,
}

/// Weights of a vocoder, wherever they lie, in the order they run.
#[derive(Clone, Debug)]
pub struct VocoderWeights<'a> {
    /// Entries as they are added up: where a model stores sums and counts, already divided.
    pub codebooks: Vec<Matrix<'a>>,
    /// Of the first codebook's entry, and of the sum of the others'.
    pub first_out: Matrix<'a>,
    pub rest_out: Matrix<'a>,
    pub pre_conv: ConvWeights<'a>,
    /// Into the transformer, and out of it.
    pub input: (Matrix<'a>, Weights<'a>),
    pub layers: Vec<VocoderLayer<'a>>,
    pub norm: Weights<'a>,
    pub output: (Matrix<'a>, Weights<'a>),
    pub upsample: Vec<UpsampleWeights<'a>>,
    pub stem: ConvWeights<'a>,
    pub stages: Vec<StageWeights<'a>>,
    pub snake: Snake<'a>,
    pub head: ConvWeights<'a>,
}

impl<'a> VocoderWeights<'a> {
    /// Bytes that a call reads, but for the entries of its codes.
    pub fn bytes(&self) -> usize {
        let linears = [self.first_out, self.rest_out, self.input.0, self.output.0];
        let linears = linears.iter().map(Matrix::bytes).sum::<usize>();
        let layers = self.layers.iter().map(|layer| layer.block.bytes());
        let upsample = self.upsample.iter().map(|stage| {
            let convs = stage.conv.bytes() + stage.mixer.bytes();
            convs + stage.linear1.bytes() + stage.linear2.bytes()
        });
        let stages = self.stages.iter().map(|stage| {
            let units = stage.units.iter();
            let units = units.map(|unit| unit.conv1.bytes() + unit.conv2.bytes());
            stage.conv.bytes() + units.sum::<usize>()
        });
        let ends = [self.pre_conv, self.stem, self.head].map(|conv| conv.bytes());
        let parts = [linears, layers.sum(), upsample.sum(), stages.sum()];
        parts.iter().sum::<usize>() + ends.iter().sum::<usize>()
    }

    /// # Panics
    /// If they are not of `shape`.
    pub(super) fn check(&self, shape: &VocoderShape) {
        let VocoderShape {
            quantised,
            entry,
            latent,
            kernel,
            ..
        } = *shape;
        let hidden = shape.block.hidden;
        let counts = [
            (self.codebooks.len(), shape.quantisers),
            (self.layers.len(), shape.layers),
            (self.upsample.len(), shape.upsampling.len()),
            (self.stages.len(), shape.rates.len()),
        ];
        for (at, (found, expected)) in counts.into_iter().enumerate() {
            let what = ["codebooks", "layers", "first stages", "second stages"][at];
            assert!(found == expected, "{found} {what}, not {expected}");
        }
        for codebook in &self.codebooks {
            check_size("codebook", codebook, shape.codes, entry);
        }
        check_matrix("first_out", &self.first_out, quantised, entry);
        check_matrix("rest_out", &self.rest_out, quantised, entry);
        let size = (latent, quantised * shape.pre_kernel);
        self.pre_conv.check("pre_conv", latent, size);
        check_matrix("input", &self.input.0, hidden, latent);
        check_vector("input's bias", self.input.1, hidden);
        for layer in &self.layers {
            layer.block.check(&shape.block);
            for matrix in [layer.block.qkv, layer.block.out] {
                check_matrix("attention", &matrix, matrix.rows(), matrix.cols());
            }
            for matrix in [layer.block.gate_up, layer.block.down] {
                check_matrix("feed-forward", &matrix, matrix.rows(), matrix.cols());
            }
            check_vector("attention_scale", layer.attention_scale, hidden);
            check_vector("ffn_scale", layer.ffn_scale, hidden);
        }
        check_vector("norm", self.norm, hidden);
        check_matrix("output", &self.output.0, latent, hidden);
        check_vector("output's bias", self.output.1, latent);
        for (stage, rate) in self.upsample.iter().zip(&shape.upsampling) {
            stage.check(shape, *rate);
        }
        self.stem
            .check("stem", shape.channels, (shape.channels, latent * kernel));
        for (at, stage) in self.stages.iter().enumerate() {
            stage.check(shape, at);
        }
        let width = shape.width(shape.rates.len());
        self.snake.check(width);
        self.head.check("head", 1, (1, width * kernel));
    }
}

impl Snake<'_> {
    fn check(&self, width: usize) {
        check_vector("snake's frequency", self.frequency, width);
        check_vector("snake's gain", self.gain, width);
    }
}

impl UpsampleWeights<'_> {
    fn check(&self, shape: &VocoderShape, rate: usize) {
        let (latent, inner) = (shape.latent, shape.expansion * shape.latent);
        self.conv.check("upsample", latent, (latent, latent * rate));
        check_plain("upsample", &self.conv.weight);
        self.mixer.check("mixer", latent, (latent, shape.kernel));
        check_plain("mixer", &self.mixer.weight);
        check_matrix("linear1", &self.linear1, inner, latent);
        check_matrix("linear2", &self.linear2, latent, inner);
        check_vector("bias1", self.bias1, inner);
        for vector in [self.norm, self.norm_bias, self.bias2, self.gamma] {
            check_vector("upsample", vector, latent);
        }
    }
}

impl StageWeights<'_> {
    fn check(&self, shape: &VocoderShape, at: usize) {
        let (from, to, rate) = (shape.width(at), shape.width(at + 1), shape.rates[at]);
        self.snake.check(from);
        self.conv.check("stage", to, (from, to * 2 * rate));
        check_plain("stage", &self.conv.weight);
        let (found, units) = (self.units.len(), shape.dilations.len());
        assert!(found == units, "{found} units, not {units}");
        for unit in &self.units {
            unit.snake1.check(to);
            unit.conv1.check("conv1", to, (to, to * shape.kernel));
            unit.snake2.check(to);
            unit.conv2.check("conv2", to, (to, to));
        }
    }
}

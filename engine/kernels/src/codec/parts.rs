//! What an encoder or a decoder of audio is made of: its sizes and its weights, wherever they lie.
//! Knows nothing of how it is computed.

use crate::conv::{ConvWeights, check_plain};
use crate::weights::{Matrix, Weights, check_matrix, check_vector};

/// Which of the two a shape is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecPart {
    /// Audio to latents: few channels first.
    Encoder,
    /// Latents to audio: many channels first.
    Decoder,
}

/// Sizes of an encoder or a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecShape {
    pub part: CodecPart,
    /// Of audio.
    pub channels: usize,
    /// Numbers of a frame.
    pub latent: usize,
    /// Channels of the stage nearest to the audio; each further one has twice as many.
    pub filters: usize,
    /// By how much each resampling shortens the audio, in the encoder's order. A decoder runs them
    /// from the last to the first.
    pub ratios: Vec<usize>,
    /// Blocks of each stage in the order they run: one more than ratios.
    pub depths: Vec<usize>,
    /// Times that the first and the last convolution see, and those of blocks.
    pub kernel: usize,
    /// How many times as wide as a block its inner rows are.
    pub expansion: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
}

impl CodecShape {
    /// Times of audio that one frame of latents stands for.
    pub fn hop(&self) -> usize {
        self.ratios.iter().product()
    }

    /// Channels of a stage, counted from the audio.
    pub(super) fn width(&self, stage: usize) -> usize {
        self.filters << stage
    }

    /// The ratios in the order they run.
    pub(super) fn ratios_run(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.ratios.len();
        (0..count).map(move |at| match self.part {
            CodecPart::Encoder => self.ratios[at],
            CodecPart::Decoder => self.ratios[count - 1 - at],
        })
    }
}

/// One block: `x += gamma * mixer(norm(x))`, then
/// `x += ffn_gamma * linear2(gelu(linear1(ffn_norm(x))))`.
#[derive(Clone, Copy, Debug)]
pub struct CodecBlock<'a> {
    pub norm: Weights<'a>,
    /// Depthwise.
    pub mixer: ConvWeights<'a>,
    pub gamma: Weights<'a>,
    pub ffn_norm: Weights<'a>,
    /// The inner width by the channels.
    pub linear1: Matrix<'a>,
    pub bias1: Weights<'a>,
    /// The channels by the inner width.
    pub linear2: Matrix<'a>,
    pub bias2: Weights<'a>,
    pub ffn_gamma: Weights<'a>,
}

/// Weights of an encoder or a decoder, wherever they lie, in the order they run.
#[derive(Clone, Debug)]
pub struct CodecWeights<'a> {
    /// The first convolution.
    pub stem: ConvWeights<'a>,
    pub stages: Vec<Vec<CodecBlock<'a>>>,
    /// Between the stages: strided ones of an encoder, transposed ones of a decoder.
    pub resample: Vec<ConvWeights<'a>>,
    /// The last convolution.
    pub head: ConvWeights<'a>,
}

impl CodecWeights<'_> {
    /// Bytes that a call reads.
    pub fn bytes(&self) -> usize {
        let convs = [&self.stem, &self.head].into_iter().chain(&self.resample);
        let convs = convs.map(ConvWeights::bytes).sum::<usize>();
        let blocks = self.stages.iter().flatten();
        convs + blocks.map(CodecBlock::bytes).sum::<usize>()
    }

    /// # Panics
    /// If they are not of `shape`.
    pub(super) fn check(&self, shape: &CodecShape) {
        let count = shape.ratios.len();
        assert!(self.stages.len() == count + 1 && shape.depths.len() == count + 1);
        assert!(self.resample.len() == count, "{count} resamplings");
        let (kernel, is_encoder) = (shape.kernel, shape.part == CodecPart::Encoder);
        let (first, last) = match shape.part {
            CodecPart::Encoder => (shape.channels, shape.latent),
            CodecPart::Decoder => (shape.latent, shape.channels),
        };
        let width = |at: usize| shape.width(if is_encoder { at } else { count - at });
        self.stem
            .check("stem", width(0), (width(0), first * kernel));
        self.head.check("head", last, (last, width(count) * kernel));
        for (at, ratio) in shape.ratios_run().enumerate() {
            let (from, to) = (width(at), width(at + 1));
            let size = match shape.part {
                CodecPart::Encoder => (to, from * 2 * ratio),
                CodecPart::Decoder => (from, to * 2 * ratio),
            };
            self.resample[at].check("resample", to, size);
            if !is_encoder {
                check_plain("resample", &self.resample[at].weight);
            }
        }
        for (at, (stage, depth)) in self.stages.iter().zip(&shape.depths).enumerate() {
            assert!(stage.len() == *depth, "{} blocks, not {depth}", stage.len());
            stage.iter().for_each(|block| block.check(shape, width(at)));
        }
    }
}

impl CodecBlock<'_> {
    fn vectors(&self) -> [Weights<'_>; 7] {
        let mixer = self.mixer.bias;
        let ffn = [self.ffn_norm, self.bias2, self.ffn_gamma];
        [
            self.norm, mixer, self.gamma, ffn[0], ffn[1], ffn[2], self.bias1,
        ]
    }

    fn bytes(&self) -> usize {
        let matrices = [&self.mixer.weight, &self.linear1, &self.linear2].map(Matrix::bytes);
        let vectors = self.vectors().map(|vector| vector.bytes());
        matrices.iter().sum::<usize>() + vectors.iter().sum::<usize>()
    }

    fn check(&self, shape: &CodecShape, channels: usize) {
        let inner = shape.expansion * channels;
        check_matrix("mixer", &self.mixer.weight, channels, shape.kernel);
        check_plain("mixer", &self.mixer.weight);
        check_matrix("linear1", &self.linear1, inner, channels);
        check_matrix("linear2", &self.linear2, channels, inner);
        for (at, vector) in self.vectors().into_iter().enumerate() {
            check_vector("block", vector, if at == 6 { inner } else { channels });
        }
    }
}

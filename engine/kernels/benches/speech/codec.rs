//! VibeVoice's codec at released sizes.

use kernels::{
    CodecBlock, CodecPart, CodecScratch, CodecShape, CodecState, CodecWeights, Team, decode, encode,
};

use super::{Frame, Numbers, stage};

pub struct Codec<'a> {
    team: &'a Team,
    shape: CodecShape,
    weights: CodecWeights<'a>,
    state: CodecState,
    scratch: CodecScratch,
    from: Vec<f32>,
    to: Vec<f32>,
}

impl<'a> Codec<'a> {
    pub fn new(team: &'a Team, mut numbers: Numbers<'a>, part: CodecPart) -> Self {
        let mut depths = vec![3, 3, 3, 3, 3, 3, 8];
        if part == CodecPart::Decoder {
            depths.reverse();
        }
        let shape = CodecShape {
            part,
            channels: 1,
            latent: 64,
            filters: 32,
            ratios: vec![2, 2, 4, 5, 5, 8],
            depths,
            kernel: 7,
            expansion: 4,
            norm_eps: 1e-5,
        };
        let (from, to) = match part {
            CodecPart::Decoder => (shape.latent, shape.hop()),
            CodecPart::Encoder => (shape.hop(), shape.latent),
        };
        Codec {
            team,
            weights: codec_weights(&shape, &mut numbers),
            state: CodecState::new(&shape),
            scratch: CodecScratch::new(team, &shape, 1),
            from: vec![0.1; from],
            to: vec![0.0; to],
            shape,
        }
    }
}

/// The channels of each stage, and the ratio after it, in the order they run.
fn codec_stages(shape: &CodecShape) -> Vec<(usize, Option<usize>)> {
    let count = shape.ratios.len();
    let at = |at: usize| match shape.part {
        CodecPart::Encoder => (shape.filters << at, shape.ratios.get(at).copied()),
        CodecPart::Decoder => {
            let ratio = (count - at).checked_sub(1);
            (
                shape.filters << (count - at),
                ratio.map(|at| shape.ratios[at]),
            )
        }
    };
    (0..=count).map(at).collect()
}

fn codec_weights<'a>(shape: &CodecShape, numbers: &mut Numbers<'a>) -> CodecWeights<'a> {
    let stages = codec_stages(shape);
    let kernel = shape.kernel;
    let (first, last) = match shape.part {
        CodecPart::Encoder => (shape.channels, shape.latent),
        CodecPart::Decoder => (shape.latent, shape.channels),
    };
    let block = |numbers: &mut Numbers<'a>, width: usize| {
        let inner = shape.expansion * width;
        CodecBlock {
            norm: numbers.take(width),
            mixer: numbers.conv(width, kernel, width),
            gamma: numbers.take(width),
            ffn_norm: numbers.take(width),
            linear1: numbers.matrix(inner, width),
            bias1: numbers.take(inner),
            linear2: numbers.matrix(width, inner),
            bias2: numbers.take(width),
            ffn_gamma: numbers.take(width),
        }
    };
    let stem_width = stages[0].0;
    let stem = numbers.conv(stem_width, first * kernel, stem_width);
    let mut all = Vec::new();
    let mut resample = Vec::new();
    for (at, ((width, ratio), depth)) in stages.iter().zip(&shape.depths).enumerate() {
        all.push((0..*depth).map(|_| block(numbers, *width)).collect());
        if let Some(ratio) = ratio {
            let next = stages[at + 1].0;
            resample.push(match shape.part {
                CodecPart::Encoder => numbers.conv(next, width * 2 * ratio, next),
                CodecPart::Decoder => numbers.conv(*width, next * 2 * ratio, next),
            });
        }
    }
    let width = stages[stages.len() - 1].0;
    CodecWeights {
        stem,
        stages: all,
        resample,
        head: numbers.conv(last, width * kernel, last),
    }
}

impl Frame for Codec<'_> {
    fn name(&self) -> String {
        format!("codec, {:?}", self.shape.part).to_lowercase()
    }

    fn stages(&self) -> Vec<(f64, f64)> {
        let w = &self.weights;
        let is_decoder = self.shape.part == CodecPart::Decoder;
        let mut times = if is_decoder { 1 } else { self.shape.hop() };
        let mut all = vec![stage(&w.stem.weight, times)];
        for (at, (_, ratio)) in codec_stages(&self.shape).into_iter().enumerate() {
            for block in &w.stages[at] {
                all.push(stage(&block.linear1, times));
                all.push(stage(&block.linear2, times));
            }
            if let Some(ratio) = ratio {
                let conv = &w.resample[at].weight;
                if is_decoder {
                    all.push(stage(conv, times));
                    times *= ratio;
                } else {
                    times /= ratio;
                    all.push(stage(conv, times));
                }
            }
        }
        all.push(stage(&w.head.weight, times));
        all
    }

    fn run(&mut self) {
        let call = match self.shape.part {
            CodecPart::Decoder => decode,
            CodecPart::Encoder => encode,
        };
        call(
            self.team,
            &self.shape,
            &self.weights,
            &mut self.state,
            &self.from,
            &mut self.to,
            &mut self.scratch,
        );
    }
}

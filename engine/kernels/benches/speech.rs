//! The kernels of speech at the sizes of released models, with random weights in bf16: a frame of
//! each against the least that its bytes and its operations take. The limits are measured in turns
//! with the frames, because machines are shared and limits move: compare numbers of one run only.
//!
//! `cargo bench --workspace --bench speech [-- predictor vocoder codec]`

use std::time::{Duration, Instant};

use kernels::{
    BlockShape, BlockWeights, CodecBlock, CodecPart, CodecScratch, CodecShape, CodecState,
    CodecWeights, ConvWeights, Matrix, PredictorScratch, PredictorShape, PredictorWeights,
    Products, RopeTable, Snake, StageWeights, Team, UnitWeights, UpsampleWeights, VocoderLayer,
    VocoderScratch, VocoderShape, VocoderState, VocoderWeights, Weights, advise_huge_pages, decode,
    decode_codes, encode, measure_gflops, predict_codes, read_in_parallel,
};

/// Rounds: the best of each measurement counts.
const ROUNDS: usize = 25;
/// More than any model here takes, and several times a last-level cache.
const WEIGHT_BYTES: usize = 768 << 20;
/// What the read rate is measured over.
const READ_BYTES: usize = 256 << 20;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let team = Team::new(threads);
    let words = random_words();
    let numbers = Numbers {
        all: Weights::Bf16(bytemuck::cast_slice(&words)),
        next: 0,
    };
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let names = ["predictor", "vocoder", "codec"];
    let is_named = |name: &str| names.contains(&name);
    let wants = |name: &str| {
        let mut asked = asked.iter().filter(|asked| is_named(asked)).peekable();
        asked.peek().is_none() || asked.any(|asked| asked == name)
    };
    println!("{team:?}, best of {ROUNDS} rounds");
    let mut frames: Vec<Box<dyn Frame + '_>> = Vec::new();
    if wants("predictor") {
        for input in [1024, 2048] {
            frames.push(Box::new(Predictor::new(&team, numbers, input)));
        }
    }
    if wants("vocoder") {
        for count in [1, 4] {
            frames.push(Box::new(Vocoder::new(&team, numbers, count)));
        }
    }
    if wants("codec") {
        for part in [CodecPart::Decoder, CodecPart::Encoder] {
            frames.push(Box::new(Codec::new(&team, numbers, part)));
        }
    }
    run(&team, &words, &mut frames);
}

/// What is measured.
trait Frame {
    fn name(&self) -> String;
    /// Bytes and operations of each stage; what is read once and what is multiplied a frame.
    fn stages(&self) -> Vec<(f64, f64)>;
    /// Frames of a call.
    fn count(&self) -> usize {
        1
    }
    fn run(&mut self);
}

fn run(team: &Team, words: &[u32], frames: &mut [Box<dyn Frame + '_>]) {
    let read: &[u8] = &bytemuck::cast_slice(words)[..READ_BYTES];
    let mut best = vec![f64::INFINITY; frames.len()];
    let (mut bytes_a_second, mut flops_a_second) = (0.0f64, 0.0f64);
    for _ in 0..ROUNDS {
        let from = Instant::now();
        read_in_parallel(team, read);
        bytes_a_second = bytes_a_second.max(read.len() as f64 / from.elapsed().as_secs_f64());
        let gflops = measure_gflops(team, Products::F32, Duration::from_millis(5));
        flops_a_second = flops_a_second.max(gflops * 1e9);
        for (frame, best) in frames.iter_mut().zip(&mut best) {
            let from = Instant::now();
            frame.run();
            *best = best.min(from.elapsed().as_secs_f64() / frame.count() as f64);
        }
    }
    println!(
        "read {:.1} GB/s, multiply-adds {:.0} GFLOP/s",
        bytes_a_second / 1e9,
        flops_a_second / 1e9
    );
    for (frame, best) in frames.iter().zip(&best) {
        let count = frame.count() as f64;
        let stages = frame.stages();
        let least = |(bytes, operations): &(f64, f64)| {
            (bytes / bytes_a_second / count).max(operations / flops_a_second)
        };
        let limit = stages.iter().map(least).sum::<f64>();
        let bytes = stages.iter().map(|stage| stage.0).sum::<f64>();
        let operations = stages.iter().map(|stage| stage.1).sum::<f64>();
        println!(
            "{:28} {:7.2} ms a frame, limit {:6.2} ms ({:.0} MB, {:.2} GFLOP), {:.2} times",
            frame.name(),
            best * 1e3,
            limit * 1e3,
            bytes / 1e6,
            operations / 1e9,
            best / limit
        );
    }
}

/// Random numbers, taken one after another.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    all: Weights<'a>,
    next: usize,
}

impl<'a> Numbers<'a> {
    fn take(&mut self, count: usize) -> Weights<'a> {
        let Weights::Bf16(all) = self.all else {
            unreachable!("numbers in bf16");
        };
        let range = self.next..self.next + count;
        self.next = range.end;
        Weights::Bf16(&all[range])
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::new(self.take(rows * cols), rows, cols)
    }

    fn conv(&mut self, rows: usize, cols: usize, outputs: usize) -> ConvWeights<'a> {
        ConvWeights {
            weight: self.matrix(rows, cols),
            bias: self.take(outputs),
        }
    }

    fn snake(&mut self, width: usize) -> Snake<'a> {
        Snake {
            frequency: self.take(width),
            gain: self.take(width),
        }
    }

    fn block(&mut self, shape: &BlockShape, norms_heads: bool) -> BlockWeights<'a> {
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = *shape;
        let mut head_norm = || norms_heads.then(|| self.take(head_dim));
        let (q_norm, k_norm) = (head_norm(), head_norm());
        BlockWeights {
            input_norm: Some(self.take(hidden)),
            qkv: self.matrix(shape.qkv_rows(), hidden),
            qkv_bias: None,
            q_norm,
            k_norm,
            out: self.matrix(hidden, heads * head_dim),
            out_bias: None,
            out_norm: None,
            post_norm: Some(self.take(hidden)),
            gate_up: self.matrix(2 * ffn, hidden),
            gate_up_bias: None,
            down: self.matrix(hidden, ffn),
            down_bias: None,
            down_norm: None,
        }
    }
}

/// A matrix over so many rows: its bytes and operations.
fn stage(matrix: &Matrix<'_>, rows: usize) -> (f64, f64) {
    let numbers = (matrix.rows() * matrix.cols()) as f64;
    (matrix.bytes() as f64, 2.0 * numbers * rows as f64)
}

fn block_stages(block: &BlockWeights<'_>, rows: usize) -> impl Iterator<Item = (f64, f64)> {
    let matrices = [block.qkv, block.out, block.gate_up, block.down];
    matrices.into_iter().map(move |matrix| stage(&matrix, rows))
}

struct Predictor<'a> {
    team: &'a Team,
    shape: PredictorShape,
    weights: PredictorWeights<'a>,
    rope: RopeTable,
    rows: Vec<f32>,
    sum: Vec<f32>,
    scratch: PredictorScratch,
}

impl<'a> Predictor<'a> {
    fn new(team: &'a Team, mut numbers: Numbers<'a>, input: usize) -> Self {
        let block = BlockShape {
            hidden: 1024,
            ffn: 3072,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            norm_eps: 1e-6,
            scale: None,
            residual: 1.0,
        };
        let shape = PredictorShape {
            input,
            layers: 5,
            block,
            codes: 2048,
            steps: 15,
        };
        let wider = input != block.hidden;
        let weights = PredictorWeights {
            projection: wider.then(|| {
                let matrix = numbers.matrix(block.hidden, input);
                (matrix, numbers.take(block.hidden))
            }),
            layers: (0..shape.layers)
                .map(|_| numbers.block(&block, true))
                .collect(),
            norm: numbers.take(block.hidden),
            heads: (0..shape.steps)
                .map(|_| numbers.matrix(shape.codes, block.hidden))
                .collect(),
            embeddings: (0..shape.steps)
                .map(|_| numbers.matrix(shape.codes, input))
                .collect(),
        };
        Predictor {
            team,
            shape,
            weights,
            rope: RopeTable::new(&[0.01; 64], shape.positions()),
            rows: vec![0.5; 2 * input],
            sum: vec![0.0; input],
            scratch: PredictorScratch::new(team, &shape),
        }
    }
}

impl Frame for Predictor<'_> {
    fn name(&self) -> String {
        format!("predictor, input {}", self.shape.input)
    }

    fn stages(&self) -> Vec<(f64, f64)> {
        vec![(self.weights.frame_bytes() as f64, 0.0)]
    }

    fn run(&mut self) {
        // The likeliest.
        let mut choose = |_: usize, logits: &mut [f32]| {
            let all = logits.iter().enumerate();
            let best = all.max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(at, _)| at as u32)
        };
        predict_codes(
            self.team,
            &self.shape,
            &self.weights,
            &self.rope,
            &self.rows,
            &mut choose,
            &mut [0; 15],
            &mut self.sum,
            &mut self.scratch,
        );
    }
}

struct Vocoder<'a> {
    team: &'a Team,
    shape: VocoderShape,
    weights: VocoderWeights<'a>,
    state: VocoderState,
    scratch: VocoderScratch,
    codes: Vec<u32>,
    audio: Vec<f32>,
}

impl<'a> Vocoder<'a> {
    fn new(team: &'a Team, mut numbers: Numbers<'a>, frames: usize) -> Self {
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

struct Codec<'a> {
    team: &'a Team,
    shape: CodecShape,
    weights: CodecWeights<'a>,
    state: CodecState,
    scratch: CodecScratch,
    from: Vec<f32>,
    to: Vec<f32>,
}

impl<'a> Codec<'a> {
    fn new(team: &'a Team, mut numbers: Numbers<'a>, part: CodecPart) -> Self {
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

/// Ordinary small numbers of either sign, in huge pages where the system gives them.
fn random_words() -> Vec<u32> {
    let mut words = Vec::with_capacity(WEIGHT_BYTES / 4);
    advise_huge_pages(words.spare_capacity_mut());
    let mut state = 1u64;
    words.resize_with(WEIGHT_BYTES / 4, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as u32 & 0x80ff_80ff | 0x3c00_3c00
    });
    words
}

//! The kernels of speech at the sizes of released models, with random weights in bf16: a frame of
//! each against the least that its bytes and its operations take. The limits are measured in turns
//! with the frames, because machines are shared and limits move: compare numbers of one run only.
//!
//! `cargo bench --workspace --bench speech [-- predictor vocoder codec]`

mod codec;
mod predictor;
mod vocoder;

use std::time::{Duration, Instant};

use codec::Codec;
use kernels::{
    BlockShape, BlockWeights, CodecPart, ConvWeights, Matrix, Products, Snake, Team, Weights,
    advise_huge_pages, measure_gflops, read_in_parallel,
};
use predictor::Predictor;
use vocoder::Vocoder;

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

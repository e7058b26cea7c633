//! How close the CPU kernels come to the machine: decode beside the memory's read ceiling, and
//! prefill in arithmetic a second. Both sides of each comparison alternate in one run, so that a
//! busy machine slows them alike. Weights are random, in one allocation, of a 1.3 B-parameter
//! model's shape.
//!
//! `cargo bench -p engine --bench kernels [-- LAYERS]`; with few layers the whole model may fit a
//! large last-level cache, and then the rates are the cache's.

use std::time::Instant;

use engine::kernels::{
    BlockShape, BlockWeights, LayerCache, Matrix, RopeTable, Scratch, Team, Weights,
    advise_huge_pages, forward_block, logits, read_in_parallel,
};
use half::bf16;

const SHAPE: BlockShape = BlockShape {
    hidden: 1536,
    ffn: 8960,
    heads: 12,
    kv_heads: 2,
    head_dim: 128,
    norm_eps: 1e-6,
};
const VOCABULARY: usize = 32_000;
const POSITIONS: usize = 2048;
const ROWS_MAX: usize = 1024;
const DECODE_ROUNDS: usize = 16;
const PREFILL_ROUNDS: usize = 3;

fn main() {
    let layers = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let layers: usize = layers.unwrap_or(28);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let team = Team::new(threads);
    let (matrices, norm) = random_weights(layers, threads);
    let mut model = Model::new(&team, layers, &matrices, &norm);
    let bytes = size_of_val(&*matrices);
    println!(
        "{team:?}, {layers} layers, {:.2} GB of bf16",
        bytes as f64 / 1e9
    );
    decode(&team, &mut model, bytemuck::cast_slice(&matrices));
    for rows in [4, 16, 128, 1024] {
        prefill(&mut model, rows);
    }
}

/// Reads all weights, then computes a token from them, in turn.
fn decode(team: &Team, model: &mut Model<'_>, weights: &[u8]) {
    let (mut reads, mut tokens, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=DECODE_ROUNDS {
        let start = Instant::now();
        read_in_parallel(team, weights);
        let read_s = start.elapsed().as_secs_f64();
        let token_s = model.forward_s(1, 128 + round);
        // The first round warms up.
        if round > 0 {
            reads.push(read_s);
            tokens.push(token_s);
            shares.push(100.0 * read_s / token_s);
        }
    }
    let gigabytes = weights.len() as f64 / 1e9;
    let (read_s, token_s) = (median(&mut reads), median(&mut tokens));
    println!(
        "decode: {:.1} GB/s, {:.2} ms/token, {:.1} % of the {:.1} GB/s this memory reads at \
         ({:.0} to {:.0} % over {DECODE_ROUNDS} rounds)",
        gigabytes / token_s,
        token_s * 1e3,
        median(&mut shares),
        gigabytes / read_s,
        shares[0],
        shares[shares.len() - 1],
    );
}

fn prefill(model: &mut Model<'_>, rows: usize) {
    let mut times: Vec<f64> = (0..=PREFILL_ROUNDS)
        .map(|_| model.forward_s(rows, 0))
        .collect();
    times.remove(0);
    let prefill_s = median(&mut times);
    println!(
        "prefill of {rows}: {:.1} ms, {:.0} tokens/s, {:.2} TFLOP/s in the linear layers",
        prefill_s * 1e3,
        rows as f64 / prefill_s,
        2.0 * (model.layers.len() * numbers_a_layer() * rows) as f64 / prefill_s / 1e12,
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Model<'a> {
    team: &'a Team,
    layers: Vec<BlockWeights<'a>>,
    caches: Vec<LayerCache>,
    norm: Weights<'a>,
    head: Matrix<'a>,
    rope: RopeTable,
    scratch: Scratch,
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> Model<'a> {
    fn new(team: &'a Team, layers: usize, matrices: &'a [bf16], norm: &'a [bf16]) -> Self {
        let (blocks, head) = matrices.split_at(layers * numbers_a_layer());
        let frequency = |i| 1e6f32.powf(-(i as f32) / (SHAPE.head_dim / 2) as f32);
        let frequencies: Vec<f32> = (0..SHAPE.head_dim / 2).map(frequency).collect();
        let cache = |_| LayerCache::new(SHAPE.kv_heads, SHAPE.head_dim, POSITIONS);
        Model {
            team,
            layers: blocks
                .chunks(numbers_a_layer())
                .map(|b| block(b, norm))
                .collect(),
            caches: (0..layers).map(cache).collect(),
            norm: Weights::Bf16(norm),
            head: Matrix::new(Weights::Bf16(head), VOCABULARY, SHAPE.hidden),
            rope: RopeTable::new(&frequencies, POSITIONS),
            scratch: Scratch::new(team, &SHAPE, ROWS_MAX),
            hidden: vec![0.0; ROWS_MAX * SHAPE.hidden],
            logits: vec![0.0; VOCABULARY],
        }
    }

    /// Seconds that `rows` rows at `position` take through all layers, and the last one's logits.
    fn forward_s(&mut self, rows: usize, position: usize) -> f64 {
        let hidden = &mut self.hidden[..rows * SHAPE.hidden];
        let mut state = 1;
        hidden.fill_with(|| random(&mut state));
        let start = Instant::now();
        for (weights, cache) in self.layers.iter().zip(&mut self.caches) {
            let (team, rope, scratch) = (self.team, &self.rope, &mut self.scratch);
            forward_block(
                team, &SHAPE, weights, rope, cache, position, None, hidden, scratch,
            );
        }
        let last = &hidden[(rows - 1) * SHAPE.hidden..];
        let (team, out, scratch) = (self.team, &mut self.logits, &mut self.scratch);
        logits(
            team,
            self.norm,
            SHAPE.norm_eps,
            last,
            self.head,
            out,
            scratch,
        );
        start.elapsed().as_secs_f64()
    }
}

fn sizes() -> [(usize, usize); 4] {
    let BlockShape {
        hidden,
        ffn,
        heads,
        head_dim,
        ..
    } = SHAPE;
    [
        (SHAPE.qkv_rows(), hidden),
        (hidden, heads * head_dim),
        (2 * ffn, hidden),
        (hidden, ffn),
    ]
}

fn numbers_a_layer() -> usize {
    sizes().iter().map(|(rows, cols)| rows * cols).sum()
}

fn block<'a>(mut numbers: &'a [bf16], norm: &'a [bf16]) -> BlockWeights<'a> {
    let [qkv, out, gate_up, down] = sizes().map(|(rows, cols)| {
        let (matrix, rest) = numbers.split_at(rows * cols);
        numbers = rest;
        Matrix::new(Weights::Bf16(matrix), rows, cols)
    });
    BlockWeights {
        input_norm: Weights::Bf16(norm),
        qkv,
        qkv_bias: None,
        q_norm: None,
        k_norm: None,
        out,
        out_bias: None,
        post_norm: Weights::Bf16(norm),
        gate_up,
        gate_up_bias: None,
        down,
        down_bias: None,
    }
}

/// All matrices one after another, and the numbers of a norm.
fn random_weights(layers: usize, threads: usize) -> (Vec<bf16>, Vec<bf16>) {
    let count = layers * numbers_a_layer() + VOCABULARY * SHAPE.hidden;
    let mut numbers = Vec::with_capacity(count);
    advise_huge_pages(numbers.spare_capacity_mut());
    numbers.resize(count, bf16::ZERO);
    std::thread::scope(|scope| {
        for (seed, part) in numbers.chunks_mut(count.div_ceil(threads)).enumerate() {
            scope.spawn(move || {
                let mut state = seed as u64 + 1;
                part.fill_with(|| bf16::from_f32(0.03 * random(&mut state)));
            });
        }
    });
    (numbers, vec![bf16::ONE; SHAPE.hidden])
}

/// Between -1 and 1, from a xorshift generator.
fn random(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

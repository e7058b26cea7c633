//! The CPU kernels, one at a time, over the block of a 1.3 B-parameter model: bytes of weights a
//! second where memory is the limit, operations a second (criterion calls them elements) where
//! arithmetic is. `read` is the ceiling of the first kind, but machines are shared and ceilings
//! move: for a claim take `engine-bench`, which measures the limit in turns with the engine.
//!
//! `cargo bench --workspace --bench kernels [-- decode]`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encoding::Encoding;
use kernels::{
    BlockShape, BlockWeights, CacheType, Compact, LayerCache, Matrix, Quantised, RopeTable, Run,
    RunKind, Scratch, Team, Weights, advise_huge_pages, forward_block, logits, pack,
    read_in_parallel,
};

const SHAPE: BlockShape = BlockShape {
    hidden: 1536,
    ffn: 8960,
    heads: 12,
    kv_heads: 2,
    head_dim: 128,
    norm_eps: 1e-6,
    scale: None,
    residual: 1.0,
};
const VOCABULARY: usize = 32_000;
/// Several times any last-level cache: every visit of a layer comes from memory.
const WEIGHT_BYTES: usize = 600 << 20;
/// What a row of decode sees.
const POSITION: usize = 128;
const ROWS_MAX: usize = 1024;

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20);
    targets = memory, decode, head, prefill
}
criterion_main!(kernels);

fn memory(c: &mut Criterion) {
    let team = team();
    let words = random_words();
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("plain", |b| b.iter(|| read_in_parallel(&team, bytes)));
    group.finish();
}

fn decode(c: &mut Criterion) {
    let team = team();
    let words = random_words();
    let mut group = c.benchmark_group("decode");
    for (name, format) in FORMATS {
        let mut stack = Stack::new(&team, format(&words));
        group.throughput(Throughput::Bytes(stack.layer_bytes() as u64));
        group.bench_function(name, |b| b.iter(|| stack.visit(1, POSITION)));
    }
    // The same numbers in fewer bytes: as many layers in less time.
    let plain = Weights::Bf16(bytemuck::cast_slice(&words));
    let memory = packed(&team, plain);
    let layers = memory.iter().map(|layer| compact_block(plain, layer));
    let mut stack = Stack::over(&team, layers.collect());
    group.throughput(Throughput::Bytes(stack.layer_bytes() as u64));
    group.bench_function("bf16 compact", |b| b.iter(|| stack.visit(1, POSITION)));
    for encoding in QUANTISED {
        let mut stack = Stack::over(&team, quantised_blocks(encoding, &words));
        group.throughput(Throughput::Bytes(stack.layer_bytes() as u64));
        group.bench_function(encoding.name(), |b| b.iter(|| stack.visit(1, POSITION)));
    }
    group.finish();
}

fn prefill(c: &mut Criterion) {
    let team = team();
    let words = random_words();
    let mut group = c.benchmark_group("prefill");
    for (name, format) in FORMATS {
        let mut stack = Stack::new(&team, format(&words));
        for rows in [4, 16, 128, ROWS_MAX] {
            let operations = 2 * numbers_a_layer() * rows;
            group.throughput(Throughput::Elements(operations as u64));
            group.bench_function(format!("{name}/{rows}"), |b| {
                b.iter(|| stack.visit(rows, 0))
            });
        }
    }
    for encoding in QUANTISED {
        let mut stack = Stack::over(&team, quantised_blocks(encoding, &words));
        for rows in [4, 16, 128, ROWS_MAX] {
            let operations = 2 * numbers_a_layer() * rows;
            group.throughput(Throughput::Elements(operations as u64));
            group.bench_function(format!("{encoding}/{rows}"), |b| {
                b.iter(|| stack.visit(rows, 0))
            });
        }
    }
    group.finish();
}

fn head(c: &mut Criterion) {
    let team = team();
    let words = random_words();
    let mut scratch = Scratch::new(&team, &SHAPE, 1);
    let hidden = vec![0.5; SHAPE.hidden];
    let mut out = vec![0.0; VOCABULARY];
    let mut group = c.benchmark_group("head");
    for (name, format) in FORMATS {
        let weights = format(&words);
        let table = part(weights, 0, VOCABULARY, SHAPE.hidden);
        let norm = numbers(weights, 0, SHAPE.hidden);
        let eps = SHAPE.norm_eps;
        group.throughput(Throughput::Bytes(table.bytes() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                logits(&team, norm, eps, &hidden, table, &mut out, &mut scratch);
                black_box(out[0])
            });
        });
    }
    group.finish();
}

fn team() -> Team {
    Team::new(std::thread::available_parallelism().map_or(1, |count| count.get()))
}

type Format = fn(&[u32]) -> Weights<'_>;
const FORMATS: [(&str, Format); 3] = [
    ("bf16", |words| Weights::Bf16(bytemuck::cast_slice(words))),
    ("f16", |words| Weights::F16(bytemuck::cast_slice(words))),
    ("f32", |words| Weights::F32(bytemuck::cast_slice(words))),
];

const QUANTISED: [Encoding; 3] = [Encoding::Q8_0, Encoding::Q4K, Encoding::Q6K];

/// As many layers as the weights hold, visited one after another.
struct Stack<'a> {
    team: &'a Team,
    layers: Vec<BlockWeights<'a>>,
    next: usize,
    cache: LayerCache,
    rope: RopeTable,
    scratch: Scratch,
    hidden: Vec<f32>,
}

impl<'a> Stack<'a> {
    fn new(team: &'a Team, weights: Weights<'a>) -> Self {
        let layers = 0..weights.len() / numbers_a_layer();
        let layers = layers.map(|at| block(weights, at * numbers_a_layer()));
        Self::over(team, layers.collect())
    }

    fn over(team: &'a Team, layers: Vec<BlockWeights<'a>>) -> Self {
        let positions = ROWS_MAX.max(POSITION + 1);
        Stack {
            team,
            layers,
            next: 0,
            cache: LayerCache::new(CacheType::F32, SHAPE.kv_heads, SHAPE.head_dim, positions),
            rope: RopeTable::new(&vec![0.01; SHAPE.head_dim / 2], positions),
            scratch: Scratch::new(team, &SHAPE, ROWS_MAX).with_rounded(),
            hidden: Vec::new(),
        }
    }

    fn layer_bytes(&self) -> usize {
        let BlockWeights {
            qkv,
            out,
            gate_up,
            down,
            ..
        } = &self.layers[0];
        [qkv, out, gate_up, down].map(Matrix::bytes).iter().sum()
    }

    /// Carries `rows` rows at `position` through the next layer.
    fn visit(&mut self, rows: usize, position: usize) {
        // From the start each time: a residual stream only grows.
        self.hidden.clear();
        self.hidden.resize(rows * SHAPE.hidden, 0.5);
        self.next = (self.next + 1) % self.layers.len();
        let kind = match rows {
            1 => RunKind::Decode,
            _ => RunKind::of_prompt(self.team.level(), rows),
        };
        forward_block(
            self.team,
            &SHAPE,
            &self.layers[self.next],
            &self.rope,
            None,
            &[Run::new(kind, position, rows, &mut self.cache)],
            &mut self.hidden,
            &mut self.scratch,
        );
        black_box(&self.hidden);
    }
}

fn sizes() -> [(usize, usize); 4] {
    let attended = SHAPE.heads * SHAPE.head_dim;
    [
        (SHAPE.qkv_rows(), SHAPE.hidden),
        (SHAPE.hidden, attended),
        (2 * SHAPE.ffn, SHAPE.hidden),
        (SHAPE.hidden, SHAPE.ffn),
    ]
}

fn numbers_a_layer() -> usize {
    sizes().iter().map(|(rows, cols)| rows * cols).sum()
}

fn block(weights: Weights<'_>, mut start: usize) -> BlockWeights<'_> {
    let matrices = sizes().map(|(rows, cols)| {
        start += rows * cols;
        part(weights, start - rows * cols, rows, cols)
    });
    block_of(weights, matrices)
}

/// Layers whose blocks are whatever the words make of them. Their scales are small finite numbers:
/// as half numbers, too, the words are that.
fn quantised_blocks(encoding: Encoding, words: &[u32]) -> Vec<BlockWeights<'_>> {
    let norm = Weights::F32(bytemuck::cast_slice(words));
    let mut bytes: &[u8] = bytemuck::cast_slice(words);
    let size = |(rows, cols)| encoding.bytes(rows, cols).unwrap_or_default();
    let layer_bytes: usize = sizes().into_iter().map(size).sum();
    let layers = 0..bytes.len() / layer_bytes;
    let layers = layers.map(|_| {
        let matrices = sizes().map(|(rows, cols)| {
            let (matrix, rest) = bytes.split_at(size((rows, cols)));
            bytes = rest;
            Quantised::new(encoding, matrix, rows, cols).into()
        });
        block_of(norm, matrices)
    });
    layers.collect()
}

/// The compact matrices of each layer.
fn packed(team: &Team, weights: Weights<'_>) -> Vec<[Vec<u64>; 4]> {
    let Weights::Bf16(mut numbers) = weights else {
        return Vec::new();
    };
    let mut layers = Vec::new();
    while numbers.len() >= numbers_a_layer() {
        layers.push(sizes().map(|(rows, cols)| {
            let (matrix, rest) = numbers.split_at(rows * cols);
            numbers = rest;
            let bytes = Compact::bytes_for(rows, cols).unwrap_or_default();
            let mut memory = vec![0u64; bytes.div_ceil(8)];
            advise_huge_pages(&mut memory);
            let to = &mut bytemuck::cast_slice_mut(&mut memory)[..bytes];
            assert!(pack(team, matrix, cols, to).is_ok(), "no compact form");
            memory
        }));
    }
    layers
}

fn compact_block<'a>(weights: Weights<'a>, memory: &'a [Vec<u64>; 4]) -> BlockWeights<'a> {
    let mut sizes = sizes().into_iter();
    let matrices = memory.each_ref().map(|memory| {
        let (rows, cols) = sizes.next().unwrap_or_default();
        let bytes = Compact::bytes_for(rows, cols).unwrap_or_default();
        Compact::new(&bytemuck::cast_slice(memory)[..bytes], rows, cols).into()
    });
    block_of(weights, matrices)
}

fn block_of<'a>(weights: Weights<'a>, matrices: [Matrix<'a>; 4]) -> BlockWeights<'a> {
    let norm = numbers(weights, 0, SHAPE.hidden);
    let [qkv, out, gate_up, down] = matrices;
    BlockWeights {
        input_norm: Some(norm),
        qkv,
        qkv_bias: None,
        q_norm: None,
        k_norm: None,
        out,
        out_bias: None,
        out_norm: None,
        post_norm: Some(norm),
        gate_up,
        gate_up_bias: None,
        down,
        down_bias: None,
        down_norm: None,
    }
}

fn part(weights: Weights<'_>, start: usize, rows: usize, cols: usize) -> Matrix<'_> {
    Matrix::new(numbers(weights, start, rows * cols), rows, cols)
}

fn numbers(weights: Weights<'_>, start: usize, count: usize) -> Weights<'_> {
    let range = start..start + count;
    match weights {
        Weights::Bf16(numbers) => Weights::Bf16(&numbers[range]),
        Weights::F16(numbers) => Weights::F16(&numbers[range]),
        Weights::F32(numbers) => Weights::F32(&numbers[range]),
    }
}

/// Ordinary small numbers of either sign in every format, in huge pages where the system gives
/// them. Words of four bytes, for the widest format's alignment.
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

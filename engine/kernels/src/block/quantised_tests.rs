use encoding::Encoding::{self, Q4K, Q5K, Q6K, Q8_0};

use super::*;
use crate::quant::Quantised;
use crate::testing::{Format, Owned, Random, blocks, levels};
use crate::{CacheType, LayerCache, Matrix, logits};

const SHAPE: BlockShape = BlockShape {
    hidden: 256,
    ffn: 512,
    heads: 4,
    kv_heads: 2,
    head_dim: 64,
    norm_eps: 1e-6,
    residual: 1.0,
    scale: None,
};
const ROWS: usize = 40;
const VOCABULARY: usize = 300;

/// Blocks of so many rows and columns, and the same numbers in f32.
struct Both {
    encoding: Encoding,
    bytes: Vec<u8>,
    numbers: Owned,
    size: (usize, usize),
}

impl Both {
    fn new(encoding: Encoding, rows: usize, cols: usize, random: &mut Random) -> Self {
        let bytes = blocks(encoding, rows * cols, random);
        let matrix = Quantised::new(encoding, &bytes, rows, cols);
        let mut numbers = vec![0.0; rows * cols];
        for (row, numbers) in numbers.chunks_mut(cols).enumerate() {
            matrix.row_into(row, numbers);
        }
        Both {
            encoding,
            numbers: Owned::new(Format::F32, &numbers, 0),
            bytes,
            size: (rows, cols),
        }
    }

    fn matrix(&self, quantised: bool) -> Matrix<'_> {
        let (rows, cols) = self.size;
        if quantised {
            Quantised::new(self.encoding, &self.bytes, rows, cols).into()
        } else {
            self.numbers.matrix(rows, cols)
        }
    }
}

/// As files have them: each part in an encoding of its own, values in bf16.
struct Model {
    norm: Owned,
    parts: [Both; 6],
    values: Owned,
    head: Both,
}

impl Model {
    fn new() -> Self {
        let mut random = Random::new(23);
        let mut both = |encoding, rows, cols| Both::new(encoding, rows, cols, &mut random);
        let parts = [
            both(Q4K, 256, 256),
            both(Q4K, 128, 256),
            both(Q6K, 256, 256),
            both(Q4K, 512, 256),
            both(Q5K, 512, 256),
            both(Q6K, 256, 512),
        ];
        let head = both(Q8_0, VOCABULARY, 256);
        // Of such a size that rows stay about as large as they are.
        let values = Owned::random(Format::Bf16, 128 * 256, 0.1, &mut random);
        Model {
            norm: Owned::random(Format::F32, 256, 0.01, &mut random),
            parts,
            values,
            head,
        }
    }

    fn weights(&self, quantised: bool) -> BlockWeights<'_> {
        let [q, k, out, gate, up, down] = self.parts.each_ref().map(|part| part.matrix(quantised));
        BlockWeights {
            input_norm: Some(self.norm.weights()),
            qkv: q.above(k).above(self.values.matrix(128, 256)),
            qkv_bias: None,
            q_norm: None,
            k_norm: None,
            out,
            out_bias: None,
            post_norm: Some(self.norm.weights()),
            out_norm: None,
            down_norm: None,
            gate_up: gate.above(up),
            gate_up_bias: None,
            down,
            down_bias: None,
        }
    }

    /// Rows through the block, in chunks, and the logits of the last.
    fn run(&self, team: &Team, chunks: &[usize], quantised: bool) -> [Vec<f32>; 2] {
        let mut hidden = Random::new(5).numbers(ROWS * SHAPE.hidden);
        let rope = RopeTable::new(&[0.01; 32], ROWS);
        let mut cache = LayerCache::new(CacheType::F32, SHAPE.kv_heads, SHAPE.head_dim, ROWS);
        let mut scratch = Scratch::new(team, &SHAPE, 33).with_rounded();
        let (weights, mut position) = (self.weights(quantised), 0);
        for rows in chunks {
            let range = position * SHAPE.hidden..(position + rows) * SHAPE.hidden;
            let hidden = &mut hidden[range];
            let kind = RunKind::of_prompt(team.level(), *rows);
            let runs = [Run::new(kind, position, *rows, &mut cache)];
            let scratch = &mut scratch;
            forward_block(team, &SHAPE, &weights, &rope, None, &runs, hidden, scratch);
            position += rows;
        }
        let last = &hidden[(ROWS - 1) * SHAPE.hidden..];
        let mut out = vec![0.0; VOCABULARY];
        let head = self.head.matrix(quantised);
        let norm = self.norm.weights();
        logits(team, norm, 1e-6, last, head, &mut out, &mut scratch);
        [hidden, out]
    }
}

#[test]
fn a_block_of_several_encodings_is_near_the_one_of_its_numbers() {
    let model = Model::new();
    for level in levels() {
        for chunks in [vec![37, 2, 1], vec![1, 39]] {
            let plain = model.run(&Team::with_level(1, level), &chunks, false);
            let base = model.run(&Team::with_level(1, level), &chunks, true);
            for (found, expected) in base.iter().zip(&plain) {
                let size = |values: &mut dyn Iterator<Item = f32>| {
                    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
                };
                let off = size(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                let share = off / size(&mut expected.iter().copied());
                // Rounded to a 254th of the range, some times one after the other.
                assert!(share > 0.0 && share < 0.03, "{level} {chunks:?}: {share}");
            }
            for threads in [2, 3] {
                let team = Team::with_level(threads, level);
                assert!(model.run(&team, &chunks, true) == base, "{team:?}");
            }
        }
    }
}

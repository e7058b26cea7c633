use super::*;
use half::{bf16, f16};

use crate::testing::{FORMATS, Format, Owned, Random, error};
use crate::{CacheType, LayerCache, Level, Matrix, Weights};

const POSITIONS: usize = 700;

struct Model {
    shape: BlockShape,
    window: Option<usize>,
    cache: CacheType,
    frequencies: Vec<f32>,
    vectors: [Option<Owned>; 10],
    matrices: [Owned; 4],
}

#[derive(Clone, Copy)]
struct Kind {
    format: Format,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    cache: CacheType,
    biases: bool,
    norms: bool,
    /// Over all heads of a row.
    wide_norms: bool,
    /// Norms before attention and feed-forward part, and after them.
    before: bool,
    after: bool,
    scale: Option<f32>,
    residual: f32,
}

const QWEN2: Kind = Kind {
    format: Format::Bf16,
    heads: 6,
    kv_heads: 2,
    head_dim: 24,
    window: None,
    cache: CacheType::F32,
    biases: true,
    norms: false,
    wide_norms: false,
    before: true,
    after: false,
    scale: None,
    residual: 1.0,
};

impl Model {
    fn new(kind: Kind) -> Self {
        let Kind {
            format,
            heads,
            kv_heads,
            head_dim,
            ..
        } = kind;
        let (hidden, ffn) = (84, 150);
        let shape = BlockShape {
            hidden,
            ffn,
            heads,
            kv_heads,
            head_dim,
            norm_eps: 1e-6,
            scale: kind.scale,
            residual: kind.residual,
        };
        let mut random = Random::new(head_dim as u64);
        let mut vector =
            |present: bool, len| present.then(|| Owned::random(format, len, 1.0, &mut random));
        let Kind { biases, norms, .. } = kind;
        let Kind { before, after, .. } = kind;
        let (q_heads, k_heads) = if kind.wide_norms {
            (heads, kv_heads)
        } else {
            (1, 1)
        };
        let vectors = [
            vector(before, hidden),
            vector(biases, shape.qkv_rows()),
            vector(norms, q_heads * head_dim),
            vector(norms, k_heads * head_dim),
            vector(biases, hidden),
            vector(before, hidden),
            vector(biases, 2 * ffn),
            vector(biases, hidden),
            vector(after, hidden),
            vector(after, hidden),
        ];
        let mut matrix = |rows: usize, cols: usize| {
            Owned::random(format, rows * cols, 2.0 / (cols as f32).sqrt(), &mut random)
        };
        let matrices = [
            matrix(shape.qkv_rows(), hidden),
            matrix(hidden, heads * head_dim),
            matrix(2 * ffn, hidden),
            matrix(hidden, ffn),
        ];
        let frequency = |i| 100f32.powf(-(i as f32) / (head_dim / 2) as f32);
        let frequencies = (0..head_dim / 2).map(frequency).collect();
        Model {
            shape,
            window: kind.window,
            cache: kind.cache,
            frequencies,
            vectors,
            matrices,
        }
    }

    fn weights(&self) -> BlockWeights<'_> {
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = self.shape;
        let vector = |i: usize| self.vectors[i].as_ref().map(Owned::weights);
        BlockWeights {
            input_norm: vector(0),
            qkv: self.matrices[0].matrix(self.shape.qkv_rows(), hidden),
            qkv_bias: vector(1),
            q_norm: vector(2),
            k_norm: vector(3),
            out: self.matrices[1].matrix(hidden, heads * head_dim),
            out_bias: vector(4),
            out_norm: vector(8),
            post_norm: vector(5),
            gate_up: self.matrices[2].matrix(2 * ffn, hidden),
            gate_up_bias: vector(6),
            down: self.matrices[3].matrix(hidden, ffn),
            down_bias: vector(7),
            down_norm: vector(9),
        }
    }

    fn cache(&self, kind: CacheType) -> LayerCache {
        LayerCache::new(kind, self.shape.kv_heads, self.shape.head_dim, POSITIONS)
    }

    /// Runs `hidden` through the block, in chunks of these lengths.
    fn run(&self, team: &Team, hidden: &[f32], chunks: &[usize], max_rows: usize) -> Vec<f32> {
        let mut cache = self.cache(self.cache);
        self.run_over(team, hidden, chunks, max_rows, &mut cache)
    }

    fn run_over(
        &self,
        team: &Team,
        hidden: &[f32],
        chunks: &[usize],
        max_rows: usize,
        cache: &mut LayerCache,
    ) -> Vec<f32> {
        let rope = RopeTable::new(&self.frequencies, POSITIONS);
        let mut scratch = Scratch::new(team, &self.shape, max_rows);
        let mut out = hidden.to_vec();
        let (mut position, mut rest) = (0, &mut out[..]);
        let most = chunks.iter().copied().max().unwrap_or(0);
        for rows in chunks {
            let (chunk, after) = rest.split_at_mut(rows * self.shape.hidden);
            let weights = self.weights();
            let window = self.window;
            let shape = &self.shape;
            let kind = match rows {
                1 => RunKind::Decode,
                _ => RunKind::of_prompt(team.level(), most),
            };
            forward_block(
                team,
                shape,
                &weights,
                &rope,
                window,
                &[Run::new(kind, position, *rows, cache)],
                chunk,
                &mut scratch,
            );
            position += rows;
            rest = after;
        }
        assert!(rest.is_empty());
        out
    }

    /// The same in plain loops and double precision.
    fn expected(&self, hidden: &[f32]) -> Vec<f64> {
        let BlockShape {
            hidden: width,
            ffn,
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            residual,
            ..
        } = self.shape;
        let w = self.weights();
        let rows = hidden.len() / width;
        let mut stream: Vec<f64> = hidden.iter().map(|v| f64::from(*v)).collect();
        let norm = |x: &[f64], weight: Weights<'_>| -> Vec<f64> {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + f64::from(norm_eps)).sqrt();
            x.iter()
                .enumerate()
                .map(|(i, v)| v * scale * f64::from(weight.get(i)))
                .collect()
        };
        let linear = |x: &[f64], m: Matrix<'_>, bias: Option<Weights<'_>>| -> Vec<f64> {
            let mut weights = vec![0.0; m.cols()];
            let row = |r: usize| {
                m.row_into(r, &mut weights);
                let start = bias.map_or(0.0, |b| f64::from(b.get(r)));
                let product = |(w, x): (&f32, &f64)| f64::from(*w) * x;
                start + weights.iter().zip(x).map(product).sum::<f64>()
            };
            (0..m.rows()).map(row).collect()
        };
        let turn = |x: &mut [f64], position: usize| {
            for i in 0..head_dim / 2 {
                let (sin, cos) = f64::from(position as f32 * self.frequencies[i]).sin_cos();
                let (a, b) = (x[i], x[i + head_dim / 2]);
                (x[i], x[i + head_dim / 2]) = (a * cos - b * sin, b * cos + a * sin);
            }
        };
        let mut all: Vec<Vec<f64>> = Vec::new();
        for row in 0..rows {
            let x = &stream[row * width..][..width];
            let x = w.input_norm.map_or(x.to_vec(), |weight| norm(x, weight));
            let mut qkv = linear(&x, w.qkv, w.qkv_bias);
            for (weight, first, count) in [(w.q_norm, 0, heads), (w.k_norm, heads, kv_heads)] {
                let values = &mut qkv[first * head_dim..][..count * head_dim];
                if let Some(weight) = weight {
                    for values in values.chunks_mut(weight.len()) {
                        values.copy_from_slice(&norm(values, weight));
                    }
                }
                values.chunks_mut(head_dim).for_each(|head| turn(head, row));
            }
            for number in &mut qkv[heads * head_dim..] {
                *number = rounded(self.cache, *number);
            }
            all.push(qkv);
        }
        for row in 0..rows {
            let first = self.window.map_or(0, |n| (row + 1).saturating_sub(n));
            let mut attended = Vec::new();
            for head in 0..heads {
                let kv = head / (heads / kv_heads);
                let q = &all[row][head * head_dim..][..head_dim];
                let key = |r: usize| &all[r][(heads + kv) * head_dim..][..head_dim];
                let value = |r: usize| &all[r][(heads + kv_heads + kv) * head_dim..][..head_dim];
                let score = |r: usize| {
                    let dot: f64 = q.iter().zip(key(r)).map(|(a, b)| a * b).sum();
                    match self.shape.scale {
                        Some(scale) => dot * f64::from(scale),
                        None => dot / (head_dim as f64).sqrt(),
                    }
                };
                let scores: Vec<f64> = (first..=row).map(score).collect();
                let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                attended.extend((0..head_dim).map(|d| {
                    let terms = weights
                        .iter()
                        .enumerate()
                        .map(|(i, p)| p * value(first + i)[d]);
                    terms.sum::<f64>() / sum
                }));
            }
            let x = &mut stream[row * width..][..width];
            let add = |x: &mut [f64], y: Vec<f64>, weight: Option<Weights<'_>>| {
                let y = weight.map_or(y.clone(), |weight| norm(&y, weight));
                let terms = y.iter().map(|y| y * f64::from(residual));
                x.iter_mut().zip(terms).for_each(|(x, y)| *x += y);
            };
            add(x, linear(&attended, w.out, w.out_bias), w.out_norm);
            let normed = w.post_norm.map_or(x.to_vec(), |weight| norm(x, weight));
            let both = linear(&normed, w.gate_up, w.gate_up_bias);
            let inner: Vec<f64> = (0..ffn)
                .map(|i| both[i] / (1.0 + (-both[i]).exp()) * both[ffn + i])
                .collect();
            add(x, linear(&inner, w.down, w.down_bias), w.down_norm);
        }
        stream
    }
}

fn rounded(kind: CacheType, number: f64) -> f64 {
    match kind {
        CacheType::F32 => number,
        // By way of f32: the crate's conversion from f64 forgets the last bits before it rounds.
        CacheType::F16 => f16::from_f32(number as f32).to_f64(),
        CacheType::Bf16 => bf16::from_f32(number as f32).to_f64(),
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_supported())
}

fn check(kind: Kind, rows: usize) {
    let model = Model::new(kind);
    let hidden = Random::new(rows as u64).numbers(rows * model.shape.hidden);
    let expected = model.expected(&hidden);
    for level in levels() {
        for threads in [1, 2, 3] {
            let team = Team::with_level(threads, level);
            let singly = vec![1; rows];
            let uneven = [rows / 3, rows - rows / 3];
            for (chunks, max_rows) in [(&[rows][..], rows), (&singly, 1), (&uneven, 7)] {
                let out = model.run(&team, &hidden, chunks, max_rows);
                let error = error(&out, &expected);
                let most = chunks.iter().copied().max().unwrap_or(0);
                let chunks = chunks.len();
                // A long prompt: activations are rounded to eight significant bits.
                let rounded =
                    level == Level::Avx512Bf16 && kind.format == Format::Bf16 && most >= 32;
                // A cached number that lies between two is rounded to the other one now and then.
                let bound = match (rounded, kind.cache) {
                    (true, _) => 5e-3,
                    (false, CacheType::F32) => 2e-5,
                    (false, CacheType::F16) => 1e-4,
                    (false, CacheType::Bf16) => 1e-3,
                };
                assert!(
                    error < bound,
                    "{team:?}, {chunks} chunks by {max_rows}: off by {error:e}"
                );
            }
        }
    }
}

#[test]
fn agrees_with_plain_loops() {
    for format in FORMATS {
        check(Kind { format, ..QWEN2 }, 70);
    }
}

#[test]
fn norms_of_heads_windows_and_odd_heads() {
    let plain = Kind {
        biases: false,
        ..QWEN2
    };
    check(
        Kind {
            norms: true,
            heads: 4,
            head_dim: 12,
            ..plain
        },
        40,
    );
    check(
        Kind {
            window: Some(5),
            heads: 4,
            kv_heads: 4,
            head_dim: 16,
            ..plain
        },
        80,
    );
    check(
        Kind {
            window: Some(67),
            heads: 20,
            kv_heads: 1,
            head_dim: 10,
            ..QWEN2
        },
        140,
    );
}

#[test]
fn norms_after_the_parts_and_over_all_heads() {
    let after = Kind {
        norms: true,
        wide_norms: true,
        before: false,
        after: true,
        ..QWEN2
    };
    check(after, 70);
    check(
        Kind {
            before: true,
            kv_heads: 1,
            residual: 0.5,
            ..after
        },
        40,
    );
    check(
        Kind {
            wide_norms: false,
            biases: false,
            format: Format::F32,
            ..after
        },
        40,
    );
}

#[test]
fn scores_and_residuals_with_multipliers() {
    let scaled = Kind {
        scale: Some(0.4),
        residual: 0.22,
        ..QWEN2
    };
    check(scaled, 70);
}

#[test]
fn long_contexts_are_cut_into_stretches() {
    check(
        Kind {
            format: Format::F32,
            ..QWEN2
        },
        600,
    );
    check(
        Kind {
            format: Format::F32,
            window: Some(500),
            ..QWEN2
        },
        640,
    );
}

#[test]
fn keys_and_values_are_rounded_when_they_are_written() {
    for cache in [CacheType::F16, CacheType::Bf16] {
        check(Kind { cache, ..QWEN2 }, 70);
        let odd = Kind {
            cache,
            norms: true,
            heads: 4,
            head_dim: 12,
            window: Some(33),
            ..QWEN2
        };
        check(odd, 90);
    }
}

#[test]
fn a_cache_of_fewer_bytes_holds_what_one_of_f32_does_rounded() {
    let model = Model::new(Kind {
        norms: true,
        ..QWEN2
    });
    let BlockShape {
        hidden: width,
        kv_heads,
        head_dim,
        ..
    } = model.shape;
    let rows = 40;
    let hidden = Random::new(9).numbers(rows * width);
    for level in levels() {
        let team = Team::with_level(2, level);
        // What one block writes does not depend on what it reads.
        let fill = |kind| {
            let mut cache = model.cache(kind);
            model.run_over(&team, &hidden, &[30, 9, 1], 16, &mut cache);
            cache
        };
        let whole = fill(CacheType::F32);
        for kind in [CacheType::F16, CacheType::Bf16] {
            let found = fill(kind);
            let mut row = vec![0.0; head_dim];
            let mut expected = vec![0.0; head_dim];
            for (head, position) in (0..kv_heads).flat_map(|h| (0..rows).map(move |p| (h, p))) {
                let same = |row: &[f32], expected: &[f32]| {
                    let expected = expected.iter().map(|v| rounded(kind, f64::from(*v)) as f32);
                    assert!(row.iter().copied().eq(expected), "{kind:?} on {level}");
                };
                found.key_into(head, position, &mut row);
                whole.key_into(head, position, &mut expected);
                same(&row, &expected);
                found.value_into(head, position, &mut row);
                whole.value_into(head, position, &mut expected);
                same(&row, &expected);
            }
        }
    }
}

#[test]
fn results_depend_on_neither_threads_nor_alignment() {
    for cache in CacheType::ALL {
        threads_and_alignment(Kind { cache, ..QWEN2 });
    }
}

fn threads_and_alignment(kind: Kind) {
    let mut model = Model::new(kind);
    let hidden = Random::new(3).numbers(600 * model.shape.hidden);
    let mut chunks = vec![590];
    chunks.extend([1; 10]);
    for level in levels() {
        let base = model.run(&Team::with_level(1, level), &hidden, &chunks, 600);
        for threads in [1, 2, 3, 4] {
            let team = Team::with_level(threads, level);
            assert!(model.run(&team, &hidden, &chunks, 600) == base, "{team:?}");
        }
        let skip = |owned: &mut Owned, skip: usize| {
            let values: Vec<f32> = (0..owned.weights().len())
                .map(|i| owned.weights().get(i))
                .collect();
            *owned = Owned::new(Format::Bf16, &values, skip);
        };
        model
            .matrices
            .iter_mut()
            .enumerate()
            .for_each(|(i, m)| skip(m, 3 * i + 1));
        let team = Team::with_level(2, level);
        assert!(
            model.run(&team, &hidden, &chunks, 600) == base,
            "{team:?} after moving"
        );
    }
}

/// A sequence's rows, and how far it has come.
struct Sequence {
    hidden: Vec<f32>,
    cache: LayerCache,
    done: usize,
}

/// Which sequence goes on by how many rows.
type Step = (usize, usize, RunKind);

/// Sends the sequences' rows through the block, those of a visit together.
fn visits(model: &Model, team: &Team, lengths: &[usize], visits: &[Vec<Step>]) -> Vec<Vec<f32>> {
    let width = model.shape.hidden;
    let rope = RopeTable::new(&model.frequencies, POSITIONS);
    let mut scratch = Scratch::new(team, &model.shape, 50);
    let sequence = |(index, rows): (usize, &usize)| Sequence {
        hidden: Random::new(index as u64).numbers(rows * width),
        cache: model.cache(model.cache),
        done: 0,
    };
    let mut sequences: Vec<_> = lengths.iter().enumerate().map(sequence).collect();
    for steps in visits {
        let mut rows = Vec::new();
        let mut runs = Vec::new();
        for (index, sequence) in sequences.iter_mut().enumerate() {
            let step = steps.iter().find(|(which, ..)| *which == index);
            if let Some(&(_, count, kind)) = step {
                let range = sequence.done * width..(sequence.done + count) * width;
                rows.extend_from_slice(&sequence.hidden[range]);
                runs.push(Run::new(kind, sequence.done, count, &mut sequence.cache));
            }
        }
        let weights = model.weights();
        let window = model.window;
        let (shape, scratch) = (&model.shape, &mut scratch);
        forward_block(
            team, shape, &weights, &rope, window, &runs, &mut rows, scratch,
        );
        let mut rest = &rows[..];
        for (index, sequence) in sequences.iter_mut().enumerate() {
            let step = steps.iter().find(|(which, ..)| *which == index);
            if let Some((_, count, _)) = step {
                let (own, after) = rest.split_at(count * width);
                sequence.hidden[sequence.done * width..][..own.len()].copy_from_slice(own);
                sequence.done += count;
                rest = after;
            }
        }
    }
    let all = |sequence: Sequence| {
        assert!(sequence.done * width == sequence.hidden.len());
        sequence.hidden
    };
    sequences.into_iter().map(all).collect()
}

#[test]
fn a_row_gives_the_same_bits_in_any_company() {
    use RunKind::{Decode, Prompt, Verify};
    let lengths = [112, 48, 333, 1];
    let together = [
        vec![(0, 70, Prompt), (1, 33, Prompt), (2, 320, Prompt)],
        vec![(0, 40, Prompt), (1, 12, Prompt), (2, 1, Decode)],
        vec![(0, 1, Decode), (1, 1, Decode), (2, 9, Verify)],
        vec![
            (0, 1, Decode),
            (1, 2, Verify),
            (2, 3, Verify),
            (3, 1, Verify),
        ],
    ];
    // Prompts at once, and every other token on its own.
    let prompts = [110, 45, 320, 0];
    let alone = lengths
        .iter()
        .zip(prompts)
        .enumerate()
        .flat_map(|(index, (&rows, prompt))| {
            let first = (prompt > 0).then(|| vec![(index, prompt, Prompt)]);
            first
                .into_iter()
                .chain((prompt..rows).map(move |_| vec![(index, 1, Decode)]))
        });
    let alone: Vec<_> = alone.collect();
    for format in FORMATS {
        for window in [None, Some(290)] {
            let model = Model::new(Kind {
                format,
                window,
                ..QWEN2
            });
            for level in levels() {
                let expected = visits(&model, &Team::with_level(1, level), &lengths, &alone);
                for threads in [1, 3] {
                    let team = Team::with_level(threads, level);
                    let found = visits(&model, &team, &lengths, &together);
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        assert!(found == expected, "{format:?} {window:?} {team:?}: {index}");
                    }
                }
            }
        }
    }
}

#[test]
fn logits_of_several_rows_are_those_of_each() {
    let model = Model::new(QWEN2);
    let width = model.shape.hidden;
    let rows = Random::new(11).numbers(23 * width);
    let norm = Owned::new(Format::Bf16, &Random::new(12).numbers(width), 0);
    let head = Owned::new(Format::Bf16, &Random::new(13).numbers(71 * width), 0);
    for level in levels() {
        let team = Team::with_level(2, level);
        let mut scratch = Scratch::new(&team, &model.shape, 9);
        let mut of = |rows: &[f32]| {
            let mut out = vec![0.0; rows.len() / width * 71];
            let head = head.matrix(71, width);
            crate::logits(
                &team,
                norm.weights(),
                1e-6,
                rows,
                head,
                &mut out,
                &mut scratch,
            );
            out
        };
        let each: Vec<f32> = rows.chunks(width).flat_map(&mut of).collect();
        assert!(of(&rows) == each, "{level}");
    }
}

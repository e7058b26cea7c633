mod plain;
mod rounded;

use super::*;
use crate::testing::{FORMATS, Format, Owned, Random, error, levels};
use crate::weights::Weights;
use plain::{Plain, connected};

const SHAPE: DenoiserShape = DenoiserShape {
    layers: 3,
    hidden: 20,
    ffn: 37,
    latent: 5,
    frequency: 14,
    norm_eps: 1e-5,
};
const TIMES: [f32; 3] = [999.0, 487.0, 3.0];

struct Case {
    shape: DenoiserShape,
    plain: Plain,
    noisy: Vec<f32>,
    conditions: Vec<f32>,
}

impl Case {
    fn new(shape: DenoiserShape, format: Format, rows: usize) -> Self {
        let mut random = Random::new(rows as u64 + 3);
        Case {
            shape,
            plain: Plain::new(&shape, format, &mut random),
            noisy: random.numbers(rows * shape.latent),
            conditions: random.numbers(rows * shape.hidden),
        }
    }

    /// Of the row, at the times.
    fn row(&self, row: usize, time: f32) -> Vec<f64> {
        let DenoiserShape { latent, hidden, .. } = self.shape;
        let noisy = &self.noisy[row * latent..(row + 1) * latent];
        let condition = &self.conditions[row * hidden..(row + 1) * hidden];
        self.plain.run(noisy, time, condition)
    }

    fn rows(&self) -> usize {
        self.noisy.len() / self.shape.latent
    }

    fn steps(&self, team: &Team, times: &[f32], scratch: &mut DenoiserScratch) -> Vec<f32> {
        let weights = self.plain.weights();
        embed_times(team, &self.shape, &weights, times, scratch);
        condition(team, &self.shape, &weights, &self.conditions, scratch);
        let mut all = Vec::new();
        for time in 0..times.len() {
            let mut out = vec![f32::NAN; self.noisy.len()];
            denoise_step(
                team,
                &self.shape,
                &weights,
                time,
                &self.noisy,
                &mut out,
                scratch,
            );
            all.extend(out);
        }
        all
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn agrees_with_double_precision() {
    for format in FORMATS {
        for (layers, hidden, ffn) in [(3, 20, 37), (1, 7, 3), (2, 64, 96), (0, 33, 1)] {
            let shape = DenoiserShape {
                layers,
                hidden,
                ffn,
                ..SHAPE
            };
            for rows in [1, 2, 5] {
                let case = Case::new(shape, format, rows);
                let expected = TIMES
                    .iter()
                    .flat_map(|time| (0..rows).map(move |row| (row, *time)));
                let expected = expected.flat_map(|(row, time)| case.row(row, time));
                let expected: Vec<f64> = expected.collect();
                for level in levels() {
                    let team = Team::with_level(2, level);
                    let mut scratch = DenoiserScratch::new(&team, &shape, 6, 4);
                    let found = case.steps(&team, &TIMES, &mut scratch);
                    let error = error(&found, &expected);
                    assert!(
                        error < 1e-5,
                        "{level} {format:?} {shape:?} {rows}: {error:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_step_is_a_step_of_several() {
    for level in levels() {
        for format in FORMATS {
            let case = Case::new(SHAPE, format, 4);
            let mut expected = None;
            for threads in 1..=3 {
                let team = Team::with_level(threads, level);
                let mut scratch = DenoiserScratch::new(&team, &SHAPE, 4, 3);
                let found = case.steps(&team, &TIMES, &mut scratch);
                let expected = expected.get_or_insert_with(|| bits(&found));
                assert!(bits(&found) == *expected, "{team:?} {format:?}");
                // Each row and time by itself.
                let weights = case.plain.weights();
                let mut scratch = DenoiserScratch::new(&team, &SHAPE, 1, 1);
                let (latent, hidden) = (SHAPE.latent, SHAPE.hidden);
                let mut alone = Vec::new();
                for time in TIMES {
                    for row in 0..case.rows() {
                        let noisy = &case.noisy[row * latent..(row + 1) * latent];
                        let given = &case.conditions[row * hidden..(row + 1) * hidden];
                        let mut out = vec![f32::NAN; latent];
                        denoise(
                            &team,
                            &SHAPE,
                            &weights,
                            noisy,
                            time,
                            given,
                            &mut out,
                            &mut scratch,
                        );
                        alone.extend(out);
                    }
                }
                assert!(bits(&alone) == *expected, "{team:?} {format:?} alone");
            }
        }
    }
}

#[test]
fn connectors_agree_with_double_precision() {
    for format in FORMATS {
        for (inputs, width) in [(5, 12), (64, 48), (1, 7)] {
            let mut random = Random::new(width as u64);
            let mut owned = |count| Owned::random(format, count, 0.8, &mut random);
            let (fc1, fc2) = (owned(width * inputs), owned(width * width));
            let [bias1, norm, bias2] = [(); 3].map(|()| owned(width));
            let x = Random::new(3).numbers(7 * inputs);
            let (fc1, fc2) = (fc1.matrix(width, inputs), fc2.matrix(width, width));
            let vectors = [&bias1, &norm, &bias2].map(Owned::weights);
            let expected = connected(fc1, fc2, vectors, &x);
            for level in levels() {
                let mut first: Option<Vec<u32>> = None;
                for (threads, rows) in [(1, 1), (2, 3), (3, 7)] {
                    let team = Team::with_level(threads, level);
                    let mut scratch = ConnectScratch::new(&team, width, rows);
                    let mut out = vec![f32::NAN; 7 * width];
                    let [bias1, norm, bias2] = vectors;
                    let scratch = &mut scratch;
                    let between = Between::Norm(norm, 1e-6);
                    connect(
                        &team, fc1, bias1, between, fc2, bias2, &x, &mut out, scratch,
                    );
                    let error = error(&out, &expected);
                    assert!(error < 3e-6, "{team:?} {format:?}: off by {error:e}");
                    let first = first.get_or_insert_with(|| bits(&out));
                    assert!(bits(&out) == *first, "{team:?} {format:?}, {rows} rows");
                }
            }
        }
    }
}

#[test]
fn sizes_are_what_is_allocated() {
    for level in levels() {
        for (threads, rows, times) in [(1, 1, 1), (3, 4, 10)] {
            let team = Team::with_level(threads, level);
            let size = DenoiserScratchSize::of(level, threads, &SHAPE, rows, times);
            let scratch = DenoiserScratch::new(&team, &SHAPE, rows, times);
            assert_eq!(scratch.bytes(), size.bytes());
            assert_eq!((scratch.rows(), scratch.times()), (rows, times));
            let size = ConnectScratchSize::of(level, threads, 20, rows);
            assert_eq!(ConnectScratch::new(&team, 20, rows).bytes(), size.bytes());
        }
    }
}

#[test]
#[should_panic(expected = "4 rows under 0 conditions")]
fn a_step_without_conditions_is_refused() {
    let case = Case::new(SHAPE, Format::F32, 4);
    let team = Team::new(1);
    let mut scratch = DenoiserScratch::new(&team, &SHAPE, 4, 3);
    let weights = case.plain.weights();
    embed_times(&team, &SHAPE, &weights, &TIMES, &mut scratch);
    let mut out = case.noisy.clone();
    denoise_step(
        &team,
        &SHAPE,
        &weights,
        0,
        &case.noisy,
        &mut out,
        &mut scratch,
    );
}

#[test]
fn compact_layers_give_the_bits_of_plain_ones() {
    let shape = DenoiserShape {
        hidden: 128,
        ffn: 256,
        ..SHAPE
    };
    let case = Case::new(shape, Format::Bf16, 2);
    for level in levels() {
        let team = Team::with_level(2, level);
        let mut scratch = DenoiserScratch::new(&team, &shape, 2, 3);
        let expected = case.steps(&team, &TIMES, &mut scratch);
        let plain = case.plain.weights();
        let memory: Vec<Vec<Vec<u8>>> = (plain.layers.iter())
            .map(|layer| {
                let all = [layer.gate, layer.up, layer.down, layer.modulation];
                all.map(|matrix| packed(&team, &matrix)).to_vec()
            })
            .collect();
        let mut weights = plain.clone();
        for (layer, memory) in weights.layers.iter_mut().zip(&memory) {
            let all = [
                &mut layer.gate,
                &mut layer.up,
                &mut layer.down,
                &mut layer.modulation,
            ];
            for (matrix, bytes) in all.into_iter().zip(memory) {
                *matrix = crate::Compact::new(bytes, matrix.rows(), matrix.cols()).into();
            }
        }
        condition(&team, &shape, &weights, &case.conditions, &mut scratch);
        let mut found = Vec::new();
        for time in 0..TIMES.len() {
            let mut out = case.noisy.clone();
            denoise_step(
                &team,
                &shape,
                &weights,
                time,
                &case.noisy,
                &mut out,
                &mut scratch,
            );
            found.extend(out);
        }
        assert_eq!(bits(&found), bits(&expected), "{level}");
    }
}

/// A plain matrix of bf16 in compact form.
fn packed(team: &Team, matrix: &Matrix<'_>) -> Vec<u8> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let numbers = matrix.strips().next().map(|strip| strip.numbers);
    let Some(crate::Numbers::Plain(Weights::Bf16(numbers))) = numbers else {
        panic!("bf16 in one strip");
    };
    let mut bytes = vec![0; crate::Compact::bytes_for(rows, cols).expect("a size")];
    crate::pack(team, numbers, cols, &mut bytes).expect("few strays");
    bytes
}

mod plain;

use encoding::Encoding;

use super::*;
use crate::block::{BlockShape, BlockWeights, forward_block};
use crate::cache::CacheType;
use crate::compact::Compact;
use crate::head::logits;
use crate::quant::Quantised;
use crate::run::{Run, RunKind};
use crate::testing::{FORMATS, Format, Random, blocks, error, levels};
use crate::weights::{Matrix, Numbers, Weights};
use plain::Plain;

const BLOCK: BlockShape = BlockShape {
    hidden: 36,
    ffn: 50,
    heads: 6,
    kv_heads: 2,
    head_dim: 8,
    norm_eps: 1e-6,
    scale: None,
    residual: 1.0,
};
/// Rows that come in are wider than those of the blocks.
const WIDE: PredictorShape = PredictorShape {
    input: 52,
    layers: 3,
    block: BLOCK,
    codes: 37,
    steps: 15,
};
const NARROW: PredictorShape = PredictorShape {
    input: BLOCK.hidden,
    ..WIDE
};
/// Whose rows are whole blocks of every encoding.
const WHOLE: PredictorShape = PredictorShape {
    input: 256,
    layers: 2,
    block: BlockShape {
        hidden: 256,
        ffn: 512,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ..BLOCK
    },
    codes: 70,
    steps: 5,
};

/// All logits, the codes and the sum of their embeddings.
#[derive(Debug, PartialEq)]
struct Found {
    logits: Vec<f32>,
    codes: Vec<u32>,
    sum: Vec<f32>,
}

impl Found {
    fn bits(&self) -> (Vec<u32>, &[u32], Vec<u32>) {
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect();
        (bits(&self.logits), &self.codes, bits(&self.sum))
    }
}

/// The place of the largest, or of one after it, so that codes differ from step to step.
fn likely(step: usize, logits: &[f32]) -> u32 {
    let mut all: Vec<usize> = (0..logits.len()).collect();
    all.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    all[step % 3] as u32
}

fn rows(shape: &PredictorShape) -> Vec<f32> {
    Random::new(11).numbers(2 * shape.input)
}

fn predict(
    team: &Team,
    shape: &PredictorShape,
    weights: &PredictorWeights<'_>,
    frequencies: &[f32],
    scratch: &mut PredictorScratch,
) -> Found {
    let rope = RopeTable::new(frequencies, shape.positions());
    let mut logits = Vec::new();
    let mut codes = vec![u32::MAX; shape.steps];
    let mut sum = vec![f32::NAN; shape.input];
    let mut choose = |step: usize, of_step: &mut [f32]| {
        assert_eq!(logits.len(), step * shape.codes);
        logits.extend_from_slice(of_step);
        let code = likely(step, of_step);
        of_step.fill(f32::NAN);
        code
    };
    predict_codes(
        team,
        shape,
        weights,
        &rope,
        &rows(shape),
        &mut choose,
        &mut codes,
        &mut sum,
        scratch,
    );
    Found { logits, codes, sum }
}

#[test]
fn agrees_with_double_precision() {
    for shape in [WIDE, NARROW, PredictorShape { layers: 0, ..WIDE }] {
        for format in FORMATS {
            let plain = Plain::new(&shape, format, &mut Random::new(3));
            for level in levels() {
                let team = Team::with_level(2, level);
                let mut scratch = PredictorScratch::new(&team, &shape);
                let weights = plain.weights();
                let found = predict(&team, &shape, &weights, &plain.frequencies, &mut scratch);
                let (logits, sum) = plain.run(&rows(&shape), &found.codes);
                let what = format!("{level} {format:?} {}", shape.input);
                let error_of_logits = error(&found.logits, &logits);
                assert!(error_of_logits < 1e-5, "{what}: {error_of_logits:e}");
                assert!(error(&found.sum, &sum) < 1e-6, "{what}");
            }
        }
    }
}

#[test]
fn neither_threads_nor_frames_before_change_a_bit() {
    for shape in [WIDE, NARROW] {
        let plain = Plain::new(&shape, Format::Bf16, &mut Random::new(5));
        for level in levels() {
            let mut first = None;
            for threads in 1..=3 {
                let team = Team::with_level(threads, level);
                let mut scratch = PredictorScratch::new(&team, &shape);
                for _ in 0..2 {
                    let weights = plain.weights();
                    let frequencies = &plain.frequencies;
                    let found = predict(&team, &shape, &weights, frequencies, &mut scratch);
                    let first = first.get_or_insert_with(|| predicted_copy(&found));
                    assert_eq!(first.bits(), found.bits(), "{team:?}");
                }
            }
        }
    }
}

fn predicted_copy(found: &Found) -> Found {
    Found {
        logits: found.logits.clone(),
        codes: found.codes.clone(),
        sum: found.sum.clone(),
    }
}

/// What blocks and heads give one after another, a region each.
fn by_blocks(
    team: &Team,
    shape: &PredictorShape,
    weights: &PredictorWeights<'_>,
    frequencies: &[f32],
) -> Found {
    let block = shape.block;
    let rope = RopeTable::new(frequencies, shape.positions());
    let mut scratch = crate::Scratch::new(team, &block, 2).with_rounded();
    let cache = || {
        LayerCache::new(
            CacheType::F32,
            block.kv_heads,
            block.head_dim,
            shape.positions(),
        )
    };
    let mut caches: Vec<LayerCache> = weights.layers.iter().map(|_| cache()).collect();
    let mut found = Found {
        logits: Vec::new(),
        codes: Vec::new(),
        sum: vec![0.0; shape.input],
    };
    let (mut hidden, mut position) = (rows(shape), 0);
    for step in 0..shape.steps {
        let count = hidden.len() / shape.input;
        for (layer, cache) in weights.layers.iter().zip(&mut caches) {
            let runs = [Run::new(RunKind::Decode, position, count, cache)];
            forward_block(
                team,
                &block,
                layer,
                &rope,
                None,
                &runs,
                &mut hidden,
                &mut scratch,
            );
        }
        position += count;
        let last = &hidden[(count - 1) * shape.input..];
        let mut of_step = vec![0.0; shape.codes];
        let (norm, eps) = (weights.norm, block.norm_eps);
        let head = weights.heads[step];
        logits(team, norm, eps, last, head, &mut of_step, &mut scratch);
        let code = likely(step, &of_step);
        found.logits.extend(of_step);
        found.codes.push(code);
        hidden = vec![0.0; shape.input];
        weights.embeddings[step].row_into(code as usize, &mut hidden);
        let both = found.sum.iter_mut().zip(&hidden);
        both.for_each(|(sum, x)| *sum += x);
    }
    found
}

/// The matrices of a layer, and all others, made anew by `make`.
fn remade<'a>(
    weights: &PredictorWeights<'a>,
    mut make: impl FnMut(Matrix<'a>) -> Matrix<'a>,
) -> PredictorWeights<'a> {
    let mut remade = weights.clone();
    for layer in &mut remade.layers {
        *layer = BlockWeights {
            qkv: make(layer.qkv),
            out: make(layer.out),
            gate_up: make(layer.gate_up),
            down: make(layer.down),
            ..*layer
        };
    }
    for matrix in remade.heads.iter_mut().chain(&mut remade.embeddings) {
        *matrix = make(*matrix);
    }
    remade
}

fn check_against_blocks(weights: &PredictorWeights<'_>, frequencies: &[f32]) -> Found {
    let mut last = None;
    for level in levels() {
        let team = Team::with_level(2, level);
        let size = PredictorScratchSize::of(level, 2, &WHOLE).with_rounded();
        let mut scratch = PredictorScratch::sized(&size);
        let found = predict(&team, &WHOLE, weights, frequencies, &mut scratch);
        let expected = by_blocks(&team, &WHOLE, weights, frequencies);
        assert!(found.logits.iter().all(|x| x.is_finite()));
        assert_eq!(found.bits(), expected.bits(), "{level}");
        last = Some(found);
    }
    last.expect("a level")
}

#[test]
fn gives_the_bits_of_its_blocks_in_every_encoding() {
    let plain = Plain::new(&WHOLE, Format::Bf16, &mut Random::new(9));
    let weights = plain.weights();
    let as_it_is = check_against_blocks(&weights, &plain.frequencies);

    let team = Team::new(1);
    let compact = remade(&weights, |matrix| {
        let strip = matrix.strips().next().expect("a strip");
        let Numbers::Plain(Weights::Bf16(numbers)) = strip.numbers else {
            panic!("not plain");
        };
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let bytes = vec![0; Compact::bytes_for(rows, cols).expect("a size")].leak();
        crate::pack(&team, numbers, cols, bytes).expect("few strays");
        Compact::new(bytes, rows, cols).into()
    });
    let found = check_against_blocks(&compact, &plain.frequencies);
    assert_eq!(as_it_is.bits(), found.bits());

    for encoding in [Encoding::Q8_0, Encoding::Q4K, Encoding::Q6K] {
        let mut random = Random::new(2);
        let quantised = remade(&weights, |matrix| {
            let (rows, cols) = (matrix.rows(), matrix.cols());
            let bytes = blocks(encoding, rows * cols, &mut random).leak();
            Quantised::new(encoding, bytes, rows, cols).into()
        });
        check_against_blocks(&quantised, &plain.frequencies);
    }
}

#[test]
fn sizes_are_what_is_allocated() {
    for shape in [WIDE, NARROW] {
        for level in levels() {
            for threads in [1, 3] {
                let size = PredictorScratchSize::of(level, threads, &shape);
                assert_eq!(PredictorScratch::sized(&size).bytes(), size.bytes());
                let rounded = size.clone().with_rounded();
                assert!(rounded.bytes() > size.bytes());
                assert_eq!(PredictorScratch::sized(&rounded).bytes(), rounded.bytes());
            }
        }
    }
}

#[test]
fn nan_stays_nan_and_a_frame_after_it_is_clean() {
    let plain = Plain::new(&WIDE, Format::F32, &mut Random::new(5));
    let (weights, rope) = (
        plain.weights(),
        RopeTable::new(&plain.frequencies, WIDE.positions()),
    );
    let team = Team::new(2);
    let mut scratch = PredictorScratch::new(&team, &WIDE);
    let clean = predict(&team, &WIDE, &weights, &plain.frequencies, &mut scratch);
    let mut hostile = rows(&WIDE);
    hostile[3] = f32::NAN;
    let mut all_nan = true;
    let (mut codes, mut sum) = ([0; 15], [0.0; 52]);
    predict_codes(
        &team,
        &WIDE,
        &weights,
        &rope,
        &hostile,
        &mut |_, logits| {
            all_nan &= logits.iter().all(|x| x.is_nan());
            0
        },
        &mut codes,
        &mut sum,
        &mut scratch,
    );
    assert!(all_nan);
    let again = predict(&team, &WIDE, &weights, &plain.frequencies, &mut scratch);
    assert_eq!(clean.bits(), again.bits());
}

#[test]
#[should_panic(expected = "code 37 of 37 was chosen")]
fn a_code_that_there_is_not_is_refused() {
    let plain = Plain::new(&WIDE, Format::F32, &mut Random::new(5));
    let rope = RopeTable::new(&plain.frequencies, WIDE.positions());
    let team = Team::new(2);
    predict_codes(
        &team,
        &WIDE,
        &plain.weights(),
        &rope,
        &rows(&WIDE),
        &mut |step, _| if step == 4 { 37 } else { 1 },
        &mut [0; 15],
        &mut [0.0; 52],
        &mut PredictorScratch::new(&team, &WIDE),
    );
}

use half::bf16;

use super::*;
use crate::compact::{Compact, pack};
use crate::level::Level;
use crate::shared::Buffer;
use crate::team::{Region, Steps, Team};
use crate::testing::{FORMATS, Format, Owned, Random, error, gelu};

struct Case {
    format: Format,
    rows: usize,
    cols: usize,
    tokens: usize,
    then: Then,
    bias: bool,
}

struct Data {
    weights: Owned,
    bias: Owned,
    x: Vec<f32>,
    out: Vec<f32>,
    stride: usize,
}

/// A layer as a region of its own.
pub(super) struct Alone<'a> {
    pub linear: Linear<'a>,
    pub team: &'a Team,
}

impl Region for Alone<'_> {
    fn phases(&self) -> usize {
        self.linear.phases(self.team.level(), self.team.threads())
    }

    fn open(&self, phase: usize) -> usize {
        let threads = self.team.threads();
        self.linear.steps(self.team.level(), phase, threads)
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        // SAFETY: the steps are of this phase, and the buffers are borrowed by the test.
        unsafe { self.linear.work(self.team.level(), phase, steps) }
    }
}

impl Case {
    fn outputs(&self) -> usize {
        if self.then == Then::SwiGlu {
            self.rows / 2
        } else {
            self.rows
        }
    }

    fn data(&self) -> Data {
        let seed = self.rows * 31 + self.cols * 7 + self.tokens;
        let mut random = Random::new(seed as u64);
        let stride = self.outputs() + 3;
        Data {
            weights: Owned::random(self.format, self.rows * self.cols, 1.0, &mut random),
            bias: Owned::random(self.format, self.rows, 1.0, &mut random),
            x: random.numbers(self.tokens * self.cols),
            out: random.numbers(self.tokens * stride),
            stride,
        }
    }

    /// Weight row by activation row, with its bias, in double precision.
    fn dot(&self, data: &Data, row: usize, x: &[f32]) -> f64 {
        let weights = data.weights.weights();
        let bias = self.bias.then(|| data.bias.weights().get(row));
        let products = x
            .iter()
            .enumerate()
            .map(|(c, x)| f64::from(weights.get(row * self.cols + c)) * f64::from(*x));
        f64::from(bias.unwrap_or(0.0)) + products.sum::<f64>()
    }

    /// What [`Case::dot`] is off by at most if each activation is off by up to `share` of itself.
    fn dot_reach(&self, data: &Data, row: usize, x: &[f32], share: f64) -> f64 {
        let weights = data.weights.weights();
        let size = |(c, x): (usize, &f32)| f64::from(weights.get(row * self.cols + c) * x).abs();
        share * x.iter().enumerate().map(size).sum::<f64>()
    }

    /// Calls `set` with every output's place, its weight row, and its row of `x`.
    fn each_output(&self, data: &Data, x: &[f32], mut set: impl FnMut(usize, usize, &[f32])) {
        for token in 0..self.tokens {
            for i in 0..self.outputs() {
                set(
                    token * data.stride + i,
                    i,
                    &x[token * self.cols..][..self.cols],
                );
            }
        }
    }

    fn expected(&self, data: &Data, x: &[f32]) -> Vec<f64> {
        let mut out: Vec<f64> = data.out.iter().map(|v| f64::from(*v)).collect();
        self.each_output(data, x, |at, row, x| {
            let value = self.dot(data, row, x);
            match self.then {
                Then::Store => out[at] = value,
                Then::Add => out[at] += value,
                Then::AddScaled(scale) => out[at] += value * f64::from(scale),
                Then::Gelu => out[at] = gelu(value),
                Then::SwiGlu => out[at] = silu(value) * self.dot(data, self.outputs() + row, x),
            }
        });
        out
    }

    /// How far each output may be from [`Case::expected`] if each activation is off by up to `share`
    /// of itself.
    fn reach(&self, data: &Data, share: f64) -> Vec<f64> {
        /// The largest slope of silu is 1.0998, of gelu 1.1290.
        const SLOPE_MAX: f64 = 1.13;
        let mut reach = vec![0.0; data.out.len()];
        self.each_output(data, &data.x, |at, row, x| {
            let own = self.dot_reach(data, row, x, share);
            reach[at] = match self.then {
                Then::Gelu => SLOPE_MAX * own,
                _ => own,
            };
            if self.then == Then::SwiGlu {
                let partner = self.outputs() + row;
                let (gate, value) = (self.dot(data, row, x), self.dot(data, partner, x));
                let partner = self.dot_reach(data, partner, x, share);
                reach[at] = SLOPE_MAX * own * (value.abs() + partner) + silu(gate).abs() * partner;
            }
        });
        reach
    }

    fn run(&self, team: &Team, data: &Data) -> Vec<f32> {
        self.run_over(team, data, data.weights.matrix(self.rows, self.cols))
    }

    fn run_over(&self, team: &Team, data: &Data, weights: Matrix<'_>) -> Vec<f32> {
        let mut out = data.out.clone();
        let mut x = data.x.clone();
        let floats = tile_floats(
            team.level(),
            self.tokens,
            self.rows,
            self.cols,
            team.threads(),
        );
        let mut tiles = Buffer::zeroed(floats);
        {
            let epilogue = Epilogue {
                then: self.then,
                bias: self.bias.then(|| data.bias.weights()),
                gain: None,
                out: Shared::new(&mut out),
                stride: data.stride,
            };
            let linear = Linear {
                weights: &weights,
                x: Shared::new(&mut x),
                x_stride: self.cols,
                rows: self.tokens,
                kind: RunKind::of_prompt(team.level(), self.tokens),
                epilogue,
                tiles: Shared::new(&mut tiles),
                // Nothing here is quantised.
                rounded: Shared::new(&mut []),
            };
            // SAFETY: the buffers are this test's own, and every worker calls it.
            team.run(&Alone { linear, team });
        }
        out
    }
}

pub(super) fn teams() -> Vec<Team> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels
        .flat_map(|level| [1, 2, 3].map(|n| Team::with_level(n, level)))
        .collect()
}

pub(super) fn silu(value: f64) -> f64 {
    value / (1.0 + (-value).exp())
}

fn check(teams: &[Team], case: &Case) {
    let Case {
        format,
        rows,
        cols,
        tokens,
        then,
        ..
    } = *case;
    let data = case.data();
    let exact = case.expected(&data, &data.x);
    // What AVX-512's bf16 dot product gets: the nearest bf16, the even one of two as near.
    let rounded: Vec<f32> = data.x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    let from_rounded = case.expected(&data, &rounded);
    let mut previous: Option<(Level, Vec<f32>)> = None;
    for team in teams {
        let level = team.level();
        let out = case.run(team, &data);
        let what = format!("{team:?} {format:?} {rows}x{cols} {tokens} rows {then:?}");
        let tiled = format == Format::Bf16 && long_rows_min(level).is_some_and(|min| tokens >= min);
        let (expected, bound) = match (tiled, level) {
            // A sum in one chain, not in as many as a vector has lanes.
            (true, Level::Avx512Bf16) => (&from_rounded, 3e-6),
            // On tiles each activation is off by up to 2^-17 of itself.
            (true, _) => (&exact, 1e-5),
            (false, _) => (&exact, 1e-6),
        };
        let error = error(&out, expected);
        assert!(error < bound, "{what}: off by {error:e}");
        if tiled && level == Level::Avx512Bf16 {
            let size = exact.iter().fold(0.0f64, |top, v| top.max(v.abs()));
            // Of eight significant bits the rounding may cost half of the last.
            for ((out, exact), reach) in out
                .iter()
                .zip(&exact)
                .zip(case.reach(&data, 0.5f64.powi(8)))
            {
                let off = (f64::from(*out) - exact).abs();
                let bound = reach + bound * size;
                assert!(off <= bound, "{what}: off by {off:e}, more than {bound:e}");
            }
        }
        if let Some((previous_level, previous)) = &previous
            && *previous_level == level
        {
            assert!(out == *previous, "{what}: depends on the number of threads");
        }
        previous = Some((level, out));
    }
}

#[test]
fn agrees_with_a_plain_loop_on_odd_shapes() {
    let teams = teams();
    for format in FORMATS {
        for (rows, cols) in [
            (1, 1),
            (7, 33),
            (33, 7),
            (96, 100),
            (100, 96),
            (34, 64),
            (130, 257),
        ] {
            for tokens in [1, 2, 5, 8, 17, 33, 64] {
                let bias = (rows + tokens) % 2 == 0;
                check(
                    &teams,
                    &Case {
                        format,
                        rows,
                        cols,
                        tokens,
                        then: Then::Store,
                        bias,
                    },
                );
                check(
                    &teams,
                    &Case {
                        format,
                        rows,
                        cols,
                        tokens,
                        then: Then::Add,
                        bias,
                    },
                );
                check(
                    &teams,
                    &Case {
                        format,
                        rows,
                        cols,
                        tokens,
                        then: Then::Gelu,
                        bias,
                    },
                );
                if rows % 2 == 0 {
                    check(
                        &teams,
                        &Case {
                            format,
                            rows,
                            cols,
                            tokens,
                            then: Then::SwiGlu,
                            bias,
                        },
                    );
                }
            }
        }
    }
}

#[test]
fn long_rows_and_many_tokens() {
    let teams = teams();
    for format in FORMATS {
        for (rows, cols, tokens) in [(40, 3000, 3), (40, 5001, 70), (70, 300, 300)] {
            check(
                &teams,
                &Case {
                    format,
                    rows,
                    cols,
                    tokens,
                    then: Then::Add,
                    bias: true,
                },
            );
        }
    }
}

/// Puts in what makes rows different, where a matrix has room for it: zeros and less than the least
/// normal number, rows of nothing else, and numbers far from all others at both ends of groups and
/// rows, alone and in several rows of a tile. Returns how many of these are sure to have no code.
fn plant(weights: &mut Owned, rows: usize, cols: usize) -> usize {
    let Owned::Bf16(values, skip) = weights else {
        unreachable!("weights of another format")
    };
    if rows * cols < 50_000 {
        return 0;
    }
    let mut strays = 0;
    for (r, row) in values[*skip..].chunks_exact_mut(cols).enumerate() {
        match r % 10 {
            1 | 6 => {
                for (col, bits) in [(0, 0x0000), (1, 0x8000), (2, 0x0001), (cols - 1, 0x8040)] {
                    row[col] = bf16::from_bits(bits);
                }
            }
            2 | 3 | 7 => {
                for (col, value) in [(0, 1e-20), (1, -1e-20), (127, 3e5), (128, -3e5)] {
                    row[col] = bf16::from_f32(value);
                }
                row[cols - 1] = bf16::from_f32(1e-25);
                strays += 5;
            }
            9 => row.fill(bf16::ZERO),
            _ => {}
        }
    }
    strays
}

#[test]
fn compact_rows_give_the_bits_of_plain_ones() {
    for team in teams() {
        for (rows, cols, then) in [
            (1, 128, Then::Store),
            (7, 256, Then::Add),
            (9, 256, Then::AddScaled(0.25)),
            (130, 640, Then::SwiGlu),
            (70, 5120, Then::Store),
        ] {
            for tokens in [1, 2, 3, 5, 7, 33, 70] {
                let format = Format::Bf16;
                let bias = tokens % 2 == 0;
                let case = Case {
                    format,
                    rows,
                    cols,
                    tokens,
                    then,
                    bias,
                };
                let mut data = case.data();
                let planted = plant(&mut data.weights, rows, cols);
                let Weights::Bf16(plain) = data.weights.weights() else {
                    unreachable!("weights of another format")
                };
                let bytes = Compact::bytes_for(rows, cols).expect("whole groups");
                let mut memory = vec![0u64; bytes.div_ceil(8)];
                let memory = &mut bytemuck::cast_slice_mut(&mut memory)[..bytes];
                pack(&team, plain, cols, memory).expect("room for the strays");
                let compact = Compact::new(memory, rows, cols);
                let strays: usize = (0..rows).map(|row| compact.strays(row).count()).sum();
                assert!(strays >= planted, "{strays} of {planted} strays to test");
                let expected = case.run(&team, &data);
                let found = case.run_over(&team, &data, compact.into());
                assert!(
                    found
                        .iter()
                        .map(|v| v.to_bits())
                        .eq(expected.iter().map(|v| v.to_bits())),
                    "{team:?} {rows} x {cols}, {tokens} rows, {then:?}"
                );
            }
        }
    }
}

/// Some of the numbers.
fn slice(weights: Weights<'_>, range: Range<usize>) -> Weights<'_> {
    match weights {
        Weights::Bf16(data) => Weights::Bf16(&data[range]),
        Weights::F16(data) => Weights::F16(&data[range]),
        Weights::F32(data) => Weights::F32(&data[range]),
    }
}

/// The rows up to each of `ends`, from the one before on, as strips.
fn strips<'a>(weights: Weights<'a>, cols: usize, ends: &[usize]) -> Matrix<'a> {
    let mut start = 0;
    let parts = ends.iter().map(|&end| {
        let rows = slice(weights, start * cols..end * cols);
        let part = Matrix::new(rows, end - start, cols);
        start = end;
        part
    });
    parts.reduce(Matrix::above).unwrap()
}

#[test]
fn strips_give_the_bits_of_one_matrix() {
    let teams = teams();
    for format in FORMATS {
        for (rows, cols, ends, then) in [
            (150, 100, vec![70, 80, 150], Then::Store),
            (150, 96, vec![1, 2, 150], Then::Add),
            (256, 64, vec![128, 192, 256], Then::Store),
            (96, 160, vec![48, 96], Then::SwiGlu),
            (300, 64, vec![150, 300], Then::SwiGlu),
        ] {
            for tokens in [1, 2, 5, 33, 70] {
                let case = Case {
                    format,
                    rows,
                    cols,
                    tokens,
                    then,
                    bias: tokens % 2 == 1,
                };
                let data = case.data();
                for team in &teams {
                    let whole = case.run(team, &data);
                    let apart = strips(data.weights.weights(), cols, &ends);
                    let apart = case.run_over(team, &data, apart);
                    assert!(
                        whole
                            .iter()
                            .zip(&apart)
                            .all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{team:?} {format:?} {rows}x{cols} {ends:?} {tokens} rows {then:?}"
                    );
                }
            }
        }
    }
}

/// Some rows bf16 and some f32, as files have them that keep a part at more accuracy.
#[test]
fn strips_of_two_formats_give_each_its_own_outputs() {
    for team in teams() {
        for (then, middle) in [(Then::Store, 50), (Then::SwiGlu, 60)] {
            let case = |format| Case {
                format,
                rows: 120,
                cols: 96,
                tokens: 3,
                then,
                bias: false,
            };
            let (narrow, wide) = (case(Format::Bf16), case(Format::F32));
            let data = narrow.data();
            // The same numbers in both.
            let numbers: Vec<f32> = (0..120 * 96)
                .map(|index| data.weights.weights().get(index))
                .collect();
            let widened = Owned::new(Format::F32, &numbers, 0);
            let mixed = strips(data.weights.weights(), 96, &[middle, 120]);
            let [top, _] = mixed.strips().collect::<Vec<_>>()[..] else {
                panic!("two strips");
            };
            let Numbers::Plain(top) = top.numbers else {
                panic!("a plain one");
            };
            let below = slice(widened.weights(), middle * 96..120 * 96);
            let below = Matrix::new(below, 120 - middle, 96);
            let mixed = Matrix::new(top, middle, 96).above(below);
            let found = narrow.run_over(&team, &data, mixed);
            let of_narrow = narrow.run(&team, &data);
            let of_wide = wide.run_over(&team, &data, widened.matrix(120, 96));
            narrow.each_output(&data, &data.x, |at, row, _| match then {
                Then::SwiGlu => {
                    let expected = f64::from(of_wide[at]);
                    assert!(
                        (f64::from(found[at]) - expected).abs() <= 1e-5 * (1.0 + expected.abs())
                    );
                }
                _ if row < middle => assert_eq!(found[at].to_bits(), of_narrow[at].to_bits()),
                _ => assert_eq!(found[at].to_bits(), of_wide[at].to_bits()),
            });
        }
    }
}

use super::*;
use crate::kernels::level::Level;
use crate::kernels::shared::Buffer;
use crate::kernels::team::Team;
use crate::kernels::testing::{FORMATS, Format, Owned, Random, error};

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

    fn expected(&self, data: &Data) -> Vec<f64> {
        let weights = data.weights.weights();
        let dot = |row: usize, token: usize| {
            let bias = if self.bias {
                f64::from(data.bias.weights().get(row))
            } else {
                0.0
            };
            let x = &data.x[token * self.cols..][..self.cols];
            x.iter().enumerate().fold(bias, |sum, (c, x)| {
                sum + f64::from(weights.get(row * self.cols + c)) * f64::from(*x)
            })
        };
        let mut out: Vec<f64> = data.out.iter().map(|v| f64::from(*v)).collect();
        for token in 0..self.tokens {
            for i in 0..self.outputs() {
                let value = dot(i, token);
                let out = &mut out[token * data.stride + i];
                match self.then {
                    Then::Store => *out = value,
                    Then::Add => *out += value,
                    Then::SwiGlu => {
                        let up = dot(self.outputs() + i, token);
                        *out = value / (1.0 + (-value).exp()) * up;
                    }
                }
            }
        }
        out
    }

    fn run(&self, team: &Team, data: &Data) -> Vec<f32> {
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
                out: Shared::new(&mut out),
                stride: data.stride,
            };
            let linear = Linear {
                weights: data.weights.matrix(self.rows, self.cols),
                x: Shared::new(&mut x),
                x_stride: self.cols,
                rows: self.tokens,
                epilogue,
                tiles: Shared::new(&mut tiles),
            };
            // SAFETY: the buffers are this test's own, and every worker calls it.
            team.run(|worker| unsafe { linear.run(team.level(), worker) });
        }
        out
    }
}

fn teams() -> Vec<Team> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels
        .flat_map(|level| [1, 2, 3].map(|n| Team::with_level(n, level)))
        .collect()
}

fn check(teams: &[Team], case: &Case) {
    let data = case.data();
    let expected = case.expected(&data);
    let mut previous: Option<(Level, Vec<f32>)> = None;
    for team in teams {
        let out = case.run(team, &data);
        let error = error(&out, &expected);
        let Case {
            format,
            rows,
            cols,
            tokens,
            then,
            ..
        } = *case;
        let what = format!("{team:?} {format:?} {rows}x{cols} {tokens} rows {then:?}");
        // On tiles each activation is off by up to 2^-18 of itself.
        let on_tiles =
            team.level() == Level::Amx && format == Format::Bf16 && tokens >= TILE_ROWS_MIN;
        let bound = if on_tiles { 1e-5 } else { 1e-6 };
        assert!(error < bound, "{what}: off by {error:e}");
        if let Some((level, previous)) = &previous
            && *level == team.level()
        {
            assert!(out == *previous, "{what}: depends on the number of threads");
        }
        previous = Some((team.level(), out));
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
            for tokens in [1, 2, 5, 8, 17, 64] {
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

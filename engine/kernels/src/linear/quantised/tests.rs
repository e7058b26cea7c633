use bytemuck::Zeroable;
use encoding::Encoding::{
    self, Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
};

use super::super::tests::{Alone, silu, teams};
use super::super::tile_floats;
use super::*;
use crate::quant::Quantised;
use crate::run::RunKind;
use crate::shared::Buffer;
use crate::team::Team;
use crate::testing::{Format, Owned, Random, blocks, gelu};
use crate::weights::Matrix;

/// Rows that lie together.
enum Rows {
    Blocks(Encoding, Vec<u8>),
    Plain(Owned),
}

struct Layer {
    /// How many rows each, and these.
    strips: Vec<(usize, Rows)>,
    cols: usize,
    then: Then,
    bias: Option<Owned>,
    x: Vec<f32>,
    out: Vec<f32>,
}

/// What the strips of a layer are made of.
#[derive(Clone, Copy)]
enum Kind {
    In(Encoding),
    As(Format),
}
use Kind::{As, In};

impl Layer {
    fn new(
        kinds: &[(usize, Kind)],
        cols: usize,
        tokens: usize,
        then: Then,
        has_bias: bool,
    ) -> Self {
        let rows: usize = kinds.iter().map(|(rows, _)| rows).sum();
        let mut random = Random::new((rows * 31 + cols * 7 + kinds.len()) as u64);
        let strips = kinds.iter().map(|&(rows, kind)| {
            let numbers = match kind {
                In(encoding) => Rows::Blocks(encoding, blocks(encoding, rows * cols, &mut random)),
                As(format) => Rows::Plain(Owned::random(format, rows * cols, 1.0, &mut random)),
            };
            (rows, numbers)
        });
        let strips = strips.collect();
        let bias = has_bias.then(|| Owned::random(Format::F32, rows, 1.0, &mut random));
        let mut layer = Layer {
            strips,
            cols,
            then,
            bias,
            x: random.numbers(tokens * cols),
            out: Vec::new(),
        };
        layer.out = random.numbers(tokens * layer.outputs());
        layer
    }

    fn matrix(&self) -> Matrix<'_> {
        let strips = self.strips.iter().map(|(rows, numbers)| match numbers {
            Rows::Blocks(encoding, bytes) => {
                Quantised::new(*encoding, bytes, *rows, self.cols).into()
            }
            Rows::Plain(owned) => owned.matrix(*rows, self.cols),
        });
        strips.reduce(Matrix::above).unwrap()
    }

    fn outputs(&self) -> usize {
        let rows = self.matrix().rows();
        match self.then {
            Then::SwiGlu => rows / 2,
            Then::Store | Then::Add | Then::AddScaled(_) | Then::Gelu => rows,
        }
    }

    /// The first `tokens` rows of activations from `first` on.
    fn run(&self, team: &Team, first: usize, tokens: usize) -> Vec<f32> {
        let weights = self.matrix();
        let (rows, cols, stride) = (weights.rows(), self.cols, self.outputs());
        let mut out = self.out[first * stride..(first + tokens) * stride].to_vec();
        let mut x = self.x[first * cols..(first + tokens) * cols].to_vec();
        let floats = tile_floats(team.level(), tokens, rows, cols, team.threads());
        let mut tiles = Buffer::zeroed(floats);
        let mut rounded = vec![Octet::zeroed(); tokens.max(team.threads()) * octets(cols)];
        let linear = Linear {
            weights: &weights,
            x: Shared::new(&mut x),
            x_stride: cols,
            rows: tokens,
            kind: RunKind::of_prompt(team.level(), tokens),
            epilogue: Epilogue {
                then: self.then,
                bias: self.bias.as_ref().map(Owned::weights),
                gain: None,
                out: Shared::new(&mut out),
                stride,
            },
            tiles: Shared::new(&mut tiles),
            rounded: Shared::new(&mut rounded),
        };
        team.run(&Alone { linear, team });
        out
    }

    /// A weight row times an activation row, with its bias, and the sum of the magnitudes of what
    /// is added: in double precision, of the numbers that quantised weights and rounded activations
    /// stand for.
    fn dot(&self, row: usize, x: &[f32]) -> [f64; 2] {
        let mut weights = vec![0.0; self.cols];
        self.matrix().row_into(row, &mut weights);
        let mut first = 0;
        let strip = self.strips.iter().find(|(rows, _)| {
            first += rows;
            row < first
        });
        let x: Vec<f64> = match strip.unwrap().1 {
            Rows::Plain(_) => x.iter().map(|x| f64::from(*x)).collect(),
            Rows::Blocks(..) => {
                let mut rounded = vec![Octet::zeroed(); octets(x.len())];
                round_row(Level::Portable, x, &mut rounded);
                let numbers = rounded.iter().flat_map(|octet| {
                    let scale = |i| f64::from(octet.scale[i / 32]);
                    (0..octet.q.len()).map(move |i| scale(i) * f64::from(octet.q[i]))
                });
                numbers.collect()
            }
        };
        let bias = self
            .bias
            .as_ref()
            .map_or(0.0, |bias| bias.weights().get(row));
        let mut sums = [f64::from(bias), f64::from(bias).abs()];
        for (w, x) in weights.iter().zip(x) {
            let product = f64::from(*w) * x;
            sums = [sums[0] + product, sums[1] + product.abs()];
        }
        sums
    }

    fn check(&self, out: &[f32], what: &str) {
        let outputs = self.outputs();
        for (at, found) in out.iter().enumerate() {
            let (token, row) = (at / outputs, at % outputs);
            // Each output costs as much as the layer: some are enough.
            if (token * 7 + row) % 5 != 0 {
                continue;
            }
            let x = &self.x[token * self.cols..][..self.cols];
            let [value, size] = self.dot(row, x);
            let before = f64::from(self.out[at]);
            let (expected, size) = match self.then {
                Then::Store => (value, size),
                Then::Add | Then::AddScaled(_) => (before + value, before.abs() + size),
                Then::Gelu => (gelu(value), 1.13 * size),
                Then::SwiGlu => {
                    let [partner, partner_size] = self.dot(outputs + row, x);
                    // The largest slope of silu is 1.0998.
                    let off = 1.1 * size * partner.abs() + silu(value).abs() * partner_size;
                    (silu(value) * partner, off)
                }
            };
            let off = (f64::from(*found) - expected).abs();
            assert!(
                off <= 1e-6 * size,
                "{what}: {found}, not {expected} of {size}"
            );
        }
    }
}

fn bits(out: &[f32]) -> Vec<u32> {
    out.iter().map(|value| value.to_bits()).collect()
}

/// Checks it at all levels and with several numbers of threads.
fn check_everywhere(teams: &[Team], layer: &Layer, tokens: usize, same_at_all_levels: bool) {
    let mut last: Option<(Level, Vec<u32>)> = None;
    for team in teams {
        let out = layer.run(team, 0, tokens);
        let strips = layer.strips.iter().map(|(rows, _)| *rows);
        let what = format!(
            "{team:?}, {:?} x {}, {tokens} rows, {:?}",
            strips.collect::<Vec<_>>(),
            layer.cols,
            layer.then
        );
        if let Some((level, last)) = &last
            && (same_at_all_levels || *level == team.level())
        {
            assert!(*last == bits(&out), "{what}: other bits");
        } else {
            layer.check(&out, &what);
        }
        last = Some((team.level(), bits(&out)));
    }
}

#[test]
fn every_encoding_agrees_with_a_plain_loop() {
    let teams = teams();
    for encoding in [
        Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2K, Q3K, Q4K, Q5K, Q6K, Iq4Nl, Iq4Xs,
    ] {
        let cols = match encoding.block().numbers {
            32 => 544,
            _ => 512,
        };
        for (rows, tokens, has_bias) in [
            (1, 1, false),
            (70, 2, true),
            (290, 1, true),
            (70, 37, false),
        ] {
            for then in [Then::Store, Then::Add] {
                let layer = Layer::new(&[(rows, In(encoding))], cols, tokens, then, has_bias);
                check_everywhere(&teams, &layer, tokens, true);
            }
            // One strip of gates and values, and one of each.
            for strips in [vec![2 * rows], vec![rows; 2]] {
                let strips: Vec<_> = strips.into_iter().map(|n| (n, In(encoding))).collect();
                let layer = Layer::new(&strips, cols, tokens, Then::SwiGlu, has_bias);
                check_everywhere(&teams, &layer, tokens, false);
            }
        }
    }
}

/// Files keep some parts at more accuracy than others.
fn mixes() -> [(Vec<(usize, Kind)>, Then); 6] {
    [
        (
            vec![(130, In(Q4K)), (40, In(Q4K)), (40, As(Format::Bf16))],
            Then::Store,
        ),
        (
            vec![(33, As(Format::F16)), (96, In(Q6K)), (1, In(Q8_0))],
            Then::Add,
        ),
        (vec![(150, In(Q4K)), (150, In(Q6K))], Then::SwiGlu),
        (vec![(70, In(Q8_0)), (70, As(Format::Bf16))], Then::SwiGlu),
        (vec![(70, As(Format::F32)), (70, In(Q5K))], Then::SwiGlu),
        (vec![(64, As(Format::Bf16)), (64, In(Iq4Nl))], Then::Store),
    ]
}

#[test]
fn rows_of_several_encodings_each_give_their_own_outputs() {
    let teams = teams();
    for (strips, then) in mixes() {
        for tokens in [1, 2, 5, 40] {
            let layer = Layer::new(&strips, 512, tokens, then, tokens % 2 == 1);
            check_everywhere(&teams, &layer, tokens, false);
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_among_others() {
    const MOST: usize = 130;
    let quantised = [
        (vec![(100, In(Q4K))], Then::Store),
        (vec![(100, In(Q6K))], Then::Add),
        (vec![(100, In(Q8_0))], Then::SwiGlu),
    ];
    for team in teams() {
        for (strips, then) in quantised.iter().cloned().chain(mixes()) {
            let layer = Layer::new(&strips, 256, MOST, then, true);
            let alone = (0..MOST).map(|row| layer.run(&team, row, 1));
            let alone: Vec<u32> = alone.flat_map(|out| bits(&out)).collect();
            for tokens in [2, 3, 4, 5, 33, MOST] {
                for first in [0, MOST - tokens] {
                    let among = bits(&layer.run(&team, first, tokens));
                    let alone = &alone[first * layer.outputs()..][..among.len()];
                    assert!(among == alone, "{team:?} {tokens} rows {then:?}");
                }
            }
        }
    }
}

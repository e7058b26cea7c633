use super::*;
use crate::compact::Compact;
use crate::linear::Epilogue;
use crate::run::RunKind;
use crate::team::{Region, Team};
use crate::testing::{FORMATS, Format, Owned, Random, error, gelu, levels};
use crate::weights::Matrix;

struct Case {
    inputs: usize,
    outputs: usize,
    rows: usize,
    by_input: bool,
    taps: usize,
    then: Then,
    format: Format,
}

struct Phase<'a>(PanelLinear<'a>, Level, usize);

impl Region for Phase<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn open(&self, _: usize) -> usize {
        self.0.steps(self.2)
    }

    fn work(&self, _: usize, steps: &mut Steps<'_>) {
        // SAFETY: the buffers are borrowed for the region.
        unsafe { self.0.work(self.1, steps) };
    }
}

impl Case {
    fn numbers(&self) -> [Owned; 3] {
        let mut random = Random::new((self.inputs + self.outputs) as u64);
        let scale = 1.0 / (self.inputs as f32).sqrt();
        let mut owned = |count, scale| Owned::random(self.format, count, scale, &mut random);
        [
            owned(self.inputs * self.outputs, scale),
            owned(self.outputs, 1.0),
            owned(self.outputs, 1.0),
        ]
    }

    fn matrix<'a>(&self, numbers: &'a Owned) -> Matrix<'a> {
        if self.by_input {
            numbers.matrix(self.inputs, self.outputs)
        } else {
            numbers.matrix(self.outputs, self.inputs)
        }
    }

    /// Rows of inputs are a few numbers apart, and those of outputs too.
    fn strides(&self) -> (usize, usize) {
        (self.inputs / self.taps + 3, self.outputs + 2)
    }

    /// A time sees the second one before it, and so on.
    fn taps(&self) -> Taps {
        match self.taps {
            1 => Taps::NONE,
            count => Taps {
                count,
                apart: 2 * self.strides().0,
            },
        }
    }

    fn x(&self) -> Vec<f32> {
        let rows = self.rows + 2 * (self.taps - 1);
        Random::new(5).numbers(rows * self.strides().0)
    }

    fn before(&self) -> Vec<f32> {
        Random::new(6).numbers(self.rows * self.strides().1)
    }

    fn run(&self, team: &Team, weights: Matrix<'_>, [bias, gain]: [Weights<'_>; 2]) -> Vec<f32> {
        let (mut x, mut out) = (self.x(), self.before());
        let stride = own_floats(self.inputs, self.outputs, self.by_input);
        let mut own = vec![f32::NAN; stride * team.threads()];
        let linear = Linear {
            weights: &weights,
            x: Shared::new(&mut x),
            x_stride: self.strides().0,
            rows: self.rows,
            kind: RunKind::Decode,
            epilogue: Epilogue {
                then: self.then,
                bias: Some(bias),
                gain: Some(gain),
                out: Shared::new(&mut out),
                stride: self.strides().1,
            },
            tiles: Shared::new(&mut []),
            rounded: Shared::new(&mut []),
        };
        let panels = PanelLinear {
            linear,
            by_input: self.by_input,
            taps: self.taps(),
            own: (Shared::new(&mut own), stride),
        };
        team.run(&Phase(panels, team.level(), team.threads()));
        out
    }

    fn expected(&self, numbers: &[Owned; 3]) -> Vec<f64> {
        let [weights, bias, gain] = numbers.each_ref().map(Owned::weights);
        let (x, before) = (self.x(), self.before());
        let (x_stride, stride) = self.strides();
        let mut out: Vec<f64> = before.iter().map(|x| f64::from(*x)).collect();
        for row in 0..self.rows {
            for output in 0..self.outputs {
                let weight = |input| {
                    weights.get(if self.by_input {
                        input * self.outputs + output
                    } else {
                        output * self.inputs + input
                    })
                };
                let product = |input: usize| {
                    let at = row * x_stride + input % self.taps * self.taps().apart;
                    f64::from(weight(input)) * f64::from(x[at + input / self.taps])
                };
                let sum = (0..self.inputs).map(product).sum::<f64>() + f64::from(bias.get(output));
                let out = &mut out[row * stride + output];
                match self.then {
                    Then::Gelu => *out = gelu(sum),
                    Then::Add => *out += f64::from(gain.get(output)) * sum,
                    _ => *out = sum,
                }
            }
        }
        out
    }

    fn check(&self) {
        let numbers = self.numbers();
        let expected = self.expected(&numbers);
        let vectors = [numbers[1].weights(), numbers[2].weights()];
        for level in levels() {
            let mut first: Option<Vec<u32>> = None;
            for threads in 1..=3 {
                let team = Team::with_level(threads, level);
                let found = self.run(&team, self.matrix(&numbers[0]), vectors);
                let error = error(&found, &expected);
                let (inputs, outputs) = (self.inputs, self.outputs);
                let what = format!(
                    "{team:?} {:?} {inputs} x {outputs} {}",
                    self.format, self.rows
                );
                assert!(error < 3e-6, "{what}: off by {error:e}");
                let bits: Vec<u32> = found.iter().map(|x| x.to_bits()).collect();
                let first = first.get_or_insert_with(|| bits.clone());
                assert!(bits == *first, "{what}");
            }
        }
    }
}

#[test]
fn agrees_with_double_precision() {
    for format in FORMATS {
        for by_input in [false, true] {
            for (inputs, outputs, rows) in [
                (1, 1, 1),
                (7, 5, 3),
                (32, 16, 50),
                (33, 70, 13),
                (600, 50, 8),
                (24, 400, 300),
                (9, 1, 170),
            ] {
                for then in [Then::Store, Then::Gelu, Then::Add] {
                    let case = Case {
                        inputs,
                        outputs,
                        rows,
                        by_input,
                        taps: 1,
                        then,
                        format,
                    };
                    case.check();
                }
            }
        }
    }
}

#[test]
fn taps_meet_their_times() {
    for format in FORMATS {
        for (channels, taps, outputs, rows) in [
            (1, 1, 1, 1),
            (1, 7, 16, 20),
            (5, 3, 7, 9),
            (32, 7, 48, 50),
            (40, 2, 33, 13),
            (96, 7, 1, 30),
        ] {
            let case = Case {
                inputs: channels * taps,
                outputs,
                rows,
                by_input: false,
                taps,
                then: Then::Store,
                format,
            };
            case.check();
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_in_any_company() {
    let case = |rows| Case {
        inputs: 40,
        outputs: 37,
        rows,
        by_input: false,
        taps: 1,
        then: Then::Gelu,
        format: Format::Bf16,
    };
    for level in levels() {
        let team = Team::with_level(2, level);
        let run = |rows| {
            let case = case(rows);
            let numbers = case.numbers();
            let vectors = [numbers[1].weights(), numbers[2].weights()];
            case.run(&team, case.matrix(&numbers[0]), vectors)
        };
        let all = run(60);
        for rows in [1, 2, 5, 11, 30] {
            let some = run(rows);
            let same = some.iter().zip(&all);
            let stride = case(rows).strides().1;
            let mut same = same.enumerate().filter(|(at, _)| at % stride < 37);
            assert!(
                same.all(|(_, (a, b))| a.to_bits() == b.to_bits()),
                "{level}"
            );
        }
    }
}

#[test]
fn compact_weights_give_the_bits_of_plain_ones() {
    for by_input in [false, true] {
        let case = Case {
            inputs: 128,
            outputs: 128,
            rows: 30,
            by_input,
            taps: 1 + usize::from(!by_input),
            then: Then::Store,
            format: Format::Bf16,
        };
        let numbers = case.numbers();
        let Weights::Bf16(plain) = numbers[0].weights() else {
            panic!("bf16");
        };
        let mut bytes = vec![0; Compact::bytes_for(128, 128).expect("a size")];
        let team = Team::new(2);
        crate::pack(&team, plain, 128, &mut bytes).expect("few strays");
        let compact = Compact::new(&bytes, 128, 128).into();
        let vectors = [numbers[1].weights(), numbers[2].weights()];
        for level in levels() {
            let team = Team::with_level(2, level);
            let found = case.run(&team, compact, vectors);
            let expected = case.run(&team, case.matrix(&numbers[0]), vectors);
            let same = found.iter().zip(&expected);
            let mut same = same.map(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same.all(|same| same), "{level}");
        }
    }
}

mod plain;

use super::*;
use crate::testing::{FORMATS, Format, Random, error, levels};
use plain::Plain;

/// Odd sizes, and one stage of as many channels as a vector has lanes.
fn shape(part: CodecPart) -> CodecShape {
    CodecShape {
        part,
        channels: 1,
        latent: 5,
        filters: 4,
        ratios: vec![3, 2, 5],
        depths: vec![2, 1, 0, 2],
        kernel: 7,
        expansion: 3,
        norm_eps: 1e-5,
    }
}

const PARTS: [CodecPart; 2] = [CodecPart::Encoder, CodecPart::Decoder];

struct Case {
    shape: CodecShape,
    plain: Plain,
    from: Vec<f32>,
    widths: (usize, usize),
}

impl Case {
    fn new(shape: CodecShape, format: Format, frames: usize) -> Self {
        let mut random = Random::new(frames as u64 + 7);
        let plain = Plain::new(&shape, format, &mut random);
        let audio = shape.hop() * shape.channels;
        let widths = match shape.part {
            CodecPart::Encoder => (audio, shape.latent),
            CodecPart::Decoder => (shape.latent, audio),
        };
        let from = random.numbers(frames * widths.0);
        Case {
            shape,
            plain,
            from,
            widths,
        }
    }

    fn state(&self) -> CodecState {
        CodecState::new(&self.shape)
    }

    fn call(
        &self,
        team: &Team,
        from: &[f32],
        state: &mut CodecState,
        scratch: &mut CodecScratch,
    ) -> Vec<f32> {
        let mut to = vec![f32::NAN; from.len() / self.widths.0 * self.widths.1];
        let weights = self.plain.weights();
        match self.shape.part {
            CodecPart::Encoder => {
                encode(team, &self.shape, &weights, state, from, &mut to, scratch);
            }
            CodecPart::Decoder => {
                decode(team, &self.shape, &weights, state, from, &mut to, scratch);
            }
        }
        to
    }

    fn whole(&self, team: &Team) -> Vec<f32> {
        let frames = self.from.len() / self.widths.0;
        let mut scratch = CodecScratch::new(team, &self.shape, frames);
        self.call(team, &self.from, &mut self.state(), &mut scratch)
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn agrees_with_double_precision() {
    for part in PARTS {
        for format in FORMATS {
            let case = Case::new(shape(part), format, 4);
            let expected = case.plain.run(&case.from);
            for level in levels() {
                let team = Team::with_level(2, level);
                let error = error(&case.whole(&team), &expected);
                assert!(
                    error < 1e-5,
                    "{level} {part:?} {format:?}: off by {error:e}"
                );
            }
        }
    }
}

#[test]
fn sizes_of_every_kind() {
    for part in PARTS {
        for (channels, filters, ratios, kernel) in [
            (1, 1, vec![], 1),
            (2, 3, vec![1], 2),
            (1, 8, vec![8, 2], 7),
            (3, 16, vec![4, 4], 5),
            (1, 33, vec![2], 9),
        ] {
            let depths = (0..=ratios.len()).map(|at| 2 - at % 2).collect();
            let shape = CodecShape {
                channels,
                filters,
                ratios,
                kernel,
                depths,
                ..shape(part)
            };
            let case = Case::new(shape, Format::F32, 3);
            let expected = case.plain.run(&case.from);
            for level in levels() {
                let team = Team::with_level(2, level);
                let error = error(&case.whole(&team), &expected);
                assert!(error < 1e-5, "{level} {:?}: off by {error:e}", case.shape);
            }
        }
    }
}

#[test]
fn neither_threads_nor_calls_change_a_bit() {
    const FRAMES: usize = 7;
    for part in PARTS {
        for format in FORMATS {
            let case = Case::new(shape(part), format, FRAMES);
            for level in levels() {
                let expected = bits(&case.whole(&Team::with_level(1, level)));
                for threads in 1..=3 {
                    let team = Team::with_level(threads, level);
                    for (call, most) in [(1, 1), (2, 3), (3, 2), (FRAMES, 1), (FRAMES, 8)] {
                        let mut scratch = CodecScratch::new(&team, &case.shape, most);
                        let mut state = case.state();
                        let calls = case.from.chunks(call * case.widths.0);
                        let found =
                            calls.flat_map(|from| case.call(&team, from, &mut state, &mut scratch));
                        let found: Vec<u32> = found.map(f32::to_bits).collect();
                        let what = format!("{team:?} {part:?} {format:?}, {call} a call");
                        assert!(found == expected, "{what}, {most} together");
                    }
                }
            }
        }
    }
}

#[test]
fn a_state_that_is_reset_is_new() {
    for part in PARTS {
        let case = Case::new(shape(part), Format::Bf16, 3);
        let team = Team::new(2);
        let mut scratch = CodecScratch::new(&team, &case.shape, 2);
        let mut state = case.state();
        let first = case.call(&team, &case.from, &mut state, &mut scratch);
        let second = case.call(&team, &case.from, &mut state, &mut scratch);
        assert!(first != second, "{part:?}: nothing was kept");
        state.reset();
        let third = case.call(&team, &case.from, &mut state, &mut scratch);
        assert_eq!(bits(&first), bits(&third), "{part:?}");
    }
}

#[test]
fn sizes_are_what_is_allocated() {
    for part in PARTS {
        let shape = shape(part);
        assert_eq!(
            CodecState::new(&shape).bytes(),
            CodecState::bytes_for(&shape)
        );
        for level in levels() {
            for (threads, frames) in [(1, 1), (3, 4)] {
                let team = Team::with_level(threads, level);
                let size = CodecScratchSize::of(level, threads, &shape, frames);
                let scratch = CodecScratch::new(&team, &shape, frames);
                assert_eq!(scratch.bytes(), size.bytes());
                assert_eq!(scratch.frames(), frames);
            }
        }
    }
}

#[test]
#[should_panic(expected = "state of another shape")]
fn a_state_of_another_shape_is_refused() {
    let case = Case::new(shape(CodecPart::Encoder), Format::F32, 1);
    let team = Team::new(1);
    let mut state = CodecState::new(&shape(CodecPart::Decoder));
    let mut scratch = CodecScratch::new(&team, &case.shape, 1);
    case.call(&team, &case.from, &mut state, &mut scratch);
}

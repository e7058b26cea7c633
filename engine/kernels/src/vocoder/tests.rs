mod parts;
mod plain;

use super::*;
use crate::block::BlockShape;
use crate::testing::{FORMATS, Format, Random, error, levels};
use plain::Plain;

/// Odd sizes; the second stages are multiplied in both ways.
fn shape() -> VocoderShape {
    VocoderShape {
        quantisers: 4,
        codes: 11,
        entry: 6,
        quantised: 10,
        pre_kernel: 3,
        latent: 12,
        layers: 2,
        block: BlockShape {
            hidden: 20,
            ffn: 30,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            norm_eps: 1e-5,
            scale: None,
            residual: 1.0,
        },
        window: 3,
        rope_theta: 1e4,
        upsampling: vec![2, 2],
        expansion: 3,
        layer_norm_eps: 1e-6,
        channels: 36,
        rates: vec![5, 3],
        dilations: vec![1, 3],
        kernel: 7,
    }
}

struct Case {
    shape: VocoderShape,
    plain: Plain,
    codes: Vec<u32>,
}

impl Case {
    fn new(shape: VocoderShape, format: Format, frames: usize) -> Self {
        let mut random = Random::new(frames as u64 + 7);
        let plain = Plain::new(&shape, format, &mut random);
        let code = |_| random.below(shape.codes as u64) as u32;
        Case {
            codes: (0..frames * shape.quantisers).map(code).collect(),
            plain,
            shape,
        }
    }

    fn call(
        &self,
        team: &Team,
        codes: &[u32],
        state: &mut VocoderState,
        scratch: &mut VocoderScratch,
    ) -> Vec<f32> {
        let frames = codes.len() / self.shape.quantisers;
        let mut audio = vec![f32::NAN; frames * self.shape.samples()];
        let weights = self.plain.weights();
        decode_codes(
            team,
            &self.shape,
            &weights,
            state,
            codes,
            &mut audio,
            scratch,
        );
        audio
    }

    fn whole(&self, team: &Team) -> Vec<f32> {
        let frames = self.codes.len() / self.shape.quantisers;
        let mut scratch = VocoderScratch::new(team, &self.shape, frames);
        let mut state = VocoderState::new(&self.shape);
        self.call(team, &self.codes, &mut state, &mut scratch)
    }

    /// The stream in calls of so many frames, of which so many go through together.
    fn in_calls(&self, team: &Team, call: usize, together: usize) -> Vec<f32> {
        let mut scratch = VocoderScratch::new(team, &self.shape, together);
        let mut state = VocoderState::new(&self.shape);
        let calls = self.codes.chunks(call * self.shape.quantisers);
        let audio = calls.flat_map(|codes| self.call(team, codes, &mut state, &mut scratch));
        audio.collect()
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn agrees_with_double_precision() {
    for format in FORMATS {
        let case = Case::new(shape(), format, 6);
        let expected = case.plain.run(&case.codes);
        let clamped = expected.iter().filter(|x| x.abs() == 1.0).count();
        assert!(clamped * 4 < expected.len(), "{clamped} are clamped");
        for level in levels() {
            let team = Team::with_level(2, level);
            let error = error(&case.whole(&team), &expected);
            assert!(error < 2e-5, "{level} {format:?}: off by {error:e}");
        }
    }
}

#[test]
fn sizes_of_every_kind() {
    for (upsampling, rates, dilations, channels, layers) in [
        (vec![], vec![2], vec![1], 2, 1),
        (vec![3], vec![], vec![1], 5, 0),
        (vec![1], vec![8, 2, 1], vec![], 40, 1),
        (vec![2, 2], vec![4, 4], vec![1, 3, 9], 64, 3),
        (vec![4], vec![6], vec![2], 66, 1),
    ] {
        let shape = VocoderShape {
            upsampling,
            rates,
            dilations,
            channels,
            layers,
            ..shape()
        };
        let case = Case::new(shape, Format::F32, 4);
        let expected = case.plain.run(&case.codes);
        for level in levels() {
            let team = Team::with_level(2, level);
            let found = case.whole(&team);
            let error = error(&found, &expected);
            assert!(error < 2e-5, "{level} {:?}: off by {error:e}", case.shape);
            let in_calls = case.in_calls(&team, 1, 1);
            assert!(bits(&in_calls) == bits(&found), "{level} {:?}", case.shape);
        }
    }
}

#[test]
fn neither_threads_nor_calls_change_a_bit() {
    const FRAMES: usize = 7;
    for format in FORMATS {
        let case = Case::new(shape(), format, FRAMES);
        for level in levels() {
            let expected = bits(&case.whole(&Team::with_level(1, level)));
            for threads in 1..=3 {
                let team = Team::with_level(threads, level);
                for (call, together) in [(1, 1), (2, 3), (3, 2), (FRAMES, 1), (FRAMES, 8)] {
                    let found = case.in_calls(&team, call, together);
                    let what = format!("{team:?} {format:?}, {call} a call, {together} together");
                    assert!(bits(&found) == expected, "{what}");
                }
            }
        }
    }
}

/// What leaves the window is forgotten, and where a cache begins changes no bit.
#[test]
fn a_long_stream_is_that_of_its_window() {
    const FRAMES: usize = 400;
    let shape = VocoderShape {
        window: 72,
        upsampling: vec![2],
        rates: vec![2],
        dilations: vec![3],
        channels: 8,
        ..shape()
    };
    let case = Case::new(shape, Format::F32, FRAMES);
    let expected = case.plain.run(&case.codes);
    for level in levels() {
        let team = Team::with_level(2, level);
        let one_by_one = case.in_calls(&team, 1, 1);
        let error = error(&one_by_one, &expected);
        assert!(error < 2e-5, "{level}: off by {error:e}");
        for (call, together) in [(FRAMES, FRAMES), (FRAMES, 17), (50, 50), (33, 10)] {
            let found = case.in_calls(&team, call, together);
            assert!(bits(&found) == bits(&one_by_one), "{level}, {call} a call");
        }
    }
}

#[test]
fn a_state_that_is_reset_is_new() {
    let case = Case::new(shape(), Format::Bf16, 5);
    let team = Team::new(2);
    let mut scratch = VocoderScratch::new(&team, &case.shape, 2);
    let mut state = VocoderState::new(&case.shape);
    let first = case.call(&team, &case.codes, &mut state, &mut scratch);
    assert_eq!(state.frames(), 5);
    let second = case.call(&team, &case.codes, &mut state, &mut scratch);
    assert!(first != second, "nothing was kept");
    state.reset();
    assert_eq!(state.frames(), 0);
    let third = case.call(&team, &case.codes, &mut state, &mut scratch);
    assert_eq!(bits(&first), bits(&third));
}

#[test]
fn stages_that_are_shown_change_nothing_and_the_last_is_the_sound() {
    let case = Case::new(shape(), Format::F32, 3);
    let team = Team::new(2);
    let size = VocoderScratchSize::of(team.level(), 2, &case.shape, 3);
    let mut sounds = [size.clone(), size.with_stages()].map(|size| {
        let mut scratch = VocoderScratch::sized(&size);
        let mut state = VocoderState::new(&case.shape);
        let sound = case.call(&team, &case.codes, &mut state, &mut scratch);
        let last = scratch.stages().last();
        (
            sound,
            last.map(|(name, times, rows)| (name.to_owned(), times, rows.to_vec())),
        )
    });
    assert_eq!(bits(&sounds[0].0), bits(&sounds[1].0));
    assert_eq!(sounds[0].1, None);
    let (name, times, mut rows) = sounds[1].1.take().unwrap();
    assert_eq!((name.as_str(), times), ("decoder.4", case.shape.samples()));
    rows.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
    assert_eq!(bits(&rows), bits(&sounds[1].0));
}

#[test]
fn sizes_are_what_is_allocated() {
    let shape = shape();
    let state = VocoderState::new(&shape);
    assert_eq!(state.bytes(), VocoderState::bytes_for(&shape));
    for level in levels() {
        for (threads, frames) in [(1, 1), (3, 4)] {
            let team = Team::with_level(threads, level);
            let size = VocoderScratchSize::of(level, threads, &shape, frames);
            let scratch = VocoderScratch::new(&team, &shape, frames);
            assert_eq!(scratch.bytes(), size.bytes());
            assert_eq!(scratch.stages().count(), 0);
            let size = size.with_stages();
            let scratch = VocoderScratch::sized(&size);
            assert_eq!(scratch.bytes(), size.bytes());
            assert_eq!(scratch.frames(), frames);
        }
    }
}

/// Entries that are not numbers, or have no end.
#[test]
fn what_is_no_number_stays_so_until_the_stream_begins_anew() {
    let case = Case::new(shape(), Format::F32, 3);
    let team = Team::new(2);
    let mut scratch = VocoderScratch::new(&team, &case.shape, 3);
    let mut state = VocoderState::new(&case.shape);
    let clean = case.call(&team, &case.codes, &mut state, &mut scratch);
    for hostile in [f32::NAN, f32::INFINITY, f32::MAX] {
        let entries = vec![hostile; case.shape.codes * case.shape.entry];
        let mut weights = case.plain.weights();
        weights.codebooks[1] = crate::Matrix::new(
            crate::Weights::F32(&entries),
            case.shape.codes,
            case.shape.entry,
        );
        state.reset();
        let mut audio = vec![0.0; clean.len()];
        decode_codes(
            &team,
            &case.shape,
            &weights,
            &mut state,
            &case.codes,
            &mut audio,
            &mut scratch,
        );
        let is_held = |x: &f32| x.is_nan() || x.abs() <= 1.0;
        assert!(audio.iter().all(is_held), "{hostile}: {audio:?}");
        if hostile.is_nan() {
            assert!(audio.iter().all(|x| x.is_nan()), "{audio:?}");
        }
    }
    state.reset();
    let again = case.call(&team, &case.codes, &mut state, &mut scratch);
    assert_eq!(bits(&clean), bits(&again));
}

#[test]
#[should_panic(expected = "code 11 of 11")]
fn a_code_that_there_is_not_is_refused() {
    let mut case = Case::new(shape(), Format::F32, 2);
    case.codes[5] = 11;
    case.whole(&Team::new(1));
}

#[test]
#[should_panic(expected = "state of another shape")]
fn a_state_of_another_shape_is_refused() {
    let case = Case::new(shape(), Format::F32, 1);
    let team = Team::new(1);
    let mut state = VocoderState::new(&VocoderShape {
        window: 9,
        ..shape()
    });
    let mut scratch = VocoderScratch::new(&team, &case.shape, 1);
    case.call(&team, &case.codes, &mut state, &mut scratch);
}

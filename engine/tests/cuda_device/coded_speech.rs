//! Qwen3-TTS on a device: it says what the host says, whatever stays, and a frame is waited for twice.

use std::path::{Path, PathBuf};

use engine::speech::{CodeChoice, Frame, Limits, Tts, TtsOptions, TtsSpeakOptions, TtsVoice};
use engine::{Kernels, ModelOptions};
use loader::DType;
use offload::{PlaceChoice, Residency};

use crate::counts::{COUNT, counts_of};
use crate::stand_in::{alone, is_there};

/// Beside this file, or where `ENGINE_FIXTURES` says if the test was built on another machine.
fn fixture(folder: &str) -> PathBuf {
    let root = std::env::var_os("ENGINE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    root.join("qwen3tts").join(folder)
}

fn open(
    folder: &str,
    dtype: DType,
    device: PlaceChoice,
    kernels: Kernels,
    stays: Residency,
) -> Tts {
    let model = ModelOptions {
        dtype: Some(dtype),
        device,
        kernels,
        residency: stays,
        context: Some(128),
        ..ModelOptions::default()
    };
    let options = TtsOptions {
        model,
        ..TtsOptions::default()
    };
    Tts::open(&fixture(folder), &options).unwrap()
}

/// So many frames, by the likeliest codes or by codes that are drawn.
fn spoken(tts: &mut Tts, draws: bool, count: usize) -> Vec<Frame> {
    let voice = TtsVoice::named(tts.config(), "alto", None).unwrap();
    let said = TtsSpeakOptions::of(tts.config());
    let how = |how: CodeChoice| match draws {
        true => how,
        false => CodeChoice {
            temperature: 0.0,
            ..how
        },
    };
    let options = TtsSpeakOptions {
        talker: how(said.talker),
        predictor: how(CodeChoice {
            top_p: 0.9,
            ..said.predictor
        }),
        seed: 3,
        limits: Limits {
            max_new_tokens: count,
            only_frames: true,
            ..said.limits
        },
        ..said
    };
    let mut session = tts.session().unwrap();
    let prompt = session.prompt("Hello there, how are you?", &voice).unwrap();
    let speaking = session.speak(prompt, options).unwrap();
    speaking.map(|said| said.unwrap().frame.unwrap()).collect()
}

fn all(frames: &[Frame], stage: &str) -> Vec<f32> {
    let stages = frames.iter().flat_map(|frame| frame.stage(stage));
    stages.copied().collect()
}

fn sound(frames: &[Frame]) -> Vec<f32> {
    frames.iter().flat_map(|it| it.audio.clone()).collect()
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32]) {
    const RELATIVE_MAX: f32 = 1e-4;
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(found.iter().all(|number| number.is_finite()), "{what}");
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let both = found.iter().zip(expected);
    let off = both.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(off <= RELATIVE_MAX * largest, "{what}: {off} of {largest}");
}

#[test]
fn a_device_says_what_the_host_says() {
    const FRAMES: usize = 6;
    for (folder, draws) in [("tiny", false), ("tiny", true), ("tiny-wide", false)] {
        let on = |device, kernels, stays| {
            let mut tts = open(folder, DType::F32, device, kernels, stays);
            spoken(&mut tts, draws, FRAMES)
        };
        let expected = on(PlaceChoice::Host, Kernels::Fast, Residency::All);
        for kernels in [Kernels::Fast, Kernels::Clear] {
            let what = format!("{folder}, drawn {draws}, {kernels:?}");
            let device = |stays| on(PlaceChoice::Cuda(0), kernels, stays);
            let found = device(Residency::All);
            assert_eq!(found.len(), FRAMES, "{what}");
            assert_eq!(all(&found, "codes"), all(&expected, "codes"), "{what}");
            for stage in ["hidden", "logits"] {
                let what = format!("{what}, {stage}");
                close(&what, &all(&found, stage), &all(&expected, stage));
            }
            close(&what, &sound(&found), &sound(&expected));
            // Whatever stays.
            assert!(device(Residency::Layers(0)) == found, "{what}: streamed");
        }
    }
}

#[test]
fn bf16_speaks() {
    for kernels in [Kernels::Fast, Kernels::Clear] {
        let stays = Residency::Layers(1);
        let mut tts = open(
            "tiny-wide",
            DType::Bf16,
            PlaceChoice::Cuda(0),
            kernels,
            stays,
        );
        let frames = spoken(&mut tts, true, 4);
        let sound = sound(&frames);
        assert!(sound.iter().all(|x| x.is_finite()));
        assert!(sound.iter().any(|x| x.abs() > 1e-4), "{kernels:?}");
    }
}

/// For the process that speaks: how many frames, and whether codes are drawn.
const ASKED: &str = "SPEAKS_CODES";

#[test]
fn a_frame_is_waited_for_twice() {
    const MORE: u64 = 6;
    if !is_there() {
        return;
    }
    for draws in [false, true] {
        let counts = |frames: u64| {
            let asked = format!("{frames} {draws}");
            counts_of(|file| {
                let environment = [(COUNT, file), (ASKED, &*asked)];
                alone("coded_speech::speaks", &environment)
            })
        };
        let (short, long) = (counts(2), counts(2 + MORE));
        let more = |kind, name| long.of(kind, name).0 - short.of(kind, name).0;
        assert_eq!(more("copy", "to the host"), 2 * MORE, "drawn: {draws}");
        assert!(more("wait", "for a stream") <= 2 * MORE, "drawn: {draws}");
    }
}

#[test]
#[ignore = "run by the test above, alone"]
fn speaks() {
    let asked = std::env::var(ASKED).unwrap();
    let (frames, draws) = asked.split_once(' ').unwrap();
    let stays = Residency::Layers(1);
    let mut tts = open(
        "tiny",
        DType::F32,
        PlaceChoice::Cuda(0),
        Kernels::Fast,
        stays,
    );
    let frames: usize = frames.parse().unwrap();
    let said = spoken(&mut tts, draws.parse().unwrap(), frames);
    assert_eq!(said.len(), frames);
}

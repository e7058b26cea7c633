//! Speech on a device: what the host says, whatever stays there, and one wait a frame.

use std::path::{Path, PathBuf};

use engine::profile::{PassTiming, Stage};
use engine::speech::{
    Limits, Noise, PartSpeaking, Said, Script, SpeakOptions, Speech, SpeechBlueprint, SpeechOptions,
};
use engine::{Kernels, ModelOptions};
use loader::DType;
use loader::synth::{VibeVoiceSpec, write_vibevoice};
use offload::{PlaceChoice, Residency};

use crate::counts::{COUNT, Counts, counts_of};
use crate::numbers::{Numbers, close};
use crate::stand_in::{alone, is_there};

/// For the process that speaks: a folder, tokens, how much the prompt counts.
const ASKED: &str = "SPEAKS";

fn fixtures() -> PathBuf {
    let root = std::env::var_os("ENGINE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    root.join("vibevoice")
}

fn options(device: PlaceChoice, kernels: Kernels, residency: Residency) -> SpeechOptions {
    SpeechOptions {
        model: ModelOptions {
            residency,
            kernels,
            device,
            dtype: Some(DType::F32),
            context: Some(512),
            ..ModelOptions::default()
        },
        tokenizer: Some(fixtures().join("tiny-hf")),
        ..SpeechOptions::default()
    }
}

fn open(options: &SpeechOptions) -> Speech {
    Speech::open(&fixtures().join("tiny"), options).unwrap()
}

fn on_device(kernels: Kernels, residency: Residency) -> Speech {
    open(&options(PlaceChoice::Cuda(0), kernels, residency))
}

fn on_host(kernels: Kernels) -> Speech {
    open(&options(PlaceChoice::Host, kernels, Residency::All))
}

fn noise() -> Noise {
    let given = Numbers::read(&fixtures().join("noise.safetensors"));
    Noise {
        seed: 0,
        voice_scales: Some(given.get("noise.vae_scale")),
        voices: Some(given.get("noise.vae")),
        frames: Some(given.get("noise.diffusion")),
    }
}

fn script() -> Script {
    let text = std::fs::read_to_string(fixtures().join("script.txt")).unwrap();
    Script::parse(&text, &[]).unwrap()
}

fn limits(max_new_tokens: usize) -> Limits {
    Limits {
        max_new_tokens,
        ..Limits::default()
    }
}

/// All that is said, and the passes that it took.
fn spoken(speech: &mut Speech, guidance: f32, limits: Limits) -> (Vec<Said>, Vec<PassTiming>) {
    let mut session = speech.session().unwrap();
    let stages = Numbers::read(&fixtures().join("stages.safetensors"));
    let voices = [1, 2].map(|voice| stages.get(&format!("loudness.voice-{voice}.out")));
    let heard: Vec<_> = voices
        .iter()
        .map(|voice| session.hear(voice).unwrap())
        .collect();
    let prompt = session.prompt(&script(), &heard, &noise()).unwrap();
    let options = SpeakOptions {
        guidance,
        noise: noise(),
        limits,
    };
    let mut speaking = session.speak(prompt, options).unwrap();
    let (mut all, mut passes) = (Vec::new(), Vec::new());
    loop {
        let said = speaking.next();
        passes.extend(speaking.measured().iter().map(|pass| pass.timing));
        match said {
            Some(said) => all.push(said.unwrap()),
            None => break,
        }
    }
    assert_eq!(session.report().totals.decode_passes, all.len() - 1);
    (all, passes)
}

fn tokens(said: &[Said]) -> Vec<u32> {
    said.iter().map(|said| said.token).collect()
}

/// The sound, or a part that frames were made of.
fn part(said: &[Said], name: &str) -> Vec<f32> {
    let frames = said.iter().filter_map(|said| said.frame.as_ref());
    frames
        .flat_map(|frame| match name {
            "audio" => frame.audio.clone(),
            name => frame.stage(name).to_vec(),
        })
        .collect()
}

#[test]
fn a_device_says_what_the_host_says_whatever_stays() {
    for guidance in [1.3, 1.0] {
        let (expected, _) = spoken(&mut on_host(Kernels::Clear), guidance, limits(40));
        assert!(expected.iter().any(|said| said.frame.is_some()));
        for kernels in [Kernels::Fast, Kernels::Clear] {
            let mut first: Option<Vec<Said>> = None;
            for residency in [Residency::Layers(0), Residency::Layers(1), Residency::All] {
                let (found, passes) =
                    spoken(&mut on_device(kernels, residency), guidance, limits(40));
                let what = format!("{kernels:?} {residency:?} guided by {guidance}");
                assert_eq!(tokens(&found), tokens(&expected), "{what}");
                for name in ["frame.cond_pos", "frame.latent", "frame.semantic", "audio"] {
                    let what = format!("{what}: {name}");
                    close(&what, &part(&found, name), &part(&expected, name));
                }
                // What the device does is timed by the device, a pass later, and the last at the end.
                assert_eq!(passes.len(), found.len(), "{what}");
                for stage in [Stage::DiffusionHead, Stage::Codec, Stage::SemanticEncoder] {
                    let timed = |pass: &PassTiming| pass.stages[stage].device.is_some();
                    assert!(passes.iter().all(timed), "{what} {stage:?}");
                }
                match &first {
                    None => first = Some(found),
                    Some(first) => assert!(*first == found, "{what}: other bits"),
                }
            }
        }
    }
}

#[test]
fn in_fewer_bits_it_is_nearly_the_same() {
    let only_frames = Limits {
        only_frames: true,
        ..limits(4)
    };
    for dtype in [DType::Bf16, DType::F16] {
        let mut exact = options(PlaceChoice::Host, Kernels::Clear, Residency::All);
        exact.model.dtype = None;
        let (exact, _) = spoken(&mut open(&exact), 1.3, only_frames);
        let mut rounded = options(PlaceChoice::Cuda(0), Kernels::Fast, Residency::Layers(1));
        rounded.model.dtype = Some(dtype);
        let (rounded, _) = spoken(&mut open(&rounded), 1.3, only_frames);
        for name in ["frame.cond_pos", "frame.latent", "frame.semantic", "audio"] {
            let (found, expected) = (part(&rounded, name), part(&exact, name));
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
            let off = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
            let off = off / norm(&mut expected.iter().copied());
            println!("{dtype:?} {name}: {off}");
            assert!(off > 0.0 && off < 0.05, "{dtype:?} {name}: {off}");
        }
    }
}

#[test]
fn what_a_device_said_the_host_goes_on_from_and_back() {
    let (whole, _) = spoken(&mut on_host(Kernels::Fast), 1.3, limits(40));
    let device = || on_device(Kernels::Fast, Residency::Layers(1));
    let host = || on_host(Kernels::Fast);
    for after in [0, 1, 5, whole.len() - 1] {
        for (mut before, mut then) in [(device(), host()), (host(), device()), (device(), device())]
        {
            let options = || SpeakOptions {
                noise: noise(),
                limits: limits(40),
                ..SpeakOptions::default()
            };
            let stages = Numbers::read(&fixtures().join("stages.safetensors"));
            let voices = [1, 2].map(|voice| stages.get(&format!("loudness.voice-{voice}.out")));
            let mut session = before.session().unwrap();
            let heard: Vec<_> = voices.iter().map(|it| session.hear(it).unwrap()).collect();
            let prompt = session.prompt(&script(), &heard, &noise()).unwrap();
            let mut speaking = session.speak(prompt.clone(), options()).unwrap();
            assert_eq!(speaking.by_ref().take(after).count(), after);
            let said = speaking.said().unwrap();
            let mut session = then.session().unwrap();
            let rest = session.speak_on(prompt, said, options()).unwrap();
            let rest: Vec<Said> = rest.map(Result::unwrap).collect();
            assert_eq!(tokens(&rest), tokens(&whole[after..]), "after {after}");
            let expected = part(&whole[after..], "audio");
            if !expected.is_empty() {
                close(&format!("after {after}"), &part(&rest, "audio"), &expected);
            }
        }
    }
}

#[test]
fn the_host_waits_once_a_token_and_takes_one_copy() {
    if !is_there() {
        return;
    }
    const SHORT: u64 = 2;
    // Frames, and at the end tokens that are none: what was ordered for those was in vain.
    const LONG: u64 = 13;
    for guidance in ["1.3", "1"] {
        let run = |tokens: u64| -> Counts {
            let asked = format!("{tokens} {guidance}");
            counts_of(|file| alone("speech::speaks", &[(COUNT, file), (ASKED, &asked)]))
        };
        let (short, long) = (run(SHORT), run(LONG));
        let more = |kind, name| long.of(kind, name).0 - short.of(kind, name).0;
        let tokens = LONG - SHORT;
        assert_eq!(more("copy", "to the host"), tokens, "guided by {guidance}");
        assert_eq!(more("wait", "for a stream"), tokens, "guided by {guidance}");
        let launches = long.all("launch").0 - short.all("launch").0;
        println!("{} launches a frame", launches / tokens);
    }
}

#[test]
#[ignore = "run by the test above, alone"]
fn speaks() {
    let asked = std::env::var(ASKED).unwrap();
    let (most, guidance) = asked.split_once(' ').unwrap();
    let most: usize = most.parse().unwrap();
    let guidance = guidance.parse().unwrap();
    let mut speech = on_device(Kernels::Fast, Residency::Layers(1));
    let only_frames = guidance == 1.0;
    let limits = Limits {
        only_frames,
        ..limits(most)
    };
    let (said, _) = spoken(&mut speech, guidance, limits);
    assert_eq!(said.len(), most);
    let frames = said.iter().filter(|said| said.frame.is_some()).count();
    assert!(
        only_frames || most < 13 || frames < most,
        "nothing was in vain"
    );
}

/// Of a model of a few megabytes, all of which stays on the device, whatever it says that it has free.
fn of_large() -> SpeechOptions {
    let mut options = options(PlaceChoice::Cuda(0), Kernels::Fast, Residency::All);
    options.model.memory_bytes = Some(1 << 30);
    options.tokenizer = None;
    options
}

#[test]
fn what_stands_beside_the_language_model_is_in_the_plan() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spec = VibeVoiceSpec::shape("vibevoice-tiny").unwrap();
    write_vibevoice(folder.path(), &spec, &mut |_, _| {}).unwrap();
    let blueprint = SpeechBlueprint::new(folder.path(), &of_large()).unwrap();
    let total = blueprint.language.plan.total_bytes();
    let beside: u64 = (blueprint.beside().unwrap().iter())
        .map(|(_, bytes)| bytes)
        .sum();
    let path = folder.path().display().to_string();
    let run = |bytes: u64| {
        let bytes = bytes.to_string();
        let environment = [
            ("CUDA_STAND_IN_MEMORY_BYTES", &bytes[..]),
            (ASKED, &path[..]),
        ];
        alone("speech::speaks_in_little_memory", &environment)
    };
    println!("{total} planned, {beside} of them beside the language model");
    let output = run(total);
    assert!(output.status.success(), "{output:?}");
    // Without it there is no room.
    let output = run(total - beside);
    assert!(!output.status.success());
}

#[test]
#[ignore = "run by the test above, alone"]
fn speaks_in_little_memory() {
    let folder = PathBuf::from(std::env::var(ASKED).unwrap());
    let mut speech = Speech::open(&folder, &of_large()).unwrap();
    let samples = 16 * speech.config().acoustic.hop();
    let mut session = speech.session().unwrap();
    let sound: Vec<f32> = (0..samples)
        .map(|at| (at as f32 * 0.05).sin() * 0.1)
        .collect();
    let heard = [session.hear(&sound).unwrap()];
    let script = Script::parse("Hello there.", &[]).unwrap();
    let prompt = session.prompt(&script, &heard, &Noise::default());
    let options = SpeakOptions {
        limits: Limits {
            only_frames: true,
            ..limits(3)
        },
        ..SpeakOptions::default()
    };
    let speaking = session.speak(prompt.unwrap(), options).unwrap();
    assert_eq!(speaking.map(Result::unwrap).count(), 3);
}

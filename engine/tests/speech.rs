//! VibeVoice against its reference, which `fixtures/vibevoice/make.py` ran: every stage, whatever
//! stays of the language model.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/numbers.rs"]
mod numbers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::diagnosis::Diagnosis;
use engine::profile::Stage;
use engine::speech::{
    AnyBlueprint, AnySystem, Ending, Frame, Limits, Noise, PartSpeaking, Runaway, Saying, Script,
    SpeakOptions, Speech, SpeechOptions, SpeechTrials, StageType, Voice,
};
use engine::{Checkup, EngineError, Kernels, Measured, ModelOptions};
use loader::DType;
use numbers::{Numbers, close};
use offload::Residency;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vibevoice")
}

fn recorded(file: &str) -> Numbers {
    Numbers::read(&fixtures().join(file))
}

fn ids_of(numbers: &Numbers, name: &str) -> Vec<u32> {
    let ids = numbers.bytes(name).chunks_exact(8);
    ids.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) as u32)
        .collect()
}

fn limits(max_new_tokens: usize) -> Limits {
    Limits {
        max_new_tokens,
        ..Limits::default()
    }
}

fn options(residency: Residency) -> SpeechOptions {
    SpeechOptions {
        model: ModelOptions {
            residency,
            // Long passes over bf16 are rounded at one level of the kernels.
            dtype: Some(DType::F32),
            context: Some(512),
            ..ModelOptions::default()
        },
        tokenizer: Some(fixtures().join("tiny-hf")),
        steps: 10,
        ..SpeechOptions::default()
    }
}

const BOTH: [Kernels; 2] = [Kernels::Fast, Kernels::Clear];

fn open(folder: &str, residency: Residency) -> Speech {
    open_by(Kernels::Fast, folder, residency)
}

fn open_by(kernels: Kernels, folder: &str, residency: Residency) -> Speech {
    let mut options = options(residency);
    options.model.kernels = kernels;
    Speech::open(&fixtures().join(folder), &options).unwrap()
}

fn noise() -> Noise {
    let given = recorded("noise.safetensors");
    Noise {
        seed: 0,
        voice_scales: Some(given.get("noise.vae_scale")),
        voices: Some(given.get("noise.vae")),
        frames: Some(given.get("noise.diffusion")),
    }
}

fn script() -> Script {
    let text = fs::read_to_string(fixtures().join("script.txt")).unwrap();
    Script::parse(&text, &[]).unwrap()
}

fn voices() -> [Vec<f32>; 2] {
    let stages = recorded("stages.safetensors");
    [1, 2].map(|voice| stages.get(&format!("loudness.voice-{voice}.out")))
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
struct Spoken {
    input_ids: Vec<u32>,
    tokens: Vec<u32>,
    frames: Vec<Frame>,
}

fn speak(speech: &mut Speech, noise: Noise) -> (Spoken, Vec<Measured>) {
    let mut session = speech.session().unwrap();
    let heard: Vec<_> = voices()
        .iter()
        .map(|voice| session.hear(voice).unwrap())
        .collect();
    let prompt = session.prompt(&script(), &heard, &noise).unwrap();
    let mut spoken = Spoken {
        input_ids: prompt.tokens.clone(),
        tokens: Vec::new(),
        frames: Vec::new(),
    };
    let options = SpeakOptions {
        noise,
        limits: limits(40),
        ..SpeakOptions::default()
    };
    let mut speaking = session.speak(prompt, options).unwrap();
    let mut measured = Vec::new();
    while let Some(said) = speaking.next() {
        let said = said.unwrap();
        spoken.tokens.push(said.token);
        spoken.frames.extend(said.frame);
        measured.extend(speaking.measured().to_vec());
    }
    assert_eq!(speaking.ending(), Some(Ending::EndOfText));
    (spoken, measured)
}

/// A part of a frame.
type Of = fn(&Frame) -> &[f32];

fn all(spoken: &Spoken, of: Of) -> Vec<f32> {
    spoken
        .frames
        .iter()
        .flat_map(|frame| of(frame).to_vec())
        .collect()
}

#[test]
fn what_is_said_is_what_the_reference_says_whatever_stays() {
    for kernels in BOTH {
        says_what_the_reference_says(kernels);
    }
}

fn says_what_the_reference_says(kernels: Kernels) {
    let expected = recorded("expected.safetensors");
    let mut first: Option<Spoken> = None;
    for folder in ["tiny", "tiny-hf"] {
        for residency in [Residency::Layers(0), Residency::Layers(1), Residency::All] {
            let (spoken, _) = speak(&mut open_by(kernels, folder, residency), noise());
            let what = format!("{kernels:?} {folder} {residency:?}");
            assert_eq!(spoken.input_ids, ids_of(&expected, "input_ids"), "{what}");
            assert_eq!(spoken.tokens, ids_of(&expected, "tokens"), "{what}");
            let parts: [(&str, Of); 5] = [
                ("frame.cond_pos", |frame| frame.stage("frame.cond_pos")),
                ("frame.cond_neg", |frame| frame.stage("frame.cond_neg")),
                ("frame.latent", |frame| frame.stage("frame.latent")),
                ("frame.semantic", |frame| frame.stage("frame.semantic")),
                ("audio", |frame| &frame.audio),
            ];
            for (name, of) in parts {
                close(
                    &format!("{what} {name}"),
                    &all(&spoken, of),
                    &expected.get(name),
                );
            }
            match &first {
                None => first = Some(spoken),
                Some(first) => assert!(*first == spoken, "{what}: other bits"),
            }
        }
    }
}

#[test]
fn both_branches_share_one_visit_of_each_layer() {
    for kernels in BOTH {
        let mut speech = open_by(kernels, "tiny", Residency::Layers(0));
        let (spoken, measured) = speak(&mut speech, noise());
        assert_eq!(measured.len(), spoken.tokens.len());
        for pass in &measured {
            assert_eq!(pass.loads.len(), 3, "one load a layer");
            assert_eq!(pass.timing.units, 1);
        }
        // A frame has its stages, and no other token has.
        let of = |stage| {
            measured
                .iter()
                .map(move |pass| pass.timing.stages[stage].count)
        };
        for stage in [Stage::DiffusionHead, Stage::Codec, Stage::SemanticEncoder] {
            let counted: usize = of(stage).map(|count| count as usize).sum();
            assert_eq!(counted, spoken.frames.len(), "{kernels:?} {stage:?}");
        }
    }
}

#[test]
fn without_guidance_one_branch_gives_what_both_would() {
    for kernels in BOTH {
        one_branch_gives_what_both_would(kernels);
    }
}

fn one_branch_gives_what_both_would(kernels: Kernels) {
    let expected = recorded("expected.safetensors");
    let mut speech = open_by(kernels, "tiny", Residency::Layers(1));
    let mut of = |guidance| {
        let mut session = speech.session().unwrap();
        let heard: Vec<_> = voices()
            .iter()
            .map(|voice| session.hear(voice).unwrap())
            .collect();
        let prompt = session.prompt(&script(), &heard, &noise()).unwrap();
        let options = SpeakOptions {
            guidance,
            noise: noise(),
            limits: limits(40),
        };
        let speaking = session.speak(prompt, options).unwrap();
        let said: Vec<_> = speaking.map(Result::unwrap).collect();
        Spoken {
            input_ids: Vec::new(),
            tokens: said.iter().map(|said| said.token).collect(),
            frames: said.into_iter().filter_map(|said| said.frame).collect(),
        }
    };
    let (one, both) = (of(1.0), of(1.0 + f32::EPSILON));
    assert_eq!(one.tokens, both.tokens);
    close(
        "audio",
        &all(&one, |frame| &frame.audio),
        &all(&both, |frame| &frame.audio),
    );
    let without = |spoken: &Spoken| all(spoken, |frame| frame.stage("frame.cond_neg")).len();
    assert_eq!((without(&one), without(&both) > 0), (0, true));
    // Guided, it is something else.
    assert_ne!(all(&one, |frame| &frame.audio), expected.get("audio"));
}

#[test]
fn a_seed_is_reproducible_and_another_one_is_another() {
    let mut speech = open("tiny", Residency::Layers(1));
    let of_seed = |speech: &mut Speech, seed| {
        let noise = Noise {
            seed,
            ..Noise::default()
        };
        let mut session = speech.session().unwrap();
        let heard: Vec<_> = voices()
            .iter()
            .map(|voice| session.hear(voice).unwrap())
            .collect();
        let prompt = session.prompt(&script(), &heard, &noise).unwrap();
        let options = SpeakOptions {
            noise,
            limits: limits(30),
            ..SpeakOptions::default()
        };
        let speaking = session.speak(prompt, options).unwrap();
        speaking.map(Result::unwrap).collect::<Vec<_>>()
    };
    let first = of_seed(&mut speech, 1);
    assert!(first.iter().any(|said| said.frame.is_some()));
    assert!(of_seed(&mut speech, 1) == first, "the same session's model");
    assert!(of_seed(&mut open("tiny", Residency::All), 1) == first);
    assert!(of_seed(&mut speech, 2) != first);
}

#[test]
fn two_hundred_frames_of_a_seed_are_the_same_bits_whatever_stays() {
    for kernels in BOTH {
        two_hundred_frames_are_the_same_bits(kernels);
    }
}

fn two_hundred_frames_are_the_same_bits(kernels: Kernels) {
    let of_seed = |residency| {
        let noise = Noise {
            seed: 7,
            ..Noise::default()
        };
        let mut speech = open_by(kernels, "tiny", residency);
        let mut session = speech.session().unwrap();
        let heard = [session.hear(&voices()[0]).unwrap()];
        let prompt = session.prompt(&script(), &heard, &noise).unwrap();
        let options = SpeakOptions {
            noise,
            limits: Limits {
                only_frames: true,
                ..limits(200)
            },
            ..SpeakOptions::default()
        };
        let speaking = session.speak(prompt, options).unwrap();
        speaking.map(Result::unwrap).collect::<Vec<_>>()
    };
    let first = of_seed(Residency::Layers(0));
    assert_eq!(
        first.iter().filter(|said| said.frame.is_some()).count(),
        200
    );
    assert!(of_seed(Residency::Layers(0)) == first, "the same again");
    assert!(of_seed(Residency::All) == first, "all resident");
}

#[test]
fn an_interrupt_ends_it_with_what_was_said() {
    let mut speech = open("tiny", Residency::Layers(0));
    let mut session = speech.session().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    session.cancel_with(Arc::clone(&flag));
    let prompt = session.prompt(&script(), &[], &noise()).unwrap();
    let mut speaking = session.speak(prompt, SpeakOptions::default()).unwrap();
    assert!(speaking.next().is_some());
    flag.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(speaking.next().is_none());
    assert_eq!(speaking.ending(), Some(Ending::Interrupted));
}

#[test]
fn what_is_missing_is_told() {
    let refused = Speech::open(
        &fixtures().join("tiny"),
        &SpeechOptions {
            tokenizer: None,
            ..options(Residency::All)
        },
    );
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, EngineError::NoSpeechTokenizer { .. }),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("--tokenizer"));
    let elsewhere = SpeechOptions {
        tokenizer: Some(fixtures().join("nowhere")),
        ..options(Residency::All)
    };
    let refused = Speech::open(&fixtures().join("tiny"), &elsewhere).unwrap_err();
    assert!(
        matches!(refused, EngineError::TokenizerFile { .. }),
        "{refused}"
    );
}

#[test]
fn speech_goes_on_where_it_was_ended_by_either_kernels() {
    for [before, after] in [
        [Kernels::Fast, Kernels::Fast],
        [Kernels::Fast, Kernels::Clear],
        [Kernels::Clear, Kernels::Fast],
    ] {
        goes_on_where_it_was_ended(before, after);
    }
}

fn goes_on_where_it_was_ended(before: Kernels, after: Kernels) {
    let mut speech = open_by(before, "tiny", Residency::Layers(1));
    let (whole, _) = speak(&mut speech, noise());
    let options = || SpeakOptions {
        noise: noise(),
        limits: limits(40),
        ..SpeakOptions::default()
    };
    for ended_after in 0..whole.tokens.len() {
        let mut session = speech.session().unwrap();
        let heard: Vec<_> = voices()
            .iter()
            .map(|voice| session.hear(voice).unwrap())
            .collect();
        let prompt = session.prompt(&script(), &heard, &noise()).unwrap();
        let mut speaking = session.speak(prompt.clone(), options()).unwrap();
        let said: Vec<_> = speaking.by_ref().take(ended_after).collect();
        assert_eq!(said.len(), ended_after);
        let before = speaking.said().unwrap();
        assert_eq!(before.tokens, whole.tokens[..ended_after]);
        drop(session);
        let mut session = open_by(after, "tiny-hf", Residency::All);
        let mut session = session.session().unwrap();
        let frames = before.frames();
        let rest = session.speak_on(prompt, before, options()).unwrap();
        let rest: Vec<_> = rest.map(Result::unwrap).collect();
        let tokens: Vec<u32> = rest.iter().map(|said| said.token).collect();
        assert_eq!(tokens, whole.tokens[ended_after..], "after {ended_after}");
        let audio: Vec<f32> = (rest.iter().filter_map(|said| said.frame.as_ref()))
            .flat_map(|frame| frame.audio.clone())
            .collect();
        let expected = whole.frames[frames..].iter();
        let expected: Vec<f32> = expected.flat_map(|frame| frame.audio.clone()).collect();
        if !expected.is_empty() {
            close(&format!("after {ended_after}"), &audio, &expected);
        }
    }
}

#[test]
fn what_was_said_by_another_model_is_refused() {
    for kernels in BOTH {
        let mut speech = open_by(kernels, "tiny", Residency::All);
        let mut session = speech.session().unwrap();
        let prompt = session.prompt(&script(), &[], &noise()).unwrap();
        let mut speaking = session
            .speak(prompt.clone(), SpeakOptions::default())
            .unwrap();
        assert!(speaking.next().is_some());
        let said = speaking.said().unwrap();
        for list in 0..said.lists.len() {
            let mut said = said.clone();
            said.lists[list].1.push(0.0);
            let refused = session.speak_on(prompt.clone(), said, SpeakOptions::default());
            assert!(matches!(refused, Err(EngineError::SaidElsewhere)));
        }
    }
}

#[test]
fn a_voice_that_was_kept_is_the_voice_that_was_heard() {
    let mut speech = open("tiny", Residency::All);
    let latent = speech.config().acoustic.latent;
    let mut session = speech.session().unwrap();
    let heard = session.hear(&voices()[0]).unwrap();
    let kept = Voice::of_latents(heard.latents().to_vec(), latent).unwrap();
    assert_eq!(kept, heard);
    assert_eq!(Voice::of_latents(Vec::new(), latent), None);
    assert_eq!(Voice::of_latents(vec![0.0; latent + 1], latent), None);
    assert_eq!(Voice::of_latents(vec![f32::NAN; latent], latent), None);
}

#[test]
fn parts_have_draws_of_their_own_and_all_voices() {
    let mut speech = open("tiny", Residency::All);
    let mut session = speech.session().unwrap();
    let heard: Vec<_> = voices()
        .iter()
        .map(|voice| session.hear(voice).unwrap())
        .collect();
    let parts = session.parts(&script(), &heard, Some(0.1)).unwrap();
    assert!(parts.len() > 1);
    let of = |session: &mut engine::speech::SpeechSession<'_>, first_frame| {
        let prompt = session
            .prompt(&parts[0], &heard, &Noise::default())
            .unwrap();
        let options = SpeakOptions {
            limits: Limits {
                first_frame,
                ..limits(6)
            },
            ..SpeakOptions::default()
        };
        let speaking = session.speak(prompt, options).unwrap();
        speaking.map(Result::unwrap).collect::<Vec<_>>()
    };
    let first = of(&mut session, 0);
    assert!(of(&mut session, 0) == first);
    let later = of(&mut session, 5);
    assert!(later != first);
    assert_eq!(session.report().tokens, 2 * first.len() + later.len());
}

#[test]
fn a_runaway_is_stopped_and_said() {
    let mut speech = open("tiny", Residency::All);
    let mut session = speech.session().unwrap();
    let prompt = session.prompt(&script(), &[], &Noise::default()).unwrap();
    // A frame of this model is a millisecond: it takes the silence of a codec that is broken.
    let options = SpeakOptions {
        limits: Limits {
            expected_s: Some(-20.0 / 3.0),
            ..Limits::default()
        },
        ..SpeakOptions::default()
    };
    let mut speaking = session.speak(prompt, options).unwrap();
    while speaking.next().is_some() {}
    assert_eq!(speaking.ending(), Some(Ending::Runaway(Runaway::NoEnd)));
}

fn saying(voices: &[Vec<f32>]) -> Saying {
    Saying {
        script: script(),
        voices: voices.to_vec(),
        limits: Limits::default(),
        noise: noise(),
        guidance: None,
    }
}

/// What three rounds say of how this system is planned.
fn diagnosed(model: ModelOptions, steps: usize) -> Vec<Diagnosis> {
    let path = fixtures().join("tiny");
    let model = ModelOptions {
        dtype: Some(DType::F32),
        context: Some(512),
        ..model
    };
    let tokenizer = Some(fixtures().join("tiny-hf"));
    let blueprint = AnyBlueprint::new(
        &path,
        model.clone(),
        tokenizer.clone(),
        Some(steps),
        StageType::AsLoaded,
    )
    .unwrap();
    let trials = SpeechTrials {
        path,
        model,
        tokenizer,
        steps: Some(steps),
        stages: StageType::AsLoaded,
        saying: saying(&[]),
    };
    let mut checkup = Checkup::new(Box::new(trials), blueprint.language(), vec![1], 12);
    for _ in 0..3 {
        checkup.round(&Arc::default(), &mut |_| {}).unwrap();
    }
    checkup.findings().unwrap().diagnose()
}

/// Other programs had the cores, and the engine says so: nothing can be told from these runs.
fn disturbed(found: &[Diagnosis]) -> bool {
    let by_others = |found: &Diagnosis| match found {
        Diagnosis::Disturbed { cores, .. } => cores.by_others(),
        _ => false,
    };
    let disturbed = found.iter().any(by_others);
    if disturbed {
        println!("skipped: other programs had the cores");
    }
    disturbed
}

#[test]
fn a_slow_head_is_told_from_slow_transfers() {
    let resident = ModelOptions {
        residency: Residency::All,
        ..ModelOptions::default()
    };
    let found = diagnosed(resident, 400);
    if disturbed(&found) {
        return;
    }
    assert!(
        matches!(
            found[0],
            Diagnosis::StageOutside {
                stage: Stage::DiffusionHead,
                ..
            }
        ),
        "{found:?}"
    );
    // 19 kB a layer: twenty milliseconds each over this link.
    let slow = ModelOptions {
        residency: Residency::Layers(0),
        link_gbps: Some(0.001),
        ..ModelOptions::default()
    };
    let found = diagnosed(slow, 10);
    if disturbed(&found) {
        return;
    }
    assert!(matches!(found[0], Diagnosis::LinkBound { .. }), "{found:?}");
    let heads = |it: &Diagnosis| matches!(it, Diagnosis::StageOutside { .. });
    assert!(!found.iter().any(heads), "{found:?}");
}

#[test]
fn a_measured_run_has_its_sound_and_its_parts() {
    for kernels in BOTH {
        a_measured_run_has_them(kernels);
    }
}

fn a_measured_run_has_them(kernels: Kernels) {
    let speech = open_by(kernels, "tiny", Residency::Layers(1));
    let limit = speech.measure_memory().unwrap();
    // Ten steps read the head's layers ten times.
    assert!(limit.frame_bytes > 10 * 40_000);
    let mut system = AnySystem::Voiced(speech.into());
    let run = system
        .measure(None, &saying(&voices()), &Arc::default())
        .unwrap();
    assert_eq!((run.frames, run.run.tokens.len()), (9, 13));
    assert!((run.audio_s - 9.0 * 0.001).abs() < 1e-9);
    assert_eq!(run.run.token_ms.len(), 12);
}

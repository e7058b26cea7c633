//! Qwen3-TTS against its reference, which `fixtures/qwen3tts/make.py` ran: every stage, whatever stays of
//! the talker.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/numbers.rs"]
mod numbers;
#[path = "qwen3_tts/stages.rs"]
mod stages;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::speech::{
    CodeChoice, Ending, Frame, Limits, Narrated, Narrator, PartSpeaking, SaidBefore, Script, Tts,
    TtsNarrator, TtsOptions, TtsSpeakOptions, TtsVoice,
};
use engine::{EngineError, Kernels, ModelOptions};
use loader::DType;
use numbers::{Numbers, close};
use offload::{PlaceChoice, Residency};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3tts")
}

fn recorded(file: &str) -> Numbers {
    Numbers::read(&fixtures().join(file))
}

fn ids_of(numbers: &Numbers, name: &str) -> Vec<u32> {
    let ids = numbers.bytes(name).chunks_exact(8);
    ids.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) as u32)
        .collect()
}

/// Both that compute on the host.
const BOTH: [Kernels; 2] = [Kernels::Fast, Kernels::Clear];

fn options(residency: Residency, kernels: Kernels) -> TtsOptions {
    TtsOptions {
        model: ModelOptions {
            residency,
            kernels,
            device: PlaceChoice::Host,
            dtype: Some(DType::F32),
            context: Some(256),
            ..ModelOptions::default()
        },
        ..TtsOptions::default()
    }
}

fn open(folder: &str, residency: Residency) -> Tts {
    open_with(folder, residency, Kernels::Fast)
}

fn open_with(folder: &str, residency: Residency, kernels: Kernels) -> Tts {
    Tts::open(&fixtures().join(folder), &options(residency, kernels)).unwrap()
}

/// A run of the reference.
struct Asked {
    file: &'static str,
    folder: &'static str,
    text: &'static str,
    speaker: &'static str,
    language: &'static str,
    instruct: Option<&'static str>,
    streaming: bool,
    greedy: bool,
    frames: usize,
}

const AUTO: Asked = Asked {
    file: "auto.safetensors",
    folder: "tiny",
    text: "Hello there, how are you?",
    speaker: "Alto",
    language: "Auto",
    instruct: None,
    streaming: false,
    greedy: true,
    frames: 12,
};

const ALL: [Asked; 3] = [
    AUTO,
    Asked {
        file: "dialect.safetensors",
        text: "It's 7 o'clock, na\u{ef}ve caf\u{e9}!",
        speaker: "bass",
        language: "Chinese",
        streaming: true,
        greedy: false,
        frames: 8,
        ..AUTO
    },
    Asked {
        file: "instruct.safetensors",
        folder: "tiny-wide",
        text: "Fine, and you?",
        speaker: "alto",
        language: "English",
        instruct: Some("Very happy."),
        greedy: false,
        frames: 8,
        ..AUTO
    },
];

impl Asked {
    fn voice(&self, tts: &Tts) -> TtsVoice {
        let voice = TtsVoice::named(tts.config(), self.speaker, Some(self.language)).unwrap();
        TtsVoice {
            instruct: self.instruct.map(str::to_owned),
            streaming_text: self.streaming,
            ..voice
        }
    }

    fn options(&self, tts: &Tts, expected: &Numbers) -> TtsSpeakOptions {
        let said = TtsSpeakOptions::of(tts.config());
        let greedy = CodeChoice {
            temperature: 0.0,
            ..said.talker
        };
        TtsSpeakOptions {
            talker: if self.greedy { greedy } else { said.talker },
            predictor: if self.greedy { greedy } else { said.predictor },
            uniforms: (!self.greedy).then(|| expected.get("uniforms")),
            limits: Limits {
                max_new_tokens: self.frames,
                ..said.limits
            },
            ..said
        }
    }

    fn speak(&self, tts: &mut Tts, expected: &Numbers) -> (Vec<u32>, Vec<Frame>, Ending) {
        let (voice, options) = (self.voice(tts), self.options(tts, expected));
        let mut session = tts.session().unwrap();
        let prompt = session.prompt(self.text, &voice).unwrap();
        let ids = prompt.text_ids.clone();
        let mut speaking = session.speak(prompt, options).unwrap();
        let said: Vec<_> = speaking.by_ref().map(Result::unwrap).collect();
        let ending = speaking.ending().unwrap();
        let frames = said.into_iter().filter_map(|said| said.frame).collect();
        (ids, frames, ending)
    }
}

fn all(frames: &[Frame], stage: &str) -> Vec<f32> {
    let parts = frames.iter().flat_map(|frame| frame.stage(stage));
    parts.copied().collect()
}

#[test]
fn what_is_said_is_what_the_reference_says_whatever_stays() {
    for kernels in BOTH {
        ALL.iter().for_each(|asked| says_the_same(asked, kernels));
    }
}

fn says_the_same(asked: &Asked, kernels: Kernels) {
    let expected = recorded(asked.file);
    let codes = ids_of(&expected, "codes");
    let codes: Vec<f32> = codes.iter().map(|&it| it as f32).collect();
    let mut first: Option<Vec<Frame>> = None;
    for residency in [Residency::Layers(0), Residency::Layers(1), Residency::All] {
        let what = format!("{} {kernels:?} {residency:?}", asked.file);
        let mut tts = open_with(asked.folder, residency, kernels);
        let (ids, frames, ending) = asked.speak(&mut tts, &expected);
        assert_eq!(ids, ids_of(&expected, "text_ids"), "{what}");
        assert_eq!(all(&frames, "codes"), codes, "{what}");
        let count = frames.len();
        close(
            &format!("{what} hidden"),
            &all(&frames, "hidden"),
            &expected.get("hidden")[..all(&frames, "hidden").len()],
        );
        // The reference wrote some of them.
        let expected_logits = expected.get("logits");
        let columns = expected_logits.len()
            / (expected.get("hidden").len() / (all(&frames, "hidden").len() / count));
        let logits: Vec<f32> = (frames.iter())
            .flat_map(|frame| frame.stage("logits")[..columns].to_vec())
            .collect();
        close(
            &format!("{what} logits"),
            &logits,
            &expected_logits[..count * columns],
        );
        let audio: Vec<f32> = frames.iter().flat_map(|it| it.audio.clone()).collect();
        let expected_audio = expected.get("audio");
        close(&format!("{what} audio"), &audio, &expected_audio);
        let ended = match asked.greedy {
            true => Ending::EndOfText,
            false => Ending::MaxNewTokens,
        };
        assert_eq!(ending, ended, "{what}");
        match &first {
            None => first = Some(frames),
            Some(first) => assert!(*first == frames, "{what}: other bits"),
        }
    }
}

#[test]
fn a_seed_is_reproducible_and_another_one_is_another() {
    let of_seed = |seed, residency| {
        let mut tts = open("tiny", residency);
        let voice = AUTO.voice(&tts);
        let mut options = TtsSpeakOptions::of(tts.config());
        (options.seed, options.limits.max_new_tokens) = (seed, 12);
        let mut session = tts.session().unwrap();
        let prompt = session.prompt(AUTO.text, &voice).unwrap();
        let speaking = session.speak(prompt, options).unwrap();
        speaking.map(Result::unwrap).collect::<Vec<_>>()
    };
    let first = of_seed(1, Residency::Layers(0));
    assert!(first.len() > 2);
    assert!(of_seed(1, Residency::All) == first);
    assert!(of_seed(2, Residency::All) != first);
}

#[test]
fn two_hundred_frames_of_a_seed_are_the_same_bits_whatever_stays() {
    BOTH.into_iter().for_each(two_hundred_frames);
}

fn two_hundred_frames(kernels: Kernels) {
    let of_seed = |residency| {
        let mut tts = open_with("tiny", residency, kernels);
        let voice = AUTO.voice(&tts);
        let mut options = TtsSpeakOptions::of(tts.config());
        (options.seed, options.limits.max_new_tokens) = (7, 200);
        options.limits.only_frames = true;
        let mut session = tts.session().unwrap();
        let prompt = session.prompt(AUTO.text, &voice).unwrap();
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
fn speech_goes_on_where_it_was_ended() {
    BOTH.into_iter().for_each(goes_on);
}

fn goes_on(kernels: Kernels) {
    let expected = recorded(AUTO.file);
    let mut tts = open_with("tiny", Residency::Layers(1), kernels);
    let (_, whole, _) = AUTO.speak(&mut tts, &expected);
    let (voice, options) = (AUTO.voice(&tts), AUTO.options(&tts, &expected));
    for ended_after in 0..whole.len() {
        let mut session = tts.session().unwrap();
        let prompt = session.prompt(AUTO.text, &voice).unwrap();
        let mut speaking = session.speak(prompt.clone(), options.clone()).unwrap();
        assert_eq!(speaking.by_ref().take(ended_after).count(), ended_after);
        let said = speaking.said().unwrap();
        drop(session);
        let mut other = open_with("tiny", Residency::All, kernels);
        let mut session = other.session().unwrap();
        let rest = session.speak_on(prompt, said, options.clone()).unwrap();
        let rest: Vec<Frame> = rest.filter_map(|said| said.unwrap().frame).collect();
        let expected = &whole[ended_after..];
        assert_eq!(
            all(&rest, "codes"),
            all(expected, "codes"),
            "after {ended_after}"
        );
        let audio = |frames: &[Frame]| -> Vec<f32> {
            frames
                .iter()
                .flat_map(|frame| frame.audio.clone())
                .collect()
        };
        close(
            &format!("after {ended_after}"),
            &audio(&rest),
            &audio(expected),
        );
    }
    let mut session = tts.session().unwrap();
    let prompt = session.prompt(AUTO.text, &voice).unwrap();
    let said = SaidBefore {
        tokens: vec![1],
        loudness: vec![0.1],
        lists: vec![("codes".into(), vec![1.0; 5])],
    };
    let refused = session.speak_on(prompt, said, options);
    assert!(matches!(refused, Err(EngineError::SaidElsewhere)));
}

#[test]
fn an_interrupt_ends_it_with_what_was_said() {
    let expected = recorded(AUTO.file);
    let mut tts = open("tiny", Residency::Layers(0));
    let (voice, options) = (AUTO.voice(&tts), AUTO.options(&tts, &expected));
    let mut session = tts.session().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    session.cancel_with(Arc::clone(&flag));
    let prompt = session.prompt(AUTO.text, &voice).unwrap();
    let mut speaking = session.speak(prompt, options).unwrap();
    assert!(speaking.next().is_some());
    flag.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(speaking.next().is_none());
    assert_eq!(speaking.ending(), Some(Ending::Interrupted));
}

#[test]
fn a_part_has_one_speaker_and_lines_have_their_own() {
    let expected = recorded(AUTO.file);
    let mut tts = open("tiny", Residency::All);
    let options = AUTO.options(&tts, &expected);
    let voice = |name| TtsVoice::named(tts.config(), name, None).unwrap();
    let voices = vec![voice("alto"), voice("bass")];
    assert_eq!(voices[0].language, None);
    // Whose dialect is spoken where no language is named.
    assert_eq!(voices[1].language, Some(43));
    let mut narrator = TtsNarrator {
        session: tts.session().unwrap(),
        voices,
        options,
    };
    let text = "alto: Hello there.\nbass: Hello.\nbass: How are you?\nalto: Fine.";
    let script = Script::parse(text, &["alto", "bass"]).unwrap();
    let parts = narrator.parts(&script, None).unwrap();
    let lines: Vec<_> = parts.iter().map(|part| part.lines.len()).collect();
    assert_eq!(lines, [1, 2, 1]);
    let mut frames = 0;
    for part in &parts {
        let limits = Limits {
            max_new_tokens: 3,
            ..Limits::default()
        };
        let Narrated {
            prompt, speaking, ..
        } = narrator.narrate(part, None, limits).unwrap();
        assert!(prompt.len() > 8);
        let said: Vec<_> = speaking.map(Result::unwrap).collect();
        assert_eq!(said.len(), 3);
        frames += said.iter().filter(|said| said.frame.is_some()).count();
    }
    assert!(frames >= 6);
    assert_eq!(narrator.report().frames, frames);
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let tts = open("tiny", Residency::All);
    let refused = TtsVoice::named(tts.config(), "soprano", None).unwrap_err();
    assert!(refused.to_string().contains("alto, bass"), "{refused}");
    let refused = TtsVoice::named(tts.config(), "alto", Some("latin")).unwrap_err();
    assert!(
        refused.to_string().contains("chinese, english"),
        "{refused}"
    );
}

#[test]
fn the_codec_is_the_references_over_all_frames_and_its_chunks_up_to_their_end() {
    BOTH.into_iter().for_each(decodes_as_the_reference);
}

fn decodes_as_the_reference(kernels: Kernels) {
    const FRAMES: usize = 330;
    /// Of the reference's first chunk, less what a chunk's end lacks of what follows: nothing.
    const CHUNK: usize = 300;
    const SEAM: usize = 298;
    let expected = Numbers::read(&fixtures().join("codec.safetensors"));
    let codes: Vec<u32> = (0..FRAMES)
        .flat_map(|t| (0..6).map(move |q| ((7 * t + 13 * q + t * t * (q + 1)) % 40) as u32))
        .collect();
    let mut tts = open_with("tiny", Residency::All, kernels);
    let mut session = tts.session().unwrap();
    // However it is cut.
    let (start, rest) = codes.split_at(6 * 123);
    let mut sound = session.sound_of(start).unwrap();
    sound.extend(session.sound_of(rest).unwrap());
    let hop = sound.len() / FRAMES;
    let energy = |frame: &[f32]| {
        let squares = frame.iter().map(|x| f64::from(*x).powi(2));
        squares.sum::<f64>() as f32
    };
    let energies: Vec<f32> = sound.chunks_exact(hop).map(energy).collect();
    close("whole", &energies, &expected.get("long.whole.energy"));
    let seam = expected.get("long.whole.seam");
    close("seam", &sound[SEAM * hop..][..seam.len()], &seam);
    let chunked = expected.get("long.chunked.energy");
    close("chunked", &energies[..CHUNK], &chunked[..CHUNK]);
    let off = (energies[CHUNK] - chunked[CHUNK]).abs();
    assert!(off > 1e-3 * chunked[CHUNK], "the reference's cut shows");
    assert!(session.sound_of(&[40; 6]).is_err());
    assert!(session.sound_of(&[0; 5]).is_err());
}

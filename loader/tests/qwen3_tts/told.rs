//! Which system a folder holds is told from its config.json, and a text command says which command
//! runs it.

use std::path::Path;

use loader::synth::{self, SynthSpec, VibeVoiceSpec};
use loader::{Checkpoint, Family, SpeechSystem};

use crate::edits::edit;
use crate::{make, tiny};

#[test]
fn systems_are_told_apart() {
    let of = |dir: &Path| SpeechSystem::of(dir).unwrap();
    let made = make(&tiny());
    assert_eq!(of(&made.dir), Some(SpeechSystem::Qwen3Tts));
    let temp = tempfile::tempdir().unwrap();
    let dir = |name: &str| temp.path().join(name);
    let vibevoice = VibeVoiceSpec::shape("vibevoice-tiny").unwrap();
    synth::write_vibevoice(&dir("vibevoice"), &vibevoice, &mut |_, _| {}).unwrap();
    synth::write(
        &dir("text"),
        &SynthSpec::tiny(Family::QWEN3),
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(of(&dir("vibevoice")), Some(SpeechSystem::VibeVoice));
    assert_eq!(of(&dir("text")), None);
    assert_eq!((of(temp.path()), of(&dir("nothing"))), (None, None));
    // What cannot be run is still told.
    edit(&made.dir, |config| config["tts_model_type"] = "base".into());
    assert_eq!(of(&made.dir), Some(SpeechSystem::Qwen3Tts));
    std::fs::write(made.dir.join("config.json"), "{").unwrap();
    SpeechSystem::of(&made.dir).unwrap_err();
}

#[test]
fn a_language_model_alone_is_not_made_of_it() {
    let made = make(&tiny());
    let error = Checkpoint::open(&made.dir).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("config.json describes Qwen3-TTS"), "{text}");
    assert!(error.hint().unwrap().contains("engine speak"), "{error:?}");
    // The codec's folder is no text model either.
    let text = Checkpoint::open(&made.codec()).unwrap_err().to_string();
    assert!(text.contains("(a codec by itself)"), "{text}");
}

//! What stands beside the layers of a system that speaks, kept in fewer bytes: half of them, sound that
//! is near, and the same bits whatever stays.

use engine::ModelOptions;
use engine::speech::{
    Frame, Limits, Noise, Script, SpeakOptions, Speech, SpeechBlueprint, SpeechOptions, StageType,
    Tts, TtsBlueprint, TtsOptions, TtsSpeakOptions, TtsVoice,
};
use loader::DType;
use loader::synth::{
    Qwen3TtsSpec, VibeVoiceSpec, qwen3_tts_shapes, vibevoice_shapes, write_qwen3_tts,
    write_vibevoice,
};
use offload::Residency;

const BOTH: [StageType; 2] = [StageType::AsLoaded, StageType::Q8_0];

fn model(residency: Residency) -> ModelOptions {
    ModelOptions {
        residency,
        dtype: Some(DType::F32),
        context: Some(256),
        ..ModelOptions::default()
    }
}

fn limits() -> Limits {
    Limits {
        max_new_tokens: 6,
        only_frames: true,
        ..Limits::default()
    }
}

/// The largest difference as a share of the largest number.
fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / largest
}

fn bytes_of(beside: &[(&'static str, u64)], name: &str) -> u64 {
    let found = beside.iter().find(|(known, _)| known.contains(name));
    found.unwrap_or_else(|| panic!("no {name} in {beside:?}")).1
}

/// Checks what a system said with both types, where nothing stays and where everything does. `stage`:
/// so many numbers of the first frame are to be near.
fn check(said: impl Fn(StageType, Residency) -> Vec<Frame>, (stage, numbers): (&str, usize)) {
    let [exact, rounded] = BOTH.map(|stages| said(stages, Residency::All));
    let first = |frames: &[Frame]| frames[0].stage(stage)[..numbers].to_vec();
    let difference = off(&first(&rounded), &first(&exact));
    assert!(difference < 0.05, "{stage}: off by {difference}");
    assert!(difference > 1e-6, "{stage}: nothing was rounded");
    let streamed = said(StageType::Q8_0, Residency::Layers(0));
    assert!(streamed == rounded, "other bits where layers stream");
}

#[test]
fn a_diffusion_head_in_eight_bits_says_nearly_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let spec = VibeVoiceSpec::shape(vibevoice_shapes()[0]).unwrap();
    write_vibevoice(folder.path(), &spec, &mut |_, _| {}).unwrap();
    let options = |stages, residency| SpeechOptions {
        model: model(residency),
        stages,
        ..SpeechOptions::default()
    };
    let [exact, rounded] = BOTH.map(|stages| {
        let blueprint = SpeechBlueprint::new(folder.path(), &options(stages, Residency::All));
        bytes_of(&blueprint.unwrap().beside().unwrap(), "diffusion head")
    });
    // What the frame's conditions meet stays as it is.
    assert!(rounded * 3 < exact * 2, "{rounded} of {exact} bytes");
    let said = |stages, residency| {
        let mut speech = Speech::open(folder.path(), &options(stages, residency)).unwrap();
        let mut session = speech.session().unwrap();
        let script = Script::parse("Hello there.", &[]).unwrap();
        let prompt = session.prompt(&script, &[], &Noise::default()).unwrap();
        let options = SpeakOptions {
            limits: limits(),
            ..SpeakOptions::default()
        };
        let speaking = session.speak(prompt, options).unwrap();
        speaking.filter_map(|said| said.unwrap().frame).collect()
    };
    check(said, ("frame.latent", 8));
}

#[test]
fn a_predictor_in_eight_bits_predicts_nearly_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Qwen3TtsSpec::shape(qwen3_tts_shapes()[0]).unwrap();
    write_qwen3_tts(folder.path(), &spec, &mut |_, _| {}).unwrap();
    let options = |stages, residency| TtsOptions {
        model: model(residency),
        stages,
        ..TtsOptions::default()
    };
    let [exact, rounded] = BOTH.map(|stages| {
        let blueprint = TtsBlueprint::new(folder.path(), &options(stages, Residency::All));
        bytes_of(&blueprint.unwrap().beside().unwrap(), "predictor")
    });
    // Embeddings stay as they are.
    assert!(rounded * 3 < exact * 2, "{rounded} of {exact} bytes");
    let said = |stages, residency| {
        let mut tts = Tts::open(folder.path(), &options(stages, residency)).unwrap();
        let voice = tts.config().speakers[0].name.clone();
        let voice = TtsVoice::named(tts.config(), &voice, None).unwrap();
        let options = TtsSpeakOptions {
            limits: limits(),
            ..TtsSpeakOptions::of(tts.config())
        };
        let mut session = tts.session().unwrap();
        session.keep_stages();
        let prompt = session.prompt("Hello there.", &voice).unwrap();
        let speaking = session.speak(prompt, options).unwrap();
        let frames: Vec<Frame> = speaking.filter_map(|said| said.unwrap().frame).collect();
        frames
    };
    // The first of them are about the same rows; then another code may be drawn.
    check(said, ("predictor.logits", 64));
}

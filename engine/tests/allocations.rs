//! Decoding allocates nothing that grows with the model: weights stream through slots, the cache
//! has its capacity, activations have their scratch. What is left is the small change of loads in
//! flight (a completion mark each), counted here by an allocator that watches every thread.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one only counts"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::speech::{
    Limits, Noise, Said, Script, SpeakOptions, Speech, SpeechOptions, Tts, TtsOptions,
    TtsSpeakOptions, TtsVoice,
};
use engine::{EngineError, Model, ModelOptions, Source};
use loader::synth::{self, SynthSpec};
use loader::{Family, Form};
use offload::Residency;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test counts at a time.
static COUNTED: Mutex<()> = Mutex::new(());

/// Allocations, their bytes and the largest of them, for each of some tokens after a warm-up.
fn per_token(source: &Source, resident: usize, form: Form) -> (usize, usize, usize) {
    const TOKENS: usize = 20;
    let residency = Residency::Layers(resident);
    let mut model = Model::open(
        source,
        ModelOptions {
            residency,
            resident_form: Some(form),
            ..Default::default()
        },
    )
    .unwrap();
    let mut session = model.session().unwrap();
    session.pass(&[1, 2, 3]).unwrap();
    session.pass(&[4]).unwrap();
    ALLOCATIONS.store(0, Ordering::Relaxed);
    BYTES.store(0, Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    for token in 0..TOKENS {
        session.pass(&[token as u32]).unwrap();
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    (
        count(&ALLOCATIONS) / TOKENS,
        count(&BYTES) / TOKENS,
        count(&LARGEST),
    )
}

#[test]
fn decoding_allocates_no_weights_no_cache_and_no_activations() {
    const LAYERS: usize = 6;
    let _alone = COUNTED.lock().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    synth::write(
        &path,
        &SynthSpec {
            hidden_size: 128,
            ..SynthSpec::tiny(Family::QWEN2).with_layers(LAYERS)
        },
        &mut |_, _| {},
    )
    .unwrap();
    let source = Source::Directory(path);

    for form in [Form::Plain, Form::Compact] {
        assert_eq!(
            per_token(&source, LAYERS, form).0,
            0,
            "all resident, {form:?}"
        );
    }
    let (allocations, bytes, largest) = per_token(&source, 0, Form::Plain);
    assert!(
        allocations <= 2 * LAYERS,
        "{allocations} allocations a token"
    );
    assert!(bytes <= 512 * LAYERS, "{bytes} bytes a token");
    assert!(largest <= 1024, "one of {largest} bytes");
}

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(name)
}

/// Allocations for each frame after the first ones.
fn per_frame(speaking: impl Iterator<Item = Result<Said, EngineError>>) -> usize {
    const WARM_UP: usize = 4;
    const FRAMES: usize = 20;
    let mut frames = speaking.map(|said| said.unwrap().frame.unwrap());
    assert_eq!(frames.by_ref().take(WARM_UP).count(), WARM_UP);
    ALLOCATIONS.store(0, Ordering::Relaxed);
    assert_eq!(frames.take(FRAMES).count(), FRAMES);
    ALLOCATIONS.load(Ordering::Relaxed) / FRAMES
}

/// What a frame is given out in, and rows on the way: no name of a weight, and no list of weights. The
/// predictor and the codecs have hundreds.
#[test]
fn a_frame_of_speech_allocates_rows_and_nothing_for_weights() {
    const MOST: usize = 20;
    let _alone = COUNTED.lock().unwrap();
    let model = ModelOptions {
        residency: Residency::All,
        context: Some(256),
        ..ModelOptions::default()
    };
    let limits = Limits {
        max_new_tokens: 30,
        only_frames: true,
        ..Limits::default()
    };
    let options = TtsOptions {
        model: model.clone(),
        ..TtsOptions::default()
    };
    let mut tts = Tts::open(&fixture("qwen3tts/tiny"), &options).unwrap();
    let voice = TtsVoice::named(tts.config(), "alto", None).unwrap();
    let options = TtsSpeakOptions {
        limits,
        ..TtsSpeakOptions::of(tts.config())
    };
    let mut session = tts.session().unwrap();
    let prompt = session.prompt("Hello there.", &voice).unwrap();
    let coded = per_frame(session.speak(prompt, options).unwrap());
    let options = SpeechOptions {
        model,
        tokenizer: Some(fixture("vibevoice/tiny-hf")),
        ..SpeechOptions::default()
    };
    let mut speech = Speech::open(&fixture("vibevoice/tiny"), &options).unwrap();
    let mut session = speech.session().unwrap();
    let script = Script::parse("Hello there.", &[]).unwrap();
    let prompt = session.prompt(&script, &[], &Noise::default()).unwrap();
    let options = SpeakOptions {
        limits,
        ..SpeakOptions::default()
    };
    let voiced = per_frame(session.speak(prompt, options).unwrap());
    println!("{coded} and {voiced} allocations a frame");
    assert!(coded <= MOST && voiced <= MOST, "{coded} and {voiced}");
}

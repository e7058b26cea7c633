//! The engine's logits and greedy tokens against those of transformers, for tiny random
//! checkpoints of every family and of their odd shapes. `fixtures/make.py` made them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Kernels, Model, ModelOptions, Session, Source};
use loader::synth::{self, SynthSpec};
use loader::{Checkpoint, DType, Encoding, Family};
use offload::{Home, Residency};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    prompt_tokens: Vec<u32>,
    last_logits: Vec<f32>,
    greedy: Vec<u32>,
    long_prompt_tokens: Vec<u32>,
    long_last_logits: Vec<f32>,
    /// Of the run, where that decides what is computed.
    context: Option<usize>,
}

impl Expected {
    fn of(directory: &Path) -> Self {
        let json = fs::read(directory.join("expected.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

/// The largest difference, as a share of the largest logit.
const RELATIVE_MAX: f32 = 1e-4;
/// The same for a long pass over bf16 weights at the level `avx512bf16`, which rounds activations
/// to bf16: eight significant bits.
const ROUNDED_RELATIVE_MAX: f32 = 2e-2;

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    found
}

fn model(directory: &Path, residency: Residency, kernels: Kernels) -> Model {
    let options = ModelOptions {
        residency,
        kernels,
        context: Expected::of(directory).context,
        ..ModelOptions::default()
    };
    Model::open(&Source::Directory(directory.into()), options).unwrap()
}

/// What a long pass may be off by.
fn long_pass_max(model: &Model, kernels: Kernels) -> f32 {
    let bf16 = model.blueprint().encoding() == Encoding::Bf16;
    match (kernels, engine::kernels::level()) {
        (Kernels::Fast, "avx512bf16") if bf16 => ROUNDED_RELATIVE_MAX,
        _ => RELATIVE_MAX,
    }
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], relative_max: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let off = found
        .iter()
        .zip(expected)
        .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    // `--nocapture` shows them.
    println!("{what}: {:e} of the largest logit", off / largest);
    assert!(
        off <= relative_max * largest,
        "{what}: off by {off:e} of {largest}"
    );
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    u32::try_from(best.unwrap()).unwrap()
}

fn greedy(session: &mut Session<'_>, prompt: &[u32], count: usize) -> Vec<u32> {
    session.pass(prompt).unwrap();
    let mut tokens = vec![argmax(session.logits())];
    while tokens.len() < count {
        session.pass(&tokens[tokens.len() - 1..]).unwrap();
        tokens.push(argmax(session.logits()));
    }
    tokens
}

fn holds(directory: &Path, kernels: Kernels) {
    let name = directory
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let expected = Expected::of(directory);
    let layers = model(directory, Residency::All, kernels).config().layers;
    let mut first: Option<Vec<u32>> = None;
    for resident in [layers, layers / 2, 0] {
        let what = format!("{name}, {resident} of {layers} layers resident, {kernels:?}");
        let mut model = model(directory, Residency::Layers(resident), kernels);

        let mut session = model.session().unwrap();
        session.pass(&expected.prompt_tokens).unwrap();
        close(&what, session.logits(), &expected.last_logits, RELATIVE_MAX);
        // Where the weights come from must not change a single bit.
        let bits: Vec<u32> = session
            .logits()
            .iter()
            .map(|value| value.to_bits())
            .collect();
        assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{what}");

        let long_pass_max = long_pass_max(&model, kernels);
        let mut session = model.session().unwrap();
        session.pass(&expected.long_prompt_tokens).unwrap();
        close(
            &format!("{what}, long prompt"),
            session.logits(),
            &expected.long_last_logits,
            long_pass_max,
        );

        let mut session = model.session().unwrap();
        let tokens = greedy(&mut session, &expected.prompt_tokens, expected.greedy.len());
        assert_eq!(tokens, expected.greedy, "{what}");
    }
}

#[test]
fn the_fast_kernels_agree_with_transformers_on_every_family() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 12, "{fixtures:?}");
    fixtures
        .iter()
        .for_each(|directory| holds(directory, Kernels::Fast));
}

/// Which of the two lists of factors turns the heads is decided once, by the context of a run: up
/// to the original context the short one, beyond it the long one, for short texts too.
#[test]
fn the_context_decides_between_factors_for_short_and_for_long_texts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phi3-short");
    for kernels in [Kernels::Fast, Kernels::Clear] {
        let logits = |context| {
            let options = ModelOptions {
                context: Some(context),
                kernels,
                ..ModelOptions::default()
            };
            let mut model = Model::open(&Source::Directory(root.clone()), options).unwrap();
            let mut session = model.session().unwrap();
            session.pass(&Expected::of(&root).prompt_tokens).unwrap();
            session.logits().to_vec()
        };
        assert_eq!(logits(20), logits(128));
        assert_ne!(logits(128), logits(129));
        assert_eq!(logits(129), logits(256));
    }
}

/// A tensor of f32 more, behind the others.
fn add_tensor(file: &Path, name: &str, shape: &[usize], data: &[u8]) {
    let bytes = fs::read(file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let offsets = [bytes.len() - start, bytes.len() - start + data.len()];
    header[name] = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
    let header = header.to_string().into_bytes();
    let mut all = (header.len() as u64).to_le_bytes().to_vec();
    for part in [&header, &bytes[start..], data] {
        all.extend(part);
    }
    fs::write(file, all).unwrap();
}

/// The bytes of the embedding, which is the head as well.
fn embedding(directory: &Path) -> Vec<u8> {
    let checkpoint = Checkpoint::open(directory).unwrap();
    let entry = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    let bytes = fs::read(directory.join("model.safetensors")).unwrap();
    bytes[entry.offset as usize..(entry.offset + entry.bytes) as usize].to_vec()
}

fn copy_of(fixture: &str, to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for entry in fs::read_dir(root.join(fixture)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// transformers computes the same from such files as from the fixture: it ties an equal copy, and
/// leaves the others out.
#[test]
fn tensors_that_are_not_read_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    copy_of("qwen3-tied", folder.path());
    let file = folder.path().join("model.safetensors");
    let head = embedding(folder.path());
    add_tensor(&file, "lm_head.weight", &[96, 32], &head);
    let sevens = [7.0_f32; 8].map(f32::to_le_bytes).concat();
    for name in [
        "model.layers.1.self_attn.rotary_emb.inv_freq",
        "visual.patch_embed.proj.weight",
        "score.weight",
    ] {
        add_tensor(&file, name, &[8], &sevens);
    }
    assert_eq!(Checkpoint::open(folder.path()).unwrap().unread().len(), 4);
    for kernels in [Kernels::Fast, Kernels::Clear] {
        holds(folder.path(), kernels);
    }
}

/// One number in the middle of a head that is said to be the embedding, which opening does not
/// find.
#[test]
fn a_model_is_not_loaded_with_two_heads() {
    let folder = tempfile::tempdir().unwrap();
    let spec = SynthSpec {
        vocab_size: 4096,
        tied_embeddings: true,
        dtype: DType::F32,
        ..SynthSpec::tiny(Family::LLAMA)
    };
    let directory = folder.path().join("model");
    synth::write(&directory, &spec, &mut |_, _| {}).unwrap();
    let file = directory.join("model.safetensors");
    let mut head = embedding(&directory);
    let without = fs::read(&file).unwrap();
    let load = |residency, home, dtype| {
        let options = ModelOptions {
            residency,
            home,
            dtype,
            ..ModelOptions::default()
        };
        Model::open(&Source::Directory(directory.clone()), options).map(drop)
    };
    let ways = [
        (Residency::All, None, None),
        (Residency::Layers(1), Some(Home::Disk), None),
        (Residency::Layers(0), Some(Home::Ram), None),
        (Residency::Layers(0), Some(Home::Disk), Some(DType::Bf16)),
    ];
    add_tensor(&file, "lm_head.weight", &[4096, 64], &head);
    for (residency, home, dtype) in ways {
        load(residency, home, dtype).unwrap();
    }
    let at = 1000 * 64 * 4 + 3;
    head[at] ^= 0x40;
    fs::write(&file, without).unwrap();
    add_tensor(&file, "lm_head.weight", &[4096, 64], &head);
    Checkpoint::open(&directory).unwrap();
    for (residency, home, dtype) in ways {
        let error = load(residency, home, dtype).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`tie_word_embeddings` is true"), "{text}");
        assert!(text.contains("row 1000 differs"), "{text}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn the_clear_blocks_agree_with_transformers_on_every_family() {
    fixtures()
        .iter()
        .for_each(|directory| holds(directory, Kernels::Clear));
}

/// Feeding a long prompt token by token, or all at once, is the same computation.
#[test]
fn a_prompt_in_one_pass_equals_its_tokens_one_by_one() {
    for directory in fixtures() {
        let expected = Expected::of(&directory);
        let mut model = model(&directory, Residency::All, Kernels::Fast);
        let mut session = model.session().unwrap();
        for token in &expected.long_prompt_tokens {
            session.pass(&[*token]).unwrap();
        }
        let what = directory.display().to_string();
        close(
            &what,
            session.logits(),
            &expected.long_last_logits,
            RELATIVE_MAX,
        );
    }
}

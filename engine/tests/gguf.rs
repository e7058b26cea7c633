//! The models of the fixtures as GGUF files: the same logits as from safetensors, to the last bit
//! where the files hold the same rows in the same order. `fixtures/gguf/make.py` made them with the
//! gguf package, and llama.cpp computes the same from them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Kernels, Model, ModelOptions, Source};
use loader::RopePairing;
use offload::Residency;
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

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// With so many layers resident.
fn open(path: PathBuf, kernels: Kernels, context: Option<usize>, layers: usize) -> Model {
    let options = ModelOptions {
        kernels,
        context,
        residency: Residency::Layers(layers),
        ..ModelOptions::default()
    };
    Model::open(&Source::Directory(path), options).unwrap()
}

/// The logits after each of the prompts.
fn logits(model: &mut Model, prompts: [&[u32]; 2]) -> [Vec<f32>; 2] {
    prompts.map(|prompt| {
        let mut session = model.session().unwrap();
        session.pass(prompt).unwrap();
        session.logits().to_vec()
    })
}

fn off(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0_f32, |most, it| most.max(it.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / largest
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    u32::try_from(best.unwrap()).unwrap()
}

#[test]
fn a_gguf_file_gives_the_logits_of_the_model_it_was_made_of() {
    use RopePairing::{Halves, Neighbours};
    for (name, file, pairing) in [
        ("llama-3", "llama-3.gguf", Neighbours),
        ("llama-bias", "llama-bias.gguf", Neighbours),
        ("mistral", "mistral.gguf", Neighbours),
        // Any part will do.
        ("qwen2-bf16", "qwen2-bf16-00002-of-00003.gguf", Halves),
        ("qwen3-tied", "qwen3-tied.gguf", Halves),
        ("phi3", "phi3.gguf", Halves),
        ("phi3-short", "phi3-short.gguf", Halves),
        // Queries, keys and values apart, where the checkpoint has them in one; then the other way.
        ("phi3-long", "phi3-long.gguf", Halves),
        ("granite", "granite.gguf", Neighbours),
        ("granite-bias", "granite-bias.gguf", Neighbours),
        ("olmo2", "olmo2.gguf", Halves),
    ] {
        let folder = fixtures().join(name);
        let json = fs::read(folder.join("expected.json")).unwrap();
        let expected: Expected = serde_json::from_slice(&json).unwrap();
        let prompts: [&[u32]; 2] = [&expected.prompt_tokens, &expected.long_prompt_tokens];
        for kernels in [Kernels::Fast, Kernels::Clear] {
            let open_file = |layers| {
                let path = fixtures().join("gguf").join(file);
                open(path, kernels, expected.context, layers)
            };
            let mut model = open_file(1);
            assert_eq!(model.config().rope.pairing, pairing, "{file}");
            let found = logits(&mut model, prompts);
            for layers in [0, model.config().layers] {
                assert_eq!(
                    logits(&mut open_file(layers), prompts),
                    found,
                    "{file}, {layers}"
                );
            }
            let mut published = open(folder.clone(), kernels, expected.context, 1);
            let wanted = logits(&mut published, prompts);
            for (found, wanted) in found.iter().zip(&wanted) {
                match pairing {
                    Halves => assert_eq!(found, wanted, "{file}, {kernels:?}"),
                    // Heads are summed in another order.
                    Neighbours => {
                        let off = off(found, wanted);
                        assert!(off < 1e-5, "{file}, {kernels:?}: off by {off:e}");
                    }
                }
            }
            // A level may round activations in a long pass over bf16.
            assert!(off(&found[0], &expected.last_logits) < 1e-4, "{file}");
            assert!(off(&found[1], &expected.long_last_logits) < 2e-2, "{file}");
            let mut session = model.session().unwrap();
            session.pass(&expected.prompt_tokens).unwrap();
            for &token in &expected.greedy {
                assert_eq!(argmax(session.logits()), token, "{file}, {kernels:?}");
                session.pass(&[token]).unwrap();
            }
        }
    }
}

#[derive(Deserialize)]
struct Quantised {
    prompt_tokens: Vec<u32>,
    long_prompt_tokens: Vec<u32>,
    /// Of transformers, in f32, from the numbers that the file has.
    exact: Vec<f32>,
    long_exact: Vec<f32>,
    llama_cpp: Vec<f32>,
    long_llama_cpp: Vec<f32>,
}

/// `fixtures/gguf/quantised.py` made the files.
#[test]
fn every_encoding_gives_the_logits_of_its_numbers() {
    let folder = fixtures().join("gguf");
    let json = fs::read(folder.join("quantised.json")).unwrap();
    let files: BTreeMap<String, Quantised> = serde_json::from_slice(&json).unwrap();
    for (kind, expected) in &files {
        let prompts: [&[u32]; 2] = [&expected.prompt_tokens, &expected.long_prompt_tokens];
        let exact = [&expected.exact, &expected.long_exact];
        let theirs = [&expected.llama_cpp, &expected.long_llama_cpp];
        for kernels in [Kernels::Fast, Kernels::Clear] {
            let by_layers = [0, 1, 2].map(|resident| {
                let path = folder.join(format!("quantised-{kind}.gguf"));
                let mut model = open(path, kernels, None, resident);
                assert_eq!(model.config().layers, 2);
                logits(&mut model, prompts)
            });
            assert_eq!(by_layers[0], by_layers[1], "{kind}, {kernels:?}");
            assert_eq!(by_layers[0], by_layers[2], "{kind}, {kernels:?}");
            let off_by = |found: [&Vec<f32>; 2]| {
                let each = found
                    .iter()
                    .zip(exact)
                    .map(|(found, exact)| off(found, exact));
                each.fold(0.0, f32::max)
            };
            let [short, long] = &by_layers[0];
            let off_here = off_by([short, long]);
            // Activations in 8 bits, as llama.cpp has them; which of the two is closer is chance.
            let most = match kernels {
                Kernels::Fast => 2.0 * off_by(theirs),
                Kernels::Clear => 2e-5,
            };
            assert!(off_here < most, "{kind}, {kernels:?}: off by {off_here:e}");
        }
    }
}

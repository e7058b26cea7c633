//! Verified runs: they say nothing where nothing is wrong, and name what is.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use engine::{
    Culprit, EngineError, GenerationOptions, Kernels, Model, ModelOptions, Report, Source,
};
use loader::synth::{self, SynthSpec};
use loader::{Checkpoint, DType, Encoding, Error, Family, MANIFEST, Manifest, Role};
use offload::{Home, LayerIndex, Prefetch, Residency};

fn run(source: &Source, options: ModelOptions, tokens: usize) -> Result<Report, EngineError> {
    let mut model = Model::open(source, options)?;
    let mut session = model.session()?;
    let options = GenerationOptions {
        max_new_tokens: tokens,
        ignore_eos: true,
        ..Default::default()
    };
    let mut generation = session.generate(vec![1, 2, 3, 4, 5], options)?;
    for piece in &mut generation {
        piece?;
    }
    Ok(generation.report())
}

fn streaming(resident: usize) -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(resident),
        verify: true,
        ..Default::default()
    }
}

#[test]
fn a_long_run_raises_no_false_alarm_and_changes_no_token() {
    for (home, slots, prefetch, dtype) in [
        (Home::Disk, 2, Prefetch::Ahead, None),
        (Home::Disk, 1, Prefetch::AtNeed, None),
        (Home::Ram, 3, Prefetch::Ahead, None),
        (Home::Disk, 2, Prefetch::Ahead, Some(DType::F32)),
    ] {
        let verified = ModelOptions {
            home: Some(home),
            slots: Some(slots),
            prefetch,
            dtype,
            ..streaming(4)
        };
        let plain = ModelOptions {
            verify: false,
            ..verified.clone()
        };
        let verified = run(&Source::Demo, verified, 150).unwrap();
        let plain = run(&Source::Demo, plain, 150).unwrap();
        assert_eq!(verified.tokens, plain.tokens, "{home:?}, {slots} slots");
        assert!(!verified.totals.verify.is_zero() && plain.totals.verify.is_zero());
        assert!(plain.totals.verify_per_pass().is_none());
        let (ms, share) = verified.totals.verify_per_pass().unwrap();
        assert!(ms > 0.0 && share > 0.0, "{ms} ms, {share}");
    }
}

/// A small checkpoint of three layers, with its manifest.
fn summed(folder: &Path) -> PathBuf {
    let dir = folder.join("model");
    synth::write(&dir, &SynthSpec::tiny(Family::QWEN2), &mut |_, _| {}).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let manifest = Manifest::of(&checkpoint, &mut |_| {}).unwrap();
    fs::write(dir.join(MANIFEST), manifest.to_json().unwrap()).unwrap();
    dir
}

/// Puts `number` in place of a tensor's first.
fn poison(dir: &Path, tensor: &str, number: f32) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let entry = checkpoint.tensor(tensor).unwrap();
    assert_eq!(entry.encoding(), Some(Encoding::Bf16));
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = entry.offset as usize;
    bytes[at..at + 2].copy_from_slice(&half::bf16::from_f32(number).to_le_bytes());
    fs::write(&file, bytes).unwrap();
}

#[test]
fn what_stays_and_what_streams_is_held_against_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = summed(folder.path());
    let source = Source::Directory(dir.clone());
    let good = fs::read(dir.join("model.safetensors")).unwrap();
    for resident in 0..=3 {
        run(&source, streaming(resident), 20).unwrap();
    }
    for tensor in [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.2.self_attn.v_proj.bias",
    ] {
        poison(&dir, tensor, 0.123);
        for (resident, home) in [(3, None), (0, None), (0, Some(Home::Ram))] {
            let options = ModelOptions {
                home,
                ..streaming(resident)
            };
            let error = run(&source, options, 2).unwrap_err();
            assert!(error.to_string().contains(tensor), "{error}");
            assert!(error.hint().is_some());
            // At load, but for what only the streaming link sees.
            let streamed = tensor.contains("layers") && resident == 0 && home.is_none();
            match error {
                EngineError::Offload(_) => assert!(streamed, "{tensor}"),
                EngineError::Loader(Error::Altered { .. }) => assert!(!streamed, "{tensor}"),
                other => panic!("{other}"),
            }
        }
        fs::write(dir.join("model.safetensors"), &good).unwrap();
    }
}

#[test]
fn numbers_that_are_none_stop_the_run_with_the_layer_that_made_them() {
    let folder = tempfile::tempdir().unwrap();
    let dir = summed(folder.path());
    let source = Source::Directory(dir.clone());
    let good = fs::read(dir.join("model.safetensors")).unwrap();
    let layer = |weights: &[Role]| Culprit::Layer {
        layer: LayerIndex(1),
        weights: weights.to_vec(),
    };
    for (tensor, number, expected) in [
        (
            "model.layers.1.mlp.down_proj.weight",
            f32::NAN,
            layer(&[Role::Down]),
        ),
        (
            "model.layers.1.self_attn.k_proj.weight",
            f32::INFINITY,
            layer(&[Role::Qkv]),
        ),
        // Too large to be multiplied, and finite itself.
        ("model.layers.1.input_layernorm.weight", 3e38, layer(&[])),
        ("model.norm.weight", f32::NAN, Culprit::Head),
    ] {
        poison(&dir, tensor, number);
        for kernels in [Kernels::Fast, Kernels::Clear] {
            for resident in [0, 3] {
                let options = ModelOptions {
                    kernels,
                    verify: false,
                    ..streaming(resident)
                };
                match run(&source, options, 4).unwrap_err() {
                    EngineError::NotFinite { position, culprit } => {
                        assert_eq!((position, &culprit), (4, &expected), "{tensor} {kernels:?}");
                    }
                    other => panic!("{tensor}: {other}"),
                }
            }
        }
        fs::write(dir.join("model.safetensors"), &good).unwrap();
    }
    // Token 1 is in the prompt; its row is the embedding's second.
    poison(&dir, "model.embed_tokens.weight", f32::NAN);
    let options = ModelOptions {
        verify: false,
        ..streaming(0)
    };
    let mut model = Model::open(&source, options).unwrap();
    let error = model.session().unwrap().pass(&[0]).unwrap_err();
    assert!(matches!(
        error,
        EngineError::NotFinite {
            culprit: Culprit::Embedding,
            ..
        }
    ));
}

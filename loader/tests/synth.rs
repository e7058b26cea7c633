//! Synthetic checkpoints: the real format, sensible numbers, nothing left after a failure.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

mod common;

use common::{longrope, make, reference_tensors, specs};
use loader::synth::{self, ConfigStyle, SynthSpec};
use loader::{Checkpoint, DType, Error, Family, RopeScaling, convert};

fn widen(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut wide = vec![0; bytes.len() / dtype.bytes() * 4];
    convert(dtype.encoding(), bytes, DType::F32.encoding(), &mut wide);
    wide.chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn what_is_written_opens_and_says_what_was_asked_for() {
    for spec in specs() {
        for config_style in [ConfigStyle::TorchDtype, ConfigStyle::RopeParameters] {
            let spec = SynthSpec {
                config_style,
                // Phi3 knows no other.
                rope_scaling: if spec.family == Family::PHI3 {
                    longrope()
                } else {
                    RopeScaling::Linear { factor: 4.0 }
                },
                ..spec.clone()
            };
            let made = make(&spec);
            let checkpoint = Checkpoint::open(&made.dir).unwrap();
            let config = &checkpoint.config;
            assert_eq!(config.family, spec.family);
            assert_eq!(config.layers, spec.layers);
            assert_eq!(config.rope.theta, spec.rope_theta);
            assert_eq!(config.rope.scaling, spec.rope_scaling);
            assert_eq!(config.dtype, Some(spec.dtype));
            assert_eq!(config.eos_token_ids, [1]);
            assert_eq!(checkpoint.generation.do_sample, Some(false));
            let bytes: u64 = checkpoint.tensors().map(|(_, entry)| entry.bytes).sum();
            assert_eq!(bytes, spec.weight_bytes());
        }
    }
}

#[test]
fn weights_look_normal_are_never_zero_and_follow_from_the_seed() {
    for dtype in DType::ALL {
        let spec = SynthSpec::tiny(Family::QWEN2).with_dtype(dtype);
        let tensors = reference_tensors(&make(&spec).dir);
        assert_eq!(tensors, reference_tensors(&make(&spec).dir));
        let other = reference_tensors(&make(&spec.clone().with_seed(1)).dir);
        for (name, bytes) in &tensors {
            let values = widen(dtype, bytes);
            if name.ends_with("norm.weight") {
                assert!(values.iter().all(|x| *x == 1.0), "{name}");
                continue;
            }
            assert_ne!(bytes, &other[name], "{name} ignores the seed");
            assert!(values.iter().all(|x| *x != 0.0 && x.abs() < 0.08), "{name}");
            if values.len() < 2000 {
                continue;
            }
            let n = values.len() as f64;
            let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let variance = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
            assert!(mean.abs() < 0.1 / n.sqrt(), "{name}: mean {mean}");
            assert!((variance.sqrt() - 0.02).abs() < 0.002, "{name}: {variance}");
        }
        let gate = &tensors["model.layers.0.mlp.gate_proj.weight"];
        assert_ne!(gate, &tensors["model.layers.0.mlp.up_proj.weight"]);
        assert_ne!(gate, &tensors["model.layers.1.mlp.gate_proj.weight"]);
    }
}

#[test]
fn presets_have_the_sizes_of_their_namesakes() {
    for (name, billions) in [
        ("qwen2.5-0.5b", 0.494),
        ("qwen2.5-1.5b", 1.544),
        ("qwen2.5-3b", 3.086),
        ("qwen2.5-7b", 7.616),
        ("qwen2.5-14b", 14.770),
        ("llama-3.2-1b", 1.236),
        ("llama-3.2-3b", 3.213),
        ("llama-3.1-8b", 8.030),
        ("mistral-7b", 7.248),
        ("qwen3-0.6b", 0.596),
        ("qwen3-1.7b", 1.720),
        ("qwen3-4b", 4.022),
        ("qwen3-8b", 8.191),
        ("bench-1.3b", 1.409),
        ("phi-3-mini", 3.821),
        ("olmo2-7b", 7.299),
        ("granite-3.3-2b", 2.534),
    ] {
        let spec = SynthSpec::preset(name).unwrap();
        let found = spec.weight_bytes() as f64 / 2e9;
        assert!((found - billions).abs() < 0.001, "{name}: {found}");
        let config = loader::ModelConfig::parse(spec.config_json().to_string().as_bytes());
        assert_eq!(config.unwrap().layers, spec.layers, "{name}");
    }
    assert_eq!(synth::preset_names().len(), 17);
    let error = SynthSpec::preset("gpt-5").unwrap_err();
    assert!(error.hint().unwrap().contains("qwen2.5-7b"), "{error}");
}

#[test]
fn an_existing_directory_is_left_alone_unless_it_is_empty() {
    let temp = tempfile::tempdir().unwrap();
    let spec = SynthSpec::tiny(Family::LLAMA);
    let dir = temp.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    synth::write(&dir, &spec, &mut |_, _| {}).unwrap();
    let error = synth::write(&dir, &spec, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let file = temp.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let error = synth::write(&file, &spec, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_write_that_does_not_finish_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let spec = SynthSpec::tiny(Family::LLAMA);
    let unwound = std::panic::catch_unwind(|| {
        synth::write(&dir, &spec, &mut |done, total| {
            assert!(done < total / 2, "interrupted on purpose");
        })
    });
    assert!(unwound.is_err());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    let impossible = SynthSpec { heads: 3, ..spec };
    synth::write(&dir, &impossible, &mut |_, _| {}).unwrap_err();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn progress_counts_up_to_the_total() {
    let temp = tempfile::tempdir().unwrap();
    let spec = SynthSpec::tiny(Family::QWEN3);
    let mut last = 0;
    synth::write(&temp.path().join("m"), &spec, &mut |done, total| {
        assert!(done > last && total == spec.weight_bytes());
        last = done;
    })
    .unwrap();
    assert_eq!(last, spec.weight_bytes());
}

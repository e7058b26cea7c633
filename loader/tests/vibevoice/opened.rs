//! What is found in a checkpoint of the original's layout, and that other names change nothing.

use half::bf16;
use loader::synth::{VibeVoiceSpec, vibevoice_shapes, write_vibevoice};
use loader::{Arrangement, Checkpoint, Component, DType, Encoding, Role, VibeVoice, Whole};

use crate::common::{reference_tensors, take_apart};
use crate::edits::{rename, slab};
use crate::{components, make, tiny};

#[test]
fn a_random_checkpoint_opens_and_is_what_was_asked_for() {
    let spec = tiny();
    let made = make(&spec);
    let opened = VibeVoice::open(&made.dir).unwrap();
    assert_eq!(opened.config, spec.config);
    assert_eq!(opened.config.acoustic.hop(), 40);
    assert_eq!(opened.location(), made.dir.display().to_string());
    assert_eq!(
        (opened.sources().len(), opened.language.config.layers),
        (1, 3)
    );
    assert!(opened.stored_bytes() > spec.weight_bytes());
    assert!(
        (opened.scaling() - 0.196).abs() < 1e-3,
        "{}",
        opened.scaling()
    );
    assert!((opened.bias() + 0.049).abs() < 1e-3, "{}", opened.bias());
    assert!(opened.language.unread().is_empty());
    assert!(opened.language.config.tied_embeddings);
}

#[test]
fn every_tensor_of_the_file_is_read_once_and_its_bytes_are_its_own() {
    let made = make(&tiny());
    let opened = VibeVoice::open(&made.dir).unwrap();
    let stored = reference_tensors(&made.dir);
    let mut seen = 0;
    for (component, bytes) in components(&opened) {
        let layout = component.source.layout();
        assert_eq!(layout.placements().len(), component.tensors.len());
        for (at, tensor) in component.tensors.iter().enumerate() {
            let place = layout.get(Role::Component(at as u16)).unwrap();
            assert_eq!(place.rows(), tensor.shape[0]);
            assert_eq!(place.cols(), tensor.shape[1..].iter().product::<usize>());
            let [part] = place.parts.as_slice() else {
                panic!("{place:?}");
            };
            let found = &bytes[part.offset..part.offset + part.bytes];
            assert!(stored.values().any(|bytes| bytes == found), "{tensor:?}");
            assert!(found.iter().any(|byte| *byte != 0), "{tensor:?}");
            seen += 1;
        }
    }
    // Beside the language model and the two factors.
    let beside =
        |name: &&String| !name.starts_with("model.language_model.") && !name.ends_with("_factor");
    assert_eq!(seen, stored.keys().filter(beside).count());
}

#[test]
fn names_inside_a_component_are_those_of_transformers() {
    let made = make(&tiny());
    let opened = VibeVoice::open(&made.dir).unwrap();
    for (component, name, shape) in [
        (
            Component::AcousticEncoder,
            "stem.conv.conv.weight",
            vec![4, 1, 7],
        ),
        (
            Component::AcousticEncoder,
            "conv_layers.2.conv.conv.weight",
            vec![32, 16, 10],
        ),
        (
            Component::AcousticEncoder,
            "conv_layers.0.stage.0.ffn.linear1.weight",
            vec![32, 8],
        ),
        (
            Component::AcousticEncoder,
            "stem.stage.0.mixer.conv.bias",
            vec![4],
        ),
        (
            Component::AcousticEncoder,
            "head.conv.weight",
            vec![8, 32, 7],
        ),
        (
            Component::AcousticDecoder,
            "stem.conv.conv.weight",
            vec![32, 8, 7],
        ),
        (Component::AcousticDecoder, "stem.stage.1.gamma", vec![32]),
        (
            Component::AcousticDecoder,
            "conv_layers.0.convtr.convtr.weight",
            vec![32, 16, 10],
        ),
        (
            Component::AcousticDecoder,
            "conv_layers.2.convtr.convtr.bias",
            vec![4],
        ),
        (
            Component::AcousticDecoder,
            "head.conv.weight",
            vec![1, 4, 7],
        ),
        (Component::SemanticEncoder, "head.conv.bias", vec![12]),
        (Component::Head, "timestep_proj.fc1.weight", vec![64, 256]),
        (Component::Head, "layers.1.linear.weight", vec![192, 64]),
        (
            Component::Head,
            "layers.0.ffn.up_proj.weight",
            vec![192, 64],
        ),
        (Component::Head, "final_layer.linear_2.weight", vec![8, 64]),
        (Component::AcousticConnector, "linear_1.weight", vec![64, 8]),
        (Component::SemanticConnector, "act.weight", vec![64]),
    ] {
        let found = opened.component(component, None).unwrap();
        assert_eq!(found.source.label(), component.name());
        let tensor = found.tensors.iter().find(|tensor| tensor.name == name);
        assert_eq!(tensor.unwrap().shape, shape, "{name}");
    }
}

#[test]
fn numbers_become_what_is_asked_for() {
    let made = make(&tiny());
    let opened = VibeVoice::open(&made.dir).unwrap();
    let stored = opened.component(Component::Head, None).unwrap();
    let wide = opened.component(Component::Head, Some(DType::F32)).unwrap();
    let (narrow, bytes) = (
        slab(opened.sources(), &stored.source),
        slab(opened.sources(), &wide.source),
    );
    let (narrow_layout, layout) = (stored.source.layout(), wide.source.layout());
    for (from, to) in narrow_layout.parts().zip(layout.parts()) {
        assert_eq!(
            (from.1.encoding, to.1.encoding),
            (Encoding::Bf16, Encoding::F32)
        );
        let first = |bytes: &[u8]| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let number = f32::from_le_bytes(bytes[to.1.offset..to.1.offset + 4].try_into().unwrap());
        assert_eq!(first(&narrow[from.1.offset..]), number);
    }
}

#[test]
fn the_language_model_is_read_as_one_that_stands_alone() {
    let made = make(&tiny());
    let opened = VibeVoice::open(&made.dir).unwrap();
    let stored = reference_tensors(&made.dir);
    let language = &opened.language;
    for layer in 0..3 {
        let source = language.block(layer, None, Arrangement::Packed).unwrap();
        let bytes = slab(language.sources(), &source);
        let place = source.layout().get(Role::Down).unwrap();
        let part = &place.parts[0];
        let name = format!("model.language_model.layers.{layer}.mlp.down_proj.weight");
        assert_eq!(bytes[part.offset..part.offset + part.bytes], stored[&name]);
    }
    let head = language
        .weight(Whole::LmHead, None, Arrangement::Packed)
        .unwrap();
    assert_eq!(head.label(), "model.language_model.embed_tokens.weight");
    let embedding = &stored["model.language_model.embed_tokens.weight"];
    assert_eq!(
        &slab(language.sources(), &head)[..embedding.len()],
        embedding
    );
}

/// As transformers converts names, written down a second time.
pub fn converted(name: &str) -> String {
    let mut name = name.to_owned();
    let mut swap = |from: &str, to: &str| name = name.replace(from, to);
    swap("mixer.conv.conv.conv.", "mixer.conv.");
    swap("head.conv.conv.", "head.conv.");
    for stages in ["stages.", "downsample_layers.", "upsample_layers."] {
        let inner = match stages {
            "stages." => "stage.",
            _ => "",
        };
        swap(&format!("{stages}0."), &format!("stem.{inner}"));
        for stage in 1..8 {
            let to = format!("conv_layers.{}.{inner}", stage - 1);
            swap(&format!("{stages}{stage}."), &to);
        }
    }
    swap(".0.conv.conv.", ".conv.conv.");
    swap(".0.convtr.convtr.", ".convtr.convtr.");
    swap("acoustic_tokenizer.", "audio_tower.");
    swap("semantic_tokenizer.encoder.", "semantic_tokenizer_encoder.");
    swap("acoustic_connector.", "multi_modal_projector.");
    for (from, to) in [
        ("fc1.", "linear_1."),
        ("norm.", "act."),
        ("fc2.", "linear_2."),
    ] {
        for connector in ["multi_modal_projector.", "semantic_connector."] {
            swap(&format!("{connector}{from}"), &format!("{connector}{to}"));
        }
    }
    swap("t_embedder.mlp.0.", "timestep_proj.fc1.");
    swap("t_embedder.mlp.2.", "timestep_proj.fc2.");
    swap("final_layer.linear.", "final_layer.linear_2.");
    swap("final_layer.adaLN_modulation.1.", "final_layer.linear_1.");
    swap("adaLN_modulation.1.", "linear.");
    swap("prediction_head.", "diffusion_head.");
    swap("speech_scaling_factor", "latent_scaling_factor");
    swap("speech_bias_factor", "latent_bias_factor");
    name
}

#[test]
fn both_namings_give_the_same_bytes() {
    let made = make(&tiny());
    let original = VibeVoice::open(&made.dir).unwrap();
    let before = components(&original);
    let block = |opened: &VibeVoice| {
        let source = opened.language.block(1, None, Arrangement::Packed).unwrap();
        slab(opened.sources(), &source)
    };
    let block_before = block(&original);
    for is_early in [false, true] {
        let made = make(&tiny());
        rename(&made.dir, |name| {
            let name = converted(name);
            Some(match is_early {
                true => name
                    .replace("timestep_proj.fc1.", "timestep_embedder.layer_1.")
                    .replace("timestep_proj.fc2.", "timestep_embedder.layer_2."),
                false => name,
            })
        });
        let opened = VibeVoice::open(&made.dir).unwrap();
        for ((before, bytes), (after, other)) in before.iter().zip(components(&opened)) {
            assert_eq!(before.tensors, after.tensors);
            assert!(*bytes == other, "{}", after.source.label());
        }
        assert!(block_before == block(&opened));
        assert_eq!(original.scaling(), opened.scaling());
        assert_eq!(original.bias(), opened.bias());
    }
}

#[test]
fn shards_give_what_one_file_does() {
    let whole = make(&tiny());
    let mut spec = tiny();
    spec.language.shard_bytes = 200_000;
    let sharded = make(&spec);
    assert!(!sharded.dir.join("model.safetensors").exists());
    let (one, many) = (
        VibeVoice::open(&whole.dir).unwrap(),
        VibeVoice::open(&sharded.dir).unwrap(),
    );
    assert!(many.sources().len() > 2, "{}", many.sources().len());
    for ((_, one), (_, many)) in components(&one).iter().zip(components(&many)) {
        assert!(*one == many);
    }
}

#[test]
fn other_dtypes_and_untied_heads_open_too() {
    for dtype in [DType::F16, DType::F32] {
        let mut spec = tiny().with_dtype(dtype).with_seed(3);
        spec.language.tied_embeddings = false;
        let made = make(&spec);
        let opened = VibeVoice::open(&made.dir).unwrap();
        assert!(!opened.language.config.tied_embeddings);
        assert!((opened.scaling() - 0.196).abs() < 1e-3);
        let head = opened.component(Component::Head, None).unwrap();
        let mut parts = head.source.layout().parts();
        assert!(parts.all(|(_, part)| part.encoding == dtype.encoding()));
    }
}

#[test]
fn the_shapes_have_the_published_sizes() {
    assert_eq!(vibevoice_shapes().len(), 3);
    assert!(VibeVoiceSpec::shape("vibevoice").is_none());
    let gigabytes = |name| VibeVoiceSpec::shape(name).unwrap().weight_bytes() as f64 / 1e9;
    let (small, large) = (gigabytes("vibevoice-1.5b"), gigabytes("vibevoice-7b"));
    assert!((5.35..5.45).contains(&small), "{small}");
    assert!((18.6..18.75).contains(&large), "{large}");
}

#[test]
fn nothing_is_written_over_another_checkpoint() {
    let made = make(&tiny());
    let error = write_vibevoice(&made.dir, &tiny(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    let mut last = (0, 0);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_vibevoice(&dir, &tiny(), &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (tiny().weight_bytes(), tiny().weight_bytes()));
    let header = take_apart(&dir.join("model.safetensors")).header;
    assert!(
        header["model.speech_scaling_factor"]["shape"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_language_model_alone_is_not_made_of_it() {
    let made = make(&tiny());
    let error = Checkpoint::open(&made.dir).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("config.json describes VibeVoice"), "{text}");
    assert!(error.hint().unwrap().contains("engine speak"), "{error:?}");
}

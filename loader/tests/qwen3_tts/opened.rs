//! What is found in a checkpoint of the release's layout.

use loader::synth::{Qwen3TtsSpec, qwen3_tts_shapes, write_qwen3_tts};
use loader::{
    Arrangement, DType, Encoding, Family, HeadNorms, Mixer, Qwen3Tts, Qwen3TtsComponent, Role,
    Whole,
};
use serde_json::json;

use crate::common::reference_tensors;
use crate::edits::{add, read_json, slab, write_json};
use crate::{Read, floats, make, tiny};

#[test]
fn a_random_checkpoint_opens_and_is_what_was_asked_for() {
    let spec = tiny();
    let made = make(&spec);
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    let layers = |config: &loader::Qwen3TtsConfig| config.predictor.layers.clone();
    assert_eq!(layers(&opened.config), layers(&spec.config));
    assert_eq!(opened.config, spec.config);
    assert_eq!((opened.config.codec.hop(), opened.config.spoken), (96, 64));
    assert_eq!(opened.config.predictor.steps(), 3);
    assert!(opened.config.predictor.projects() && opened.config.takes_instruct);
    assert_eq!(opened.location(), made.dir.display().to_string());
    assert_eq!(opened.sources().len(), 2);
    assert!(opened.stored_bytes() > spec.weight_bytes());
    let talker = &opened.talker.config;
    assert_eq!((talker.family, talker.layers), (Family::QWEN3, 3));
    assert_eq!(talker.eos_token_ids, [66]);
    assert_eq!(opened.config.tokens.eos, 66);
    let Mixer::Attention { head_norms, .. } = talker.block.mixer;
    assert_eq!(head_norms, HeadNorms::Each);
    assert!(!talker.tied_embeddings && opened.talker.unread().is_empty());
    assert!(opened.talker.has_file("tokenizer.json").unwrap());
    let bass = &opened.config.speakers[1];
    assert_eq!(bass.dialect.as_deref(), Some("beijing_dialect"));
    assert!(opened.config.languages[2].is_dialect());
}

#[test]
fn every_tensor_of_the_files_is_read_once_and_its_bytes_are_its_own() {
    let made = make(&tiny());
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    let (stored, codec) = (
        reference_tensors(&made.dir),
        reference_tensors(&made.codec()),
    );
    let mut seen = [0, 0];
    for (which, prefix) in [
        (Qwen3TtsComponent::TextProjection, "talker.text_projection."),
        (Qwen3TtsComponent::Predictor, "talker.code_predictor."),
        (Qwen3TtsComponent::CodecDecoder, "decoder."),
    ] {
        let of_codec = which == Qwen3TtsComponent::CodecDecoder;
        for (name, shape, bytes) in Read::of(&opened, which, None).tensors() {
            let stored = match of_codec {
                true => &codec[&format!("{prefix}{name}")],
                false => &stored[&format!("{prefix}{name}")],
            };
            assert_eq!(bytes, stored, "{name}");
            let size = if of_codec { 4 } else { 2 };
            assert_eq!(
                bytes.len(),
                size * shape.iter().product::<usize>(),
                "{name}"
            );
            assert!(bytes.iter().any(|byte| *byte != 0), "{name}");
            seen[usize::from(of_codec)] += 1;
        }
    }
    let beside = |name: &&String| {
        name.starts_with("talker.text_projection.") || name.starts_with("talker.code_predictor.")
    };
    assert_eq!(seen, [stored.keys().filter(beside).count(), codec.len()]);
}

#[test]
fn names_inside_a_component_have_their_shapes() {
    use Qwen3TtsComponent::{CodecDecoder, Predictor, TextProjection};
    let opened = Qwen3Tts::open(&make(&tiny()).dir).unwrap();
    for (component, name, shape) in [
        (TextProjection, "linear_fc1.weight", vec![48, 48]),
        (TextProjection, "linear_fc2.bias", vec![64]),
        (Predictor, "small_to_mtp_projection.weight", vec![32, 64]),
        (
            Predictor,
            "model.layers.1.self_attn.k_proj.weight",
            vec![16, 32],
        ),
        (
            Predictor,
            "model.layers.0.self_attn.q_norm.weight",
            vec![16],
        ),
        (Predictor, "model.codec_embedding.2.weight", vec![64, 64]),
        (Predictor, "lm_head.0.weight", vec![64, 32]),
        (
            CodecDecoder,
            "quantizer.rvq_rest.vq.layers.2._codebook.embedding_sum",
            vec![64, 10],
        ),
        (
            CodecDecoder,
            "quantizer.rvq_first.output_proj.weight",
            vec![20, 10, 1],
        ),
        (CodecDecoder, "pre_conv.conv.weight", vec![24, 20, 3]),
        (CodecDecoder, "pre_transformer.input_proj.bias", vec![12]),
        (CodecDecoder, "upsample.1.0.conv.weight", vec![24, 24, 2]),
        (
            CodecDecoder,
            "upsample.0.1.dwconv.conv.weight",
            vec![24, 1, 7],
        ),
        (
            CodecDecoder,
            "decoder.1.block.1.conv.weight",
            vec![32, 16, 6],
        ),
        (
            CodecDecoder,
            "decoder.4.block.3.conv1.conv.weight",
            vec![2, 2, 7],
        ),
        (CodecDecoder, "decoder.5.alpha", vec![2]),
        (CodecDecoder, "decoder.6.conv.weight", vec![1, 2, 7]),
    ] {
        let found = opened.component(component, None).unwrap();
        assert_eq!(found.source.label(), component.name());
        let tensor = found.tensors.iter().find(|tensor| tensor.name == name);
        assert_eq!(tensor.map(|tensor| &*tensor.shape), Some(&*shape), "{name}");
    }
    let mut spec = tiny();
    spec.config.predictor.layers.hidden_size = 64;
    let opened = Qwen3Tts::open(&make(&spec).dir).unwrap();
    assert!(!opened.config.predictor.projects());
    let found = opened.component(Predictor, None).unwrap();
    assert_eq!(
        found.tensors[0].name,
        "model.layers.0.input_layernorm.weight"
    );
}

#[test]
fn numbers_become_what_is_asked_for() {
    let opened = Qwen3Tts::open(&make(&tiny()).dir).unwrap();
    for (component, stored) in [
        (Qwen3TtsComponent::Predictor, Encoding::Bf16),
        (Qwen3TtsComponent::CodecDecoder, Encoding::F32),
    ] {
        let [as_it_is, wide] = [None, Some(DType::F32)].map(|dtype| {
            let found = opened.component(component, dtype).unwrap();
            let part = found.source.layout().parts().next().unwrap();
            part.1.encoding
        });
        assert_eq!((as_it_is, wide), (stored, Encoding::F32));
    }
}

#[test]
fn rows_of_the_text_embedding_come_one_by_one() {
    let made = make(&tiny());
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    let stored = &reference_tensors(&made.dir)["talker.model.text_embedding.weight"];
    let rows = opened.text_rows(None).unwrap();
    assert_eq!(rows.row_bytes(), 96);
    let mut read = vec![0; 2 * 96];
    rows.read(&[511, 3], &mut read).unwrap();
    assert_eq!(
        read,
        [&stored[511 * 96..], &stored[3 * 96..4 * 96]].concat()
    );
    let wide = opened.text_rows(Some(DType::F32)).unwrap();
    let mut numbers = vec![0; wide.row_bytes()];
    wide.read(&[3], &mut numbers).unwrap();
    let first = half::bf16::from_le_bytes([read[96], read[97]]);
    assert_eq!(floats(&numbers)[0], first.to_f32());
}

#[test]
fn the_talker_is_read_as_one_that_stands_alone() {
    let made = make(&tiny());
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    let stored = reference_tensors(&made.dir);
    let talker = &opened.talker;
    for layer in 0..3 {
        let source = talker.block(layer, None, Arrangement::Packed).unwrap();
        let bytes = slab(talker.sources(), &source);
        let place = source.layout().get(Role::Down).unwrap();
        let part = &place.parts[0];
        let name = format!("talker.model.layers.{layer}.mlp.down_proj.weight");
        assert_eq!(bytes[part.offset..part.offset + part.bytes], stored[&name]);
    }
    for (which, name) in [
        (Whole::Embedding, "talker.model.codec_embedding.weight"),
        (Whole::FinalNorm, "talker.model.norm.weight"),
        (Whole::LmHead, "talker.codec_head.weight"),
    ] {
        let source = talker.weight(which, None, Arrangement::Packed).unwrap();
        assert_eq!(source.label(), name);
        let bytes = slab(talker.sources(), &source);
        assert_eq!(bytes[..stored[name].len()], stored[name]);
    }
}

#[test]
fn what_other_uses_need_is_passed_over() {
    let made = make(&tiny());
    let tensor = json!({"dtype": "F32", "shape": [1]});
    for (dir, name) in [
        (made.dir.clone(), "speaker_encoder.fc.weight"),
        (made.codec(), "encoder.downsample.conv.weight"),
        (
            made.codec(),
            "decoder.quantizer.rvq_first.input_proj.weight",
        ),
        (made.codec(), "decoder.quantizer.rvq_rest.input_proj.weight"),
    ] {
        add(&dir, name, tensor.clone(), &[0; 4]);
    }
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    assert!(opened.talker.unread().is_empty());
    let name = "talker.model.rotary_emb.inv_freq";
    add(&made.dir, name, tensor, &[0; 4]);
    assert_eq!(Qwen3Tts::open(&made.dir).unwrap().talker.unread().len(), 1);
}

#[test]
fn shards_and_other_dtypes_open_too() {
    for dtype in [DType::F16, DType::F32] {
        let mut spec = tiny().with_dtype(dtype).with_seed(3).with_layers(2);
        spec.talker.shard_bytes = 200_000;
        let made = make(&spec);
        let opened = Qwen3Tts::open(&made.dir).unwrap();
        assert!(opened.sources().len() > 3, "{}", opened.sources().len());
        let index = read_json(&made.dir, "model.safetensors.index.json");
        let files: u64 = opened.talker.tensors().map(|(_, entry)| entry.bytes).sum();
        assert_eq!(index["metadata"]["total_size"], files);
        // The codec's files stand behind the talker's.
        let read = Read::of(&opened, Qwen3TtsComponent::CodecDecoder, None);
        let stored = reference_tensors(&made.codec());
        for (name, _, bytes) in read.tensors() {
            assert_eq!(bytes, stored[&format!("decoder.{name}")], "{name}");
        }
    }
}

#[test]
fn usages_of_entries_are_positive_and_no_number_is_zero() {
    let opened = Qwen3Tts::open(&make(&tiny()).dir).unwrap();
    let codec = Read::of(&opened, Qwen3TtsComponent::CodecDecoder, None);
    for (name, _, bytes) in codec.tensors() {
        let numbers = floats(bytes);
        assert!(numbers.iter().all(|x| *x != 0.0 && x.is_finite()), "{name}");
        if name.ends_with("cluster_usage") {
            assert!(numbers.iter().all(|x| *x > 0.1), "{name}");
        }
    }
}

#[test]
fn ids_may_stand_in_lists_of_one_and_old_files_leave_the_codec_to_its_own() {
    let made = make(&tiny());
    let mut config = tiny().config_json();
    config["talker_config"]["spk_id"]["bass"] = json!([95]);
    config.as_object_mut().unwrap().remove("tokenizer_type");
    config.as_object_mut().unwrap().remove("im_end_token_id");
    config["talker_config"]["text_vocab_size"] = 512.into();
    write_json(&made.dir, "config.json", &config);
    // The id that is meant where none is said is not one of this vocabulary.
    let text = Qwen3Tts::open(&made.dir).unwrap_err().to_string();
    assert!(text.contains("`im_end_token_id` is 151645"), "{text}");
    config["im_end_token_id"] = 301.into();
    write_json(&made.dir, "config.json", &config);
    let opened = Qwen3Tts::open(&made.dir).unwrap();
    assert_eq!(opened.config.speakers[1].token, 95);
}

#[test]
fn the_shapes_have_the_released_sizes() {
    assert_eq!(qwen3_tts_shapes().len(), 3);
    assert!(Qwen3TtsSpec::shape("qwen3-tts").is_none());
    let gigabytes = |name| Qwen3TtsSpec::shape(name).unwrap().weight_bytes() as f64 / 1e9;
    let (small, large) = (gigabytes("qwen3-tts-0.6b"), gigabytes("qwen3-tts-1.7b"));
    assert!((2.24..2.30).contains(&small), "{small}");
    assert!((4.24..4.34).contains(&large), "{large}");
    for name in qwen3_tts_shapes() {
        let spec = Qwen3TtsSpec::shape(name).unwrap();
        let [config, codec] = [spec.config_json(), spec.codec_json()].map(|json| json.to_string());
        let parsed = loader::Qwen3TtsConfig::parse(config.as_bytes(), codec.as_bytes());
        let (parsed, talker) = parsed.unwrap();
        assert_eq!(parsed, spec.config, "{name}");
        assert_eq!(talker.layers, spec.talker.layers);
    }
}

#[test]
fn nothing_is_written_over_another_checkpoint() {
    let made = make(&tiny());
    let error = write_qwen3_tts(&made.dir, &tiny(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    let mut last = (0, 0);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_qwen3_tts(&dir, &tiny(), &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (tiny().weight_bytes(), tiny().weight_bytes()));
}

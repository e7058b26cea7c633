//! Files that are not as they should be: a tensor too few or too many, another shape, another number
//! type, and a codec that is not there.

use std::fs;

use serde_json::json;

use crate::edits::{add, described, rename};
use crate::refused::refused;
use crate::{make, tiny};

#[test]
fn every_missing_tensor_is_named() {
    for gone in [
        "talker.model.text_embedding.weight",
        "talker.model.codec_embedding.weight",
        "talker.codec_head.weight",
        "talker.model.norm.weight",
        "talker.model.layers.1.self_attn.q_norm.weight",
        "talker.text_projection.linear_fc1.bias",
        "talker.code_predictor.small_to_mtp_projection.bias",
        "talker.code_predictor.model.layers.1.mlp.up_proj.weight",
        "talker.code_predictor.model.codec_embedding.2.weight",
        "talker.code_predictor.lm_head.0.weight",
    ] {
        let made = make(&tiny());
        rename(&made.dir, |name| (name != gone).then(|| name.into()));
        refused(&made, &["has no tensor", gone]);
    }
    for gone in [
        "decoder.quantizer.rvq_rest.vq.layers.1._codebook.cluster_usage",
        "decoder.pre_transformer.layers.1.mlp_layer_scale.scale",
        "decoder.upsample.0.1.gamma",
        "decoder.decoder.3.block.2.act1.beta",
        "decoder.decoder.6.conv.bias",
    ] {
        let made = make(&tiny());
        rename(&made.codec(), |name| (name != gone).then(|| name.into()));
        refused(&made, &["speech_tokenizer has no tensor", gone]);
    }
}

#[test]
fn a_tensor_that_nothing_reads_is_named() {
    let tensor = json!({"dtype": "BF16", "shape": [1]});
    for extra in [
        "talker.code_predictor.model.layers.2.mlp.up_proj.weight",
        "talker.code_predictor.lm_head.3.weight",
        "talker.other.weight",
        "lm_head.weight",
    ] {
        let made = make(&tiny());
        add(&made.dir, extra, tensor.clone(), &[0, 0]);
        refused(&made, &[extra, "is not part of a Qwen3-TTS model"]);
    }
    for extra in [
        "decoder.decoder.7.conv.weight",
        "decoder.quantizer.rvq_rest.vq.layers.3._codebook.embedding_sum",
        "talker.model.norm.weight",
    ] {
        let made = make(&tiny());
        add(&made.codec(), extra, tensor.clone(), &[0, 0]);
        refused(
            &made,
            &[
                "speech_tokenizer",
                extra,
                "is not part of a Qwen3-TTS model",
            ],
        );
    }
    let made = make(&tiny());
    let name = "talker.model.layers.3.norm.weight";
    add(&made.dir, name, tensor, &[0, 0]);
    refused(&made, &["layers.3.norm.weight is one of layer 3", "is 3"]);
}

#[test]
fn wrong_shapes_and_dtypes_are_named() {
    let made = make(&tiny());
    let name = "talker.model.text_embedding.weight";
    described(&made.dir, name, "shape", json!([256, 96]));
    refused(&made, &[name, "shape [256, 96]", "calls for [512, 48]"]);
    let made = make(&tiny());
    let name = "talker.code_predictor.lm_head.1.weight";
    described(&made.dir, name, "shape", json!([32, 64]));
    refused(&made, &[name, "shape [32, 64]", "calls for [64, 32]"]);
    let made = make(&tiny());
    let name = "decoder.decoder.1.block.1.conv.weight";
    described(&made.codec(), name, "shape", json!([16, 32, 6]));
    refused(&made, &[name, "shape [16, 32, 6]", "calls for [32, 16, 6]"]);
    let made = make(&tiny());
    let name = "decoder.pre_conv.conv.weight";
    described(&made.codec(), name, "dtype", json!("I32"));
    refused(&made, &[name, "stored as I32"]);
}

#[test]
fn a_codec_that_is_not_there_is_named() {
    let made = make(&tiny());
    fs::remove_dir_all(made.codec()).unwrap();
    let error = refused(&made, &["has no folder speech_tokenizer"]);
    assert!(error.hint().unwrap().contains("fetch speech_tokenizer"));
    let made = make(&tiny());
    fs::remove_file(made.codec().join("config.json")).unwrap();
    refused(&made, &["speech_tokenizer", "it has no config.json"]);
    let made = make(&tiny());
    fs::remove_file(made.codec().join("model.safetensors")).unwrap();
    refused(&made, &["speech_tokenizer has no safetensors weights"]);
}

#[test]
fn folders_of_something_else_are_refused() {
    let made = make(&tiny());
    fs::write(made.dir.join("adapter_config.json"), "{}").unwrap();
    refused(&made, &["holds an adapter"]);
    let made = make(&tiny());
    fs::remove_file(made.dir.join("config.json")).unwrap();
    refused(&made, &["it has no config.json"]);
    let made = make(&tiny());
    fs::remove_dir_all(made.codec()).unwrap();
    fs::write(made.dir.join("config.json"), r#"{"model_type": "qwen3"}"#).unwrap();
    refused(&made, &["model_type qwen3 is not supported"]);
}

/// A link to a folder elsewhere would read what was never part of the checkpoint.
#[cfg(unix)]
#[test]
fn a_codec_outside_the_checkpoint_is_refused() {
    let (made, other) = (make(&tiny()), make(&tiny()));
    fs::remove_dir_all(made.codec()).unwrap();
    std::os::unix::fs::symlink(other.codec(), made.codec()).unwrap();
    refused(&made, &["speech_tokenizer is a link out of"]);
}

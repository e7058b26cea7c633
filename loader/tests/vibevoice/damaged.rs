//! Files that are not as they should be: a tensor too few or too many, another shape, another
//! number type, factors that are none, and files beside the weights that say something else.

use loader::VibeVoice;
use serde_json::{Value, json};

use crate::common::{put_together, take_apart};
use crate::edits::{add, described, rename, write_json};
use crate::opened::converted;
use crate::refused::refused;
use crate::{make, tiny};

#[test]
fn every_missing_tensor_is_named() {
    for (gone, names) in [
        ("model.prediction_head.cond_proj.weight", false),
        (
            "model.acoustic_tokenizer.decoder.stages.0.1.ffn_gamma",
            false,
        ),
        ("model.speech_bias_factor", false),
        ("model.language_model.layers.1.mlp.up_proj.weight", false),
        ("model.language_model.norm.weight", false),
        ("model.semantic_tokenizer_encoder.head.conv.bias", true),
        ("model.latent_scaling_factor", true),
    ] {
        let made = make(&tiny());
        rename(&made.dir, |name| {
            let name = match names {
                true => converted(name),
                false => name.into(),
            };
            (name != gone).then_some(name)
        });
        refused(&made, &["has no tensor", gone]);
    }
}

#[test]
fn a_tensor_that_nothing_reads_is_named() {
    for extra in [
        "model.acoustic_tokenizer.encoder.norm.weight",
        "model.prediction_head.layers.2.norm.weight",
        "model.other.weight",
        "lm_tail.weight",
    ] {
        let made = make(&tiny());
        add(
            &made.dir,
            extra,
            json!({"dtype": "BF16", "shape": [1]}),
            &[0, 0],
        );
        refused(&made, &[extra, "is not part of a VibeVoice model"]);
    }
    let made = make(&tiny());
    add(
        &made.dir,
        "model.language_model.layers.3.norm.weight",
        json!({"dtype": "BF16", "shape": [1]}),
        &[0, 0],
    );
    refused(&made, &["layers.3.norm.weight is one of layer 3", "is 3"]);
    // What the reference computes itself may stay.
    let made = make(&tiny());
    let name = "model.language_model.rotary_emb.inv_freq";
    add(
        &made.dir,
        name,
        json!({"dtype": "BF16", "shape": [1]}),
        &[0, 0],
    );
    let opened = VibeVoice::open(&made.dir).unwrap();
    assert_eq!(opened.language.unread().len(), 1);
}

#[test]
fn wrong_shapes_and_dtypes_are_named() {
    let made = make(&tiny());
    let name = "model.acoustic_tokenizer.encoder.downsample_layers.1.0.conv.conv.weight";
    described(&made.dir, name, "shape", json!([4, 8, 4]));
    refused(&made, &[name, "shape [4, 8, 4]", "calls for [8, 4, 4]"]);
    let made = make(&tiny());
    let name = "model.prediction_head.cond_proj.weight";
    described(&made.dir, name, "dtype", json!("I16"));
    refused(&made, &[name, "stored as I16"]);
    let made = make(&tiny());
    described(
        &made.dir,
        "model.speech_scaling_factor",
        "shape",
        json!([1]),
    );
    refused(&made, &["speech_scaling_factor has shape [1]"]);
}

#[test]
fn factors_that_are_none_are_refused() {
    let number = |name: &str, bits: u16| {
        let made = make(&tiny());
        let file = made.dir.join("model.safetensors");
        let mut parts = take_apart(&file);
        let at = parts.header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        parts.data[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
        made
    };
    let (scaling, bias) = ("model.speech_scaling_factor", "model.speech_bias_factor");
    for (name, bits, expected) in [
        (
            scaling,
            0x7fc0,
            "is NaN, expected a finite number other than 0",
        ),
        (
            scaling,
            0x0000,
            "is 0, expected a finite number other than 0",
        ),
        (scaling, 0x8000, "is -0, expected"),
        (scaling, 0x7f80, "is inf, expected"),
        (bias, 0x7fc0, "is NaN, expected a finite number"),
    ] {
        refused(&number(name, bits), &[name, expected]);
    }
    assert_eq!(VibeVoice::open(&number(bias, 0).dir).unwrap().bias(), 0.0);
}

#[test]
fn files_beside_it_are_looked_at_too() {
    let cases: [(&str, Value, &[&str]); 8] = [
        (
            "preprocessor_config.json",
            json!({"speech_tok_compress_ratio": 3200}),
            &["is 3200, expected 40"],
        ),
        (
            "preprocessor_config.json",
            json!({"db_normalize": false}),
            &["db_normalize false"],
        ),
        (
            "preprocessor_config.json",
            json!({"audio_processor": {"normalize_audio": false}}),
            &["audio_processor.normalize_audio false"],
        ),
        (
            "preprocessor_config.json",
            json!({"sampling_rate": 0}),
            &["sampling_rate` is 0"],
        ),
        (
            "processor_config.json",
            json!({"feature_extractor": {"sampling_rate": 16_000}}),
            &[
                "is 24000, and `feature_extractor.sampling_rate in",
                "is 16000",
            ],
        ),
        (
            "generation_config.json",
            json!({"noise_scheduler_class": "DDIMScheduler"}),
            &["noise_scheduler_class DDIMScheduler"],
        ),
        (
            "generation_config.json",
            json!({"noise_scheduler_config": {"beta_schedule": "linear"}}),
            &["noise_scheduler_config.beta_schedule linear"],
        ),
        (
            "generation_config.json",
            json!({"noise_scheduler_config": {"solver_order": 3, "use_karras_sigmas": false}}),
            &["noise_scheduler_config.solver_order 3"],
        ),
    ];
    for (file, content, expected) in cases {
        let made = make(&tiny());
        write_json(&made.dir, file, &content);
        refused(&made, expected);
    }
}

#[test]
fn a_copy_of_the_embedding_is_compared() {
    let made = make(&tiny());
    let parts = take_apart(&made.dir.join("model.safetensors"));
    let embedding = &parts.header["model.language_model.embed_tokens.weight"];
    let offset = |at: usize| embedding["data_offsets"][at].as_u64().unwrap() as usize;
    let mut copy = parts.data[offset(0)..offset(1)].to_vec();
    let described = json!({"dtype": "BF16", "shape": [512, 64]});
    add(&made.dir, "lm_head.weight", described.clone(), &copy);
    let opened = VibeVoice::open(&made.dir).unwrap();
    assert_eq!(opened.language.unread().len(), 1);
    let made = make(&tiny());
    copy[0] ^= 1;
    add(&made.dir, "lm_head.weight", described, &copy);
    refused(
        &made,
        &[
            "lm_head.weight",
            "is not model.language_model.embed_tokens.weight",
        ],
    );
}

#[test]
fn folders_of_something_else_are_refused() {
    let made = make(&tiny());
    std::fs::write(made.dir.join("adapter_config.json"), "{}").unwrap();
    refused(&made, &["holds an adapter"]);
    let made = make(&tiny());
    std::fs::remove_file(made.dir.join("config.json")).unwrap();
    refused(&made, &["it has no config.json"]);
    let made = make(&tiny());
    let merged = made.dir.join("VibeVoice-1.5B.safetensors");
    std::fs::rename(made.dir.join("model.safetensors"), merged).unwrap();
    let error = refused(&made, &["VibeVoice-1.5B.safetensors"]);
    assert!(error.hint().unwrap().contains("model.safetensors"));
    let error = VibeVoice::open(&made.dir.join("nothing")).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

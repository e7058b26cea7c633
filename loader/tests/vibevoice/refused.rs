//! A `config.json` that says what cannot be computed, or what does not fit together, is refused
//! with the field and a next step.

use loader::{Checkpoint, Error, VibeVoice};
use serde_json::{Value, json};

use crate::edits::{edit, set, write_json};
use crate::forms::{flat, nested};
use crate::{Made, make, tiny};

pub fn refused(made: &Made, expected: &[&str]) -> Error {
    let error = VibeVoice::open(&made.dir).unwrap_err();
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{text}\n{part}");
    }
    assert!(text.len() < 1000, "{text}");
    assert!(error.hint().is_some(), "{text}");
    error
}

/// Each field with this value, in the original's form.
fn fields(cases: &[(&str, Value, &[&str])]) {
    let made = make(&tiny());
    for (path, value, expected) in cases {
        let mut config = tiny().config_json();
        set(&mut config, path, value);
        write_json(&made.dir, "config.json", &config);
        refused(&made, expected);
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let acoustic = "acoustic_tokenizer_config.";
    for (name, value) in [
        ("causal", json!(false)),
        ("disable_last_norm", json!(false)),
        ("layernorm_elementwise_affine", json!(false)),
        ("conv_bias", json!(false)),
        ("mixer_layer", json!("conv")),
        ("conv_norm", json!("weight_norm")),
        ("pad_mode", json!("reflect")),
        ("layernorm", json!("LN")),
        ("hidden_act", json!("silu")),
        ("std_dist_type", json!("fix")),
        ("corpus_normalize", json!(0.5)),
        ("trim_right_ratio", json!(0.5)),
        ("layer_scale_init_value", json!(0)),
        ("channels", json!(2)),
    ] {
        let field = format!("{acoustic}{name}");
        fields(&[(&field, value, &[&field, "is not supported"])]);
    }
    let head = "diffusion_head_config.";
    for (name, value) in [
        ("prediction_type", json!("epsilon")),
        ("diffusion_type", json!("flow")),
        ("ddpm_beta_schedule", json!("linear")),
        ("hidden_act", json!("gelu")),
        ("mlp_bias", json!(true)),
        ("diffusion_max_period", json!(5000)),
    ] {
        let field = format!("{head}{name}");
        fields(&[(&field, value, &[&field, "is not supported"])]);
    }
    fields(&[
        (
            "semantic_tokenizer_config.causal",
            json!(false),
            &["semantic_tokenizer_config.causal"],
        ),
        (
            "decoder_config.model_type",
            json!("llama"),
            &["decoder_config.model_type llama", "qwen2"],
        ),
        (
            "decoder_config.hidden_act",
            json!("gelu"),
            &["decoder_config.hidden_act gelu"],
        ),
        (
            "quantization_config",
            json!({"quant_method": "bitsandbytes"}),
            &["quantization_config bitsandbytes"],
        ),
    ]);
}

#[test]
fn fields_out_of_range_are_refused() {
    fields(&[
        (
            "acoustic_tokenizer_config",
            Value::Null,
            &["`acoustic_tokenizer_config` is missing"],
        ),
        (
            "decoder_config",
            Value::Null,
            &["`decoder_config` is missing"],
        ),
        (
            "diffusion_head_config",
            Value::Null,
            &["`diffusion_head_config` is missing"],
        ),
        (
            "decoder_config.hidden_size",
            Value::Null,
            &["`decoder_config.hidden_size` is missing"],
        ),
        (
            "acoustic_tokenizer_config.encoder_ratios",
            json!([]),
            &["encoder_ratios` is an empty list"],
        ),
        (
            "acoustic_tokenizer_config.encoder_ratios",
            json!([0, 2, 4]),
            &["encoder_ratios` is 0"],
        ),
        (
            "acoustic_tokenizer_config.encoder_ratios",
            json!(vec![2; 13]),
            &["a list of 13"],
        ),
        (
            "semantic_tokenizer_config.encoder_ratios",
            json!([64, 64, 64, 64]),
            &["semantic_tokenizer_config.encoder_depths` is a list of 4, expected 5 numbers"],
        ),
        (
            "acoustic_tokenizer_config.encoder_depths",
            json!("1-1-2"),
            &["a list of 3", "4 numbers"],
        ),
        (
            "acoustic_tokenizer_config.encoder_depths",
            json!("1-1-x-2"),
            &["\"1-1-x-2\"", "hyphens"],
        ),
        (
            "acoustic_tokenizer_config.encoder_depths",
            json!("1-1-0-2"),
            &["hyphens"],
        ),
        (
            "acoustic_tokenizer_config.decoder_depths",
            json!("1"),
            &["decoder_depths", "4 numbers"],
        ),
        (
            "acoustic_tokenizer_config.layernorm_eps",
            json!(0),
            &["layernorm_eps` is 0"],
        ),
        (
            "acoustic_tokenizer_config.fix_std",
            json!(-1),
            &["fix_std` is -1"],
        ),
        (
            "diffusion_head_config.head_layers",
            json!(0),
            &["head_layers` is 0"],
        ),
        (
            "diffusion_head_config.head_ffn_ratio",
            json!(1e-3),
            &["head_ffn_ratio` is 0.001"],
        ),
        (
            "diffusion_head_config.frequency_embedding_size",
            json!(255),
            &["an even number"],
        ),
        (
            "diffusion_head_config.ddpm_num_steps",
            json!(0),
            &["ddpm_num_steps` is 0"],
        ),
        (
            "tie_word_embeddings",
            json!("yes"),
            &["`tie_word_embeddings` is \"yes\""],
        ),
    ]);
}

#[test]
fn what_is_said_twice_must_agree() {
    fields(&[
        (
            "acoustic_vae_dim",
            json!(9),
            &["`acoustic_tokenizer_config.vae_dim` is 8", "is 9"],
        ),
        ("acostic_vae_dim", json!(9), &["`acostic_vae_dim` is 9"]),
        (
            "semantic_vae_dim",
            json!(9),
            &["`semantic_tokenizer_config.vae_dim` is 12"],
        ),
        (
            "acoustic_tokenizer_config.hidden_size",
            json!(9),
            &["vae_dim` is 8", "hidden_size` is 9"],
        ),
        (
            "acoustic_tokenizer_config.depths",
            json!([1, 1, 1, 1]),
            &["[1, 1, 2, 2]", "[1, 1, 1, 1]"],
        ),
        (
            "acoustic_tokenizer_config.downsampling_ratios",
            json!([5, 4, 2]),
            &[
                "encoder_ratios` is [5, 4, 2]",
                "downsampling_ratios` is [5, 4, 2]",
            ],
        ),
        (
            "acoustic_tokenizer_config.decoder_ratios",
            json!([5, 2, 4]),
            &["decoder_ratios` is [5, 2, 4]"],
        ),
        (
            "acoustic_tokenizer_config.decoder_n_filters",
            json!(8),
            &["decoder_n_filters` is 8"],
        ),
        (
            "acoustic_tokenizer_config.vae_std",
            json!(0.5),
            &["fix_std` is 0.625", "vae_std` is 0.5"],
        ),
        (
            "semantic_tokenizer_config.encoder_ratios",
            json!([5, 4, 4]),
            &[
                "of 40 samples a frame",
                "`semantic_tokenizer_config.encoder_ratios` is of 80",
            ],
        ),
        (
            "diffusion_head_config.hidden_size",
            json!(32),
            &["hidden_size` is 32", "64", "language model"],
        ),
        (
            "diffusion_head_config.latent_size",
            json!(4),
            &["latent_size` is 4", "8", "acoustic codec"],
        ),
        (
            "diffusion_head_config.speech_vae_dim",
            json!(4),
            &["speech_vae_dim` is 4"],
        ),
        (
            "diffusion_head_config.intermediate_size",
            json!(100),
            &["is 192", "intermediate_size` is 100"],
        ),
        (
            "num_head_layers",
            json!(3),
            &["`num_head_layers` is 3", "head_layers` is 2"],
        ),
        (
            "tie_word_embeddings",
            json!(false),
            &[
                "`decoder_config.tie_word_embeddings` is true",
                "`tie_word_embeddings` is false",
            ],
        ),
        (
            "text_config",
            json!({}),
            &["`decoder_config` is an object, and `text_config` is another"],
        ),
    ]);
}

#[test]
fn the_other_forms_are_looked_at_as_closely() {
    let made = make(&tiny());
    let original = tiny().config_json();
    let cases: [(Value, &str, Value, &[&str]); 5] = [
        (
            flat(&original),
            "prediction_type",
            json!("sample"),
            &["prediction_type sample"],
        ),
        (
            flat(&original),
            "hidden_size",
            json!(32),
            &["`hidden_size` is 32, expected 64"],
        ),
        (
            flat(&original),
            "num_head_layers",
            Value::Null,
            &["diffusion_head_config` is missing"],
        ),
        (
            nested(&original),
            "audio_config.hidden_act",
            json!("relu"),
            &["audio_config.hidden_act"],
        ),
        (
            nested(&original),
            "audio_config.hidden_size",
            json!(6),
            &["latent_size` is 8, expected 6"],
        ),
    ];
    for (mut config, path, value, expected) in cases {
        set(&mut config, path, &value);
        write_json(&made.dir, "config.json", &config);
        refused(&made, expected);
    }
}

#[test]
fn other_systems_are_refused_by_name_wherever_they_are_opened() {
    let made = make(&tiny());
    for (model_type, expected) in [
        (
            "vibevoice_streaming",
            "model_type vibevoice_streaming (VibeVoice-Realtime)",
        ),
        ("vibevoice_asr", "model_type vibevoice_asr (VibeVoice-ASR)"),
        ("vibevoice_new", "model_type vibevoice_new is not supported"),
    ] {
        edit(&made.dir, |config| config["model_type"] = model_type.into());
        refused(&made, &[expected, "supported: vibevoice"]);
        let text = Checkpoint::open(&made.dir).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    edit(&made.dir, |config| config["model_type"] = "llama".into());
    refused(&made, &["model_type llama"]);
    edit(&made.dir, |config| {
        config["model_type"] = "vibevoice".into();
        config["architectures"] = json!(["VibeVoiceForASRTraining"]);
    });
    refused(&made, &["architectures[0] VibeVoiceForASRTraining"]);
    edit(&made.dir, |config| config["model_type"] = Value::Null);
    refused(&made, &["`model_type` is missing"]);
}

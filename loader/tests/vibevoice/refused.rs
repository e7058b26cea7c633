//! Every checkpoint that is not as it should be is refused with the file, the field or tensor, and a
//! next step.

use loader::{Checkpoint, Error, VibeVoice};
use serde_json::{Value, json};

use crate::common::{put_together, take_apart};
use crate::forms::{flat, nested};
use crate::opened::converted;
use crate::{Made, edit, make, rename, tiny, write_json};

fn refused(made: &Made, expected: &[&str]) -> Error {
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

fn set(config: &mut Value, path: &str, value: &Value) {
    let at = path
        .split('.')
        .fold(config, |config, part| &mut config[part]);
    *at = value.clone();
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
            &made,
            extra,
            json!({"dtype": "BF16", "shape": [1]}),
            &[0, 0],
        );
        refused(&made, &[extra, "is not part of a VibeVoice model"]);
    }
    let made = make(&tiny());
    add(
        &made,
        "model.language_model.layers.3.norm.weight",
        json!({"dtype": "BF16", "shape": [1]}),
        &[0, 0],
    );
    refused(&made, &["layers.3.norm.weight is one of layer 3", "is 3"]);
    // What the reference computes itself may stay.
    let made = make(&tiny());
    let name = "model.language_model.rotary_emb.inv_freq";
    add(&made, name, json!({"dtype": "BF16", "shape": [1]}), &[0, 0]);
    let opened = VibeVoice::open(&made.dir).unwrap();
    assert_eq!(opened.language.unread().len(), 1);
}

/// Puts a tensor at the end of the file, in the place of one of that name.
fn add(made: &Made, name: &str, mut tensor: Value, bytes: &[u8]) {
    let file = made.dir.join("model.safetensors");
    let mut parts = take_apart(&file);
    let end = parts.data.len();
    parts.data.extend(bytes);
    tensor["data_offsets"] = json!([end, parts.data.len()]);
    parts.header[name] = tensor;
    put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
}

/// Changes how the header describes a tensor.
fn described(made: &Made, name: &str, field: &str, value: Value) {
    let file = made.dir.join("model.safetensors");
    let mut parts = take_apart(&file);
    parts.header[name][field] = value;
    put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
}

#[test]
fn wrong_shapes_and_dtypes_are_named() {
    let made = make(&tiny());
    let name = "model.acoustic_tokenizer.encoder.downsample_layers.1.0.conv.conv.weight";
    described(&made, name, "shape", json!([4, 8, 4]));
    refused(&made, &[name, "shape [4, 8, 4]", "calls for [8, 4, 4]"]);
    let made = make(&tiny());
    let name = "model.prediction_head.cond_proj.weight";
    described(&made, name, "dtype", json!("I16"));
    refused(&made, &[name, "stored as I16"]);
    let made = make(&tiny());
    described(&made, "model.speech_scaling_factor", "shape", json!([1]));
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
    add(&made, "lm_head.weight", described.clone(), &copy);
    let opened = VibeVoice::open(&made.dir).unwrap();
    assert_eq!(opened.language.unread().len(), 1);
    let made = make(&tiny());
    copy[0] ^= 1;
    add(&made, "lm_head.weight", described, &copy);
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

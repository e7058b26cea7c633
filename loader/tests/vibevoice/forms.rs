//! The three forms of `config.json` say the same of the same checkpoint, and what they leave out is
//! what the reference takes.

use loader::{ModelConfig, VibeVoice, VibeVoiceConfig};
use serde_json::{Value, json};

use crate::edits::{edit, read_json, rename, write_json};
use crate::opened::converted;
use crate::{make, tiny};

/// What the original says, in the words of transformers.
fn codec(original: &Value) -> Value {
    let mut ratios = original["encoder_ratios"].as_array().unwrap().clone();
    ratios.reverse();
    let depths = original["encoder_depths"].as_str().unwrap().split('-');
    let depths: Vec<usize> = depths.map(|depth| depth.parse().unwrap()).collect();
    json!({
        "channels": 1,
        "hidden_size": original["vae_dim"],
        "kernel_size": 7,
        "rms_norm_eps": original["layernorm_eps"],
        "layer_scale_init_value": 1e-6,
        "num_filters": original["encoder_n_filters"],
        "downsampling_ratios": ratios,
        "depths": depths,
        "hidden_act": "gelu",
        "ffn_expansion": 4,
        "vae_std": 0.625,
    })
}

pub fn nested(original: &Value) -> Value {
    let mut text = original["decoder_config"].clone();
    let fields = text.as_object_mut().unwrap();
    fields.remove("torch_dtype").unwrap();
    let theta = fields.remove("rope_theta").unwrap();
    text["rope_parameters"] = json!({"rope_type": "default", "rope_theta": theta});
    let head = &original["diffusion_head_config"];
    json!({
        "architectures": ["VibeVoiceForConditionalGeneration"],
        "model_type": "vibevoice",
        "dtype": "bfloat16",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "audio_config": codec(&original["acoustic_tokenizer_config"]),
        "semantic_model_config": codec(&original["semantic_tokenizer_config"]),
        "text_config": text,
        "diffusion_head_config": {
            "diffusion_max_period": 10000,
            "frequency_embedding_size": 256,
            "hidden_act": "silu",
            "hidden_size": head["hidden_size"],
            "intermediate_size": 192,
            "latent_size": head["latent_size"],
            "mlp_bias": false,
            "num_hidden_layers": head["head_layers"],
            "rms_norm_eps": 1e-5,
        },
    })
}

pub fn flat(original: &Value) -> Value {
    let mut config = nested(original);
    let root = config.as_object_mut().unwrap();
    root.remove("diffusion_head_config");
    for (name, value) in [
        (
            "num_head_layers",
            original["diffusion_head_config"]["head_layers"].clone(),
        ),
        ("intermediate_size", json!(192)),
        ("rms_norm_eps", json!(1e-5)),
        ("hidden_act", json!("silu")),
        ("ddpm_beta_schedule", json!("squaredcos_cap_v2")),
        ("ddpm_num_steps", json!(1000)),
        ("ddpm_num_inference_steps", json!(20)),
        ("prediction_type", json!("v_prediction")),
    ] {
        root.insert(name.into(), value);
    }
    config
}

fn parse(config: &Value) -> (VibeVoiceConfig, ModelConfig) {
    VibeVoiceConfig::parse(config.to_string().as_bytes()).unwrap()
}

#[test]
fn the_three_forms_say_the_same() {
    let original = tiny().config_json();
    let (config, language) = parse(&original);
    assert_eq!(config.acoustic.ratios, [2, 4, 5]);
    assert_eq!(config.acoustic.encoder_depths, [1, 1, 2, 2]);
    assert_eq!(config.acoustic.decoder_depths, [2, 2, 1, 1]);
    assert_eq!(config.acoustic.noise_std, 0.625);
    assert_eq!(config.semantic.noise_std, 0.0);
    for form in [nested(&original), flat(&original)] {
        let (other, other_language) = parse(&form);
        assert_eq!(other, config);
        assert_eq!(other_language, language);
    }
}

#[test]
fn any_form_goes_with_any_names() {
    let original = tiny().config_json();
    for is_converted in [false, true] {
        let made = make(&tiny());
        if is_converted {
            rename(&made.dir, |name| Some(converted(name)));
        }
        for form in [original.clone(), nested(&original), flat(&original)] {
            write_json(&made.dir, "config.json", &form);
            assert_eq!(VibeVoice::open(&made.dir).unwrap().config, tiny().config);
        }
    }
}

#[test]
fn what_is_left_out_is_what_the_reference_takes() {
    let mut original = tiny().config_json();
    for name in ["acoustic_tokenizer_config", "semantic_tokenizer_config"] {
        original[name] = json!({});
    }
    let dims = ["acoustic_vae_dim", "semantic_vae_dim"];
    for name in dims {
        original[name] = Value::Null;
    }
    original["diffusion_head_config"] = json!({});
    let (config, _) = parse(&original);
    let codec = &config.acoustic;
    assert_eq!((codec.latent, codec.filters, codec.hop()), (64, 32, 3200));
    assert_eq!(codec.decoder_depths, [8, 3, 3, 3, 3, 3, 3]);
    assert_eq!((codec.kernel, codec.ffn_expansion), (7, 4));
    assert_eq!((codec.norm_eps, codec.noise_std), (1e-5, 0.625));
    let head = &config.head;
    assert_eq!(
        (head.layers, head.hidden, head.ffn, head.latent),
        (4, 64, 192, 64)
    );
    assert_eq!(
        (head.frequency, head.train_steps, head.inference_steps),
        (256, 1000, 20)
    );
    assert_eq!((config.sample_rate, config.target_dbfs), (24_000, -25.0));
    assert_eq!((config.voice_eps, config.connector_eps), (1e-6, 1e-6));
    assert_eq!(config.tokenizer_name, None);
}

#[test]
fn a_tie_is_said_where_it_is_said() {
    let tied = |change: fn(&mut Value)| {
        let mut config = tiny().config_json();
        config["decoder_config"]["tie_word_embeddings"] = Value::Null;
        change(&mut config);
        parse(&config).1.tied_embeddings
    };
    assert!(!tied(|_| {}));
    assert!(tied(|config| config["tie_word_embeddings"] = true.into()));
    assert!(!tied(|config| config["tie_word_embeddings"] = false.into()));
    assert!(tied(|config| {
        config["decoder_config"]["tie_word_embeddings"] = true.into();
        config["tie_word_embeddings"] = true.into();
    }));
}

#[test]
fn depths_and_widths_of_a_decoder_may_be_said() {
    let made = make(&tiny());
    edit(&made.dir, |config| {
        let codec = &mut config["acoustic_tokenizer_config"];
        codec["decoder_depths"] = Value::Null;
        codec["decoder_ratios"] = Value::Null;
        codec["encoder_depths"] = json!([1, 1, 2, 2]);
    });
    assert_eq!(VibeVoice::open(&made.dir).unwrap().config, tiny().config);
    edit(&made.dir, |config| {
        config["acoustic_tokenizer_config"]["decoder_depths"] = "2-1-1-1".into();
    });
    // The tensors of the block that is gone are read by nothing.
    let error = VibeVoice::open(&made.dir).unwrap_err().to_string();
    assert!(error.contains("decoder.stages.1.1."), "{error}");
}

#[test]
fn later_conversions_say_elsewhere_how_voices_are_prepared() {
    let made = make(&tiny());
    std::fs::remove_file(made.dir.join("preprocessor_config.json")).unwrap();
    let config = VibeVoice::open(&made.dir).unwrap().config;
    assert_eq!((config.sample_rate, config.tokenizer_name), (24_000, None));
    let processor = json!({"feature_extractor": {"sampling_rate": 16_000, "target_dB_FS": -20,
        "normalize_audio": true, "eps": 1e-5}});
    write_json(&made.dir, "processor_config.json", &processor);
    let config = VibeVoice::open(&made.dir).unwrap().config;
    assert_eq!((config.sample_rate, config.target_dbfs), (16_000, -20.0));
    assert_eq!(config.voice_eps, 1e-5);
    // Flat, as between the two.
    write_json(
        &made.dir,
        "preprocessor_config.json",
        &processor["feature_extractor"],
    );
    assert_eq!(
        VibeVoice::open(&made.dir).unwrap().config.sample_rate,
        16_000
    );
    assert_eq!(read_json(&made.dir, "processor_config.json"), processor);
}

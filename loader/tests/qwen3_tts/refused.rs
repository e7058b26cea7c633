//! A config.json that says what cannot be computed, or what does not fit together, is refused with
//! the field and a next step.

use loader::{Error, Qwen3Tts};
use serde_json::{Value, json};

use crate::edits::{set, write_json};
use crate::{Made, make, tiny};

pub fn refused(made: &Made, expected: &[&str]) -> Error {
    let error = Qwen3Tts::open(&made.dir).unwrap_err();
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{text}\n{part}");
    }
    assert!(text.len() < 1000, "{text}");
    assert!(error.hint().is_some(), "{text}");
    error
}

type Case<'a> = (&'a str, Value, &'a [&'a str]);

/// Each field of config.json with this value.
fn fields(cases: &[Case<'_>]) {
    let made = make(&tiny());
    for (path, value, expected) in cases {
        let mut config = tiny().config_json();
        set(&mut config, path, value);
        write_json(&made.dir, "config.json", &config);
        refused(&made, expected);
    }
}

/// The same of the codec's.
fn codec_fields(cases: &[Case<'_>]) {
    let made = make(&tiny());
    for (path, value, expected) in cases {
        let mut config = tiny().codec_json();
        set(&mut config, path, value);
        write_json(&made.codec(), "config.json", &config);
        refused(&made, expected);
    }
}

#[test]
fn kin_is_refused_by_name() {
    fields(&[
        (
            "tts_model_type",
            json!("base"),
            &[
                "tts_model_type base (which copies the voice of a recording)",
                "custom_voice",
            ],
        ),
        (
            "tts_model_type",
            json!("voice_design"),
            &["voice_design (which makes a voice from its description)"],
        ),
        (
            "tokenizer_type",
            json!("qwen3_tts_tokenizer_25hz"),
            &[
                "(the codec of 25 frames a second)",
                "qwen3_tts_tokenizer_12hz",
            ],
        ),
        (
            "model_type",
            json!("qwen3_tts_talker"),
            &["(the talker by itself)"],
        ),
        ("model_type", json!("llama"), &["model_type llama"]),
        ("model_type", Value::Null, &["`model_type` is missing"]),
        (
            "tts_model_type",
            Value::Null,
            &["`tts_model_type` is missing"],
        ),
        (
            "tts_model_size",
            Value::Null,
            &["`tts_model_size` is missing"],
        ),
        (
            "architectures",
            json!(["Other"]),
            &["architectures[0] Other"],
        ),
    ]);
    codec_fields(&[(
        "model_type",
        json!("qwen3_tts_tokenizer_25hz"),
        &["speech_tokenizer", "model_type qwen3_tts_tokenizer_25hz"],
    )]);
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    for object in ["talker_config", "talker_config.code_predictor_config"] {
        for (name, value) in [
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("tie_word_embeddings", json!(true)),
            ("use_sliding_window", json!(true)),
            ("model_type", json!("qwen3")),
            ("quantization_config", json!({"quant_method": "awq"})),
        ] {
            let field = format!("{object}.{name}");
            fields(&[(&field, value, &[&field, "is not supported"])]);
        }
    }
    let linear = json!({"rope_type": "linear", "factor": 2.0});
    let path = "talker_config.code_predictor_config.rope_scaling";
    fields(&[(path, linear, &[path, "not stretched"])]);
    for (name, value) in [
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("num_semantic_quantizers", json!(2)),
        ("rope_scaling", json!({"rope_type": "yarn"})),
    ] {
        let field = format!("decoder_config.{name}");
        codec_fields(&[(&field, value, &[&field, "is not supported"])]);
    }
}

#[test]
fn fields_that_are_missing_or_out_of_range_are_refused() {
    let talker: [Case<'_>; 18] = [
        (
            "talker_config",
            Value::Null,
            &["`talker_config` is missing"],
        ),
        (
            "talker_config.head_dim",
            Value::Null,
            &["head_dim` is missing"],
        ),
        (
            "talker_config.num_key_value_heads",
            Value::Null,
            &["num_key_value_heads` is missing"],
        ),
        (
            "talker_config.text_vocab_size",
            Value::Null,
            &["text_vocab_size` is missing"],
        ),
        (
            "talker_config.text_hidden_size",
            json!(0),
            &["text_hidden_size` is 0"],
        ),
        (
            "talker_config.vocab_size",
            json!(1024),
            &["vocab_size` is 1024, expected more than"],
        ),
        (
            "talker_config.code_predictor_config",
            Value::Null,
            &["code_predictor_config` is missing"],
        ),
        (
            "talker_config.codec_eos_token_id",
            json!(1088),
            &["eos_token_id` is 1088", "below 1088"],
        ),
        (
            "talker_config.codec_pad_id",
            Value::Null,
            &["`talker_config.codec_pad_id` is missing"],
        ),
        (
            "tts_eos_token_id",
            json!(512),
            &["`tts_eos_token_id` is 512", "below 512"],
        ),
        (
            "talker_config.spk_id",
            json!({}),
            &["spk_id` is empty", "at least one"],
        ),
        (
            "talker_config.spk_id.alto",
            json!([1, 2]),
            &["`talker_config.spk_id.alto` is [1,2]"],
        ),
        (
            "talker_config.spk_id",
            json!({"Alto": 3}),
            &["with \"Alto\"", "lower case"],
        ),
        (
            "talker_config.spk_is_dialect",
            json!({"alto": false}),
            &["spk_is_dialect.bass` is missing"],
        ),
        (
            "talker_config.spk_is_dialect.bass",
            json!("scots"),
            &["is \"scots\"", "codec_language_id"],
        ),
        (
            "talker_config.spk_is_dialect.bass",
            json!(true),
            &["is true", "codec_language_id"],
        ),
        (
            "talker_config.codec_language_id.english",
            json!(-1),
            &["codec_language_id.english` is -1"],
        ),
        (
            "talker_config.num_code_groups",
            json!(1),
            &["num_code_groups` is 1"],
        ),
    ];
    fields(&talker);
    codec_fields(&[
        (
            "decoder_config",
            Value::Null,
            &["`decoder_config` is missing"],
        ),
        (
            "decoder_config.codebook_dim",
            json!(15),
            &["codebook_dim` is 15", "even"],
        ),
        (
            "decoder_config.codebook_dim",
            Value::Null,
            &["codebook_dim` is missing"],
        ),
        (
            "decoder_config.decoder_dim",
            json!(40),
            &["decoder_dim` is 40", "a multiple of 16"],
        ),
        (
            "decoder_config.upsample_rates",
            json!([]),
            &["a list of 0", "1 to 12"],
        ),
        (
            "decoder_config.upsample_rates",
            json!([3, 0]),
            &["upsample_rates` is 0"],
        ),
        (
            "decoder_config.upsample_rates",
            json!([64, 64, 64, 64]),
            &["whose product is at most"],
        ),
        (
            "decoder_config.num_key_value_heads",
            json!(3),
            &["a divisor of num_attention_heads"],
        ),
        ("decoder_config.head_dim", json!(7), &["head_dim` is 7"]),
        (
            "decoder_config.rms_norm_eps",
            json!(0),
            &["rms_norm_eps` is 0"],
        ),
        (
            "decoder_config.num_quantizers",
            json!(1),
            &["num_quantizers` is 1"],
        ),
    ]);
}

#[test]
fn long_names_make_short_messages() {
    let name = "a".repeat(100_000);
    fields(&[
        (
            "talker_config.spk_id",
            json!({&name: -1}),
            &["spk_id.aaaa", "is -1"],
        ),
        (
            "talker_config.spk_id",
            json!({&name: 1}),
            &["spk_is_dialect.aaaa", "is missing"],
        ),
    ]);
}

#[test]
fn what_is_said_twice_must_agree() {
    fields(&[
        (
            "talker_config.code_predictor_config.num_code_groups",
            json!(5),
            &["num_code_groups` is 4", "num_code_groups` is 5"],
        ),
        (
            "talker_config.code_predictor_config.vocab_size",
            json!(65),
            &[
                "vocab_size in",
                "is 65",
                "decoder_config.codebook_size in",
                "is 64",
            ],
        ),
        (
            "talker_config.vocab_size",
            json!(1089),
            &["is 1089, of which 65 are spoken", "codebook_size"],
        ),
    ]);
    codec_fields(&[
        (
            "decoder_config.num_quantizers",
            json!(5),
            &[
                "num_code_groups in",
                "is 4",
                "decoder_config.num_quantizers in",
                "is 5",
            ],
        ),
        (
            "decode_upsample_rate",
            json!(1920),
            &["`decode_upsample_rate` is 1920", "of 96 samples a frame"],
        ),
    ]);
}

#[test]
fn suggestions_out_of_range_are_refused() {
    for (content, expected) in [
        (json!({"temperature": 0}), "`temperature` is 0"),
        (
            json!({"subtalker_temperature": -1}),
            "`subtalker_temperature` is -1",
        ),
        (json!({"subtalker_top_p": 1.5}), "`subtalker_top_p` is 1.5"),
        (json!({"top_k": -1}), "`top_k` is -1"),
        (
            json!({"subtalker_dosample": 1}),
            "`subtalker_dosample` is 1",
        ),
        (json!({"max_new_tokens": 0}), "`max_new_tokens` is 0"),
        (
            json!({"repetition_penalty": 0}),
            "`repetition_penalty` is 0",
        ),
    ] {
        let made = make(&tiny());
        write_json(&made.dir, "generation_config.json", &content);
        refused(&made, &["generation_config.json", expected]);
    }
}

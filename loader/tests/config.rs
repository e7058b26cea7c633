//! `config.json` and `generation_config.json`: both generations, every default, every refusal.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

use loader::{DType, Family, GenerationConfig, ModelConfig, Rope, RopeScaling};
use serde_json::{Value, json};

fn base(architecture: &str) -> Value {
    json!({
        "architectures": [architecture],
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    })
}

fn with(architecture: &str, extra: Value) -> Value {
    let mut config = base(architecture);
    for (field, value) in extra.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn parse(config: Value) -> ModelConfig {
    ModelConfig::parse(config.to_string().as_bytes()).unwrap()
}

const LLAMA: &str = "LlamaForCausalLM";
const MISTRAL: &str = "MistralForCausalLM";
const QWEN2: &str = "Qwen2ForCausalLM";
const QWEN3: &str = "Qwen3ForCausalLM";

#[test]
fn absent_fields_mean_what_they_mean_to_the_reference() {
    let llama = parse(base(LLAMA));
    assert_eq!(llama.family, Family::Llama);
    assert_eq!((llama.head_dim, llama.max_positions), (8, 2048));
    assert_eq!(llama.norm_eps, 1e-6);
    let plain = Rope {
        theta: 10_000.0,
        scaling: RopeScaling::None,
    };
    assert_eq!(llama.rope, plain);
    assert!(!llama.qkv_bias && !llama.out_bias && !llama.mlp_bias && !llama.qk_norm);
    assert!(!llama.tied_embeddings);
    assert_eq!((llama.dtype, llama.bos_token_id), (None, None));
    assert!(llama.eos_token_ids.is_empty());
    assert_eq!(llama.windows, [None; 4]);

    let mistral = parse(base(MISTRAL));
    assert_eq!(mistral.windows, [Some(4096); 4]);
    assert_eq!(mistral.max_positions, 131_072);

    let qwen2 = parse(base(QWEN2));
    assert!(qwen2.qkv_bias && !qwen2.out_bias && !qwen2.qk_norm);
    assert_eq!(qwen2.windows, [None; 4]);

    let qwen3 = parse(base(QWEN3));
    assert!(!qwen3.qkv_bias && qwen3.qk_norm);
    assert_eq!(qwen3.head_dim, 128);
    assert_eq!(qwen3.q_size(), 1024);

    // Without its own number of key heads, each family has its default; null means "as queries".
    for (architecture, expected) in [(LLAMA, 32), (MISTRAL, 8), (QWEN2, 32), (QWEN3, 32)] {
        let mut config = with(architecture, json!({"num_attention_heads": 32}));
        config
            .as_object_mut()
            .unwrap()
            .remove("num_key_value_heads");
        assert_eq!(parse(config.clone()).kv_heads, expected);
        config["num_key_value_heads"] = Value::Null;
        assert_eq!(parse(config).kv_heads, 32);
    }
}

#[test]
fn both_generations_say_the_same() {
    let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"});
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500_000.0);
    let older = with(
        LLAMA,
        json!({"torch_dtype": "bfloat16", "rope_theta": 500_000, "rope_scaling": scaling}),
    );
    let newer = with(
        LLAMA,
        json!({"dtype": "bfloat16", "rope_parameters": parameters}),
    );
    let config = parse(older);
    assert_eq!(config, parse(newer));
    assert_eq!(config.dtype, Some(DType::Bf16));
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    assert_eq!(
        (config.rope.theta, config.rope.scaling),
        (500_000.0, expected)
    );

    for (field, value) in [
        ("rope_scaling", json!({"type": "linear", "factor": 2})),
        (
            "rope_parameters",
            json!({"rope_type": "linear", "factor": 2, "rope_theta": 1e4}),
        ),
    ] {
        let config = parse(with(QWEN2, json!({field: value})));
        assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 2.0 });
        assert_eq!(config.rope.theta, 1e4);
    }
    let plain = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    assert_eq!(parse(with(QWEN3, plain)).rope.theta, 1e6);
}

#[test]
fn windows_follow_each_familys_rule() {
    let windows = |architecture, extra| parse(with(architecture, extra)).windows;
    assert_eq!(windows(MISTRAL, json!({"sliding_window": null})), [None; 4]);
    assert_eq!(windows(MISTRAL, json!({"sliding_window": 9})), [Some(9); 4]);
    assert_eq!(windows(LLAMA, json!({"sliding_window": 9})), [None; 4]);
    let off = json!({"sliding_window": 9, "max_window_layers": 0, "use_sliding_window": false});
    assert_eq!(windows(QWEN2, off), [None; 4]);
    let on = json!({"sliding_window": 9, "max_window_layers": 1, "use_sliding_window": true});
    let w = Some(9);
    assert_eq!(windows(QWEN2, on.clone()), [None, w, w, w]);
    assert_eq!(windows(QWEN3, on), [None, w, w, w]);
    let types = [
        "full_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ];
    let listed = json!({"sliding_window": 9, "use_sliding_window": true, "layer_types": types});
    assert_eq!(windows(QWEN2, listed), [None, w, None, w]);
    let config = parse(with(MISTRAL, json!({"sliding_window": 9})));
    assert_eq!((config.window(3), config.window(4)), (w, None));
}

#[test]
fn tokens_biases_and_sizes() {
    let config = parse(with(
        LLAMA,
        json!({"eos_token_id": [1, 2], "bos_token_id": 3, "attention_bias": true,
            "mlp_bias": true, "tie_word_embeddings": true, "head_dim": 12}),
    ));
    assert_eq!(
        (config.eos_token_ids.as_slice(), config.bos_token_id),
        (&[1, 2][..], Some(3))
    );
    assert!(config.qkv_bias && config.out_bias && config.mlp_bias && config.tied_embeddings);
    assert_eq!((config.q_size(), config.kv_size()), (96, 24));
    // Keys and values, 4 layers, 24 numbers of 2 bytes.
    assert_eq!(config.kv_bytes_per_position(DType::F16), 2 * 4 * 24 * 2);
    let config = parse(with(
        QWEN2,
        json!({"attention_bias": false, "eos_token_id": 7}),
    ));
    assert!(config.qkv_bias);
    assert_eq!(config.eos_token_ids, [7]);
    // The model type decides where no architecture is named.
    let mut unnamed = base(LLAMA);
    unnamed["architectures"] = json!([]);
    unnamed["model_type"] = json!("qwen3");
    assert_eq!(parse(unnamed).family, Family::Qwen3);
}

#[test]
fn everything_else_is_refused_by_name() {
    let rope = |kind: &str| json!({"rope_scaling": {"rope_type": kind, "factor": 2.0}});
    let mut cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"architectures": ["GemmaForCausalLM"]}),
            &["GemmaForCausalLM", "Qwen3"],
        ),
        (json!({"architectures": [3]}), &["`architectures` is 3"]),
        (
            json!({"architectures": null}),
            &["`architectures` is missing"],
        ),
        (
            json!({"architectures": null, "model_type": "gpt2"}),
            &["model_type gpt2"],
        ),
        (rope("yarn"), &["rope_scaling.rope_type yarn", "llama3"]),
        (rope("dynamic"), &["dynamic"]),
        (rope("longrope"), &["longrope"]),
        (
            json!({"rope_parameters": {"full_attention": {}}}),
            &["rope_parameters.full_attention"],
        ),
        (
            json!({"rope_scaling": {"type": "linear"}}),
            &["`rope_scaling.factor` is missing"],
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 0}}),
            &["factor", "positive"],
        ),
        (json!({"rope_scaling": 3}), &["`rope_scaling` is 3"]),
        (json!({"rope_theta": -1}), &["rope_theta", "-1"]),
        (
            json!({"partial_rotary_factor": 0.5}),
            &["partial_rotary_factor", "0.5"],
        ),
        (json!({"hidden_act": "gelu"}), &["hidden_act gelu", "silu"]),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            &["quantization_config gptq"],
        ),
        (
            json!({"quantization_config": []}),
            &["quantization_config of an unknown kind"],
        ),
        (
            json!({"torch_dtype": "float8_e4m3fn"}),
            &["torch_dtype float8_e4m3fn"],
        ),
        (json!({"dtype": "int8"}), &["dtype int8"]),
        (
            json!({"num_key_value_heads": 3}),
            &["`num_key_value_heads` is 3", "divisor"],
        ),
        (
            json!({"num_attention_heads": 6}),
            &["`hidden_size` is 64", "(6)"],
        ),
        (json!({"head_dim": 7}), &["`head_dim` is 7", "even"]),
        (json!({"head_dim": 1_000_000}), &["head_dim", "8192"]),
        (
            json!({"num_attention_heads": 4096, "head_dim": 66}),
            &["head_dim", "at most 64"],
        ),
        (json!({"rms_norm_eps": 0}), &["rms_norm_eps", "positive"]),
        (
            json!({"rms_norm_eps": "tiny"}),
            &["rms_norm_eps", "\"tiny\""],
        ),
        (
            json!({"tie_word_embeddings": 1}),
            &["tie_word_embeddings", "true or false"],
        ),
        (json!({"eos_token_id": -1}), &["eos_token_id"]),
        (json!({"eos_token_id": [1, "x"]}), &["eos_token_id"]),
        (json!({"bos_token_id": 4_294_967_296u64}), &["bos_token_id"]),
        (
            json!({"max_position_embeddings": 0}),
            &["max_position_embeddings"],
        ),
        (
            json!({"architectures": [QWEN2], "use_sliding_window": true, "layer_types": ["x"]}),
            &["layer_types", "a list of 1", "4 layers"],
        ),
        (
            json!({"architectures": [QWEN2], "use_sliding_window": true,
                "layer_types": ["x", "x", "x", "x"]}),
            &["layer_types", "sliding_attention"],
        ),
        (
            json!({"architectures": [QWEN2], "use_sliding_window": true, "sliding_window": null,
                "layer_types": (&["sliding_attention"; 4])}),
            &["`sliding_window` is missing"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                "high_freq_factor": 4, "original_max_position_embeddings": 8192}}),
            &["high_freq_factor", "more than low_freq_factor (4)"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                "high_freq_factor": 4}}),
            &["original_max_position_embeddings", "missing"],
        ),
    ];
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ] {
        for wrong in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("64"),
            json!(u64::MAX),
        ] {
            cases.push((json!({field: wrong}), &["a whole number from 1 to"]));
        }
        cases.push((json!({field: null}), &["is missing"]));
    }
    for (extra, words) in cases {
        let config = with(LLAMA, extra.clone()).to_string();
        let error = ModelConfig::parse(config.as_bytes()).expect_err(&extra.to_string());
        let text = error.to_string();
        assert!(text.starts_with("config.json: "), "{text}");
        for word in words {
            assert!(text.contains(word), "{extra}: {word:?} is not in: {text}");
        }
        assert!(error.hint().is_some(), "{text}");
    }
    for json in [&b""[..], b"[]", b"null", b"{", b"\xff"] {
        let error = ModelConfig::parse(json).unwrap_err().to_string();
        assert!(error.contains("config.json is not valid JSON"), "{error}");
    }
}

#[test]
fn the_largest_config_that_passes_overflows_nothing() {
    let config = parse(with(
        LLAMA,
        json!({"hidden_size": 1 << 18, "intermediate_size": 1 << 20, "num_hidden_layers": 4096,
            "num_attention_heads": 4096, "num_key_value_heads": 4096, "head_dim": 64,
            "vocab_size": 1 << 24, "max_position_embeddings": 1 << 30}),
    ));
    let layout = loader::BlockLayout::new(&config, DType::F32);
    assert!(layout.slab_bytes() > 1 << 40);
    let positions = config.max_positions as u64;
    assert!(
        config
            .kv_bytes_per_position(DType::F32)
            .checked_mul(positions)
            .is_some()
    );
}

#[test]
fn generation_configs() {
    let parse = |json: Value| GenerationConfig::parse(json.to_string().as_bytes());
    assert_eq!(parse(json!({})).unwrap(), GenerationConfig::default());
    let full = parse(
        json!({"eos_token_id": [1, 2], "bos_token_id": 3, "do_sample": true,
        "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.05,
        "transformers_version": "4.51.0"}),
    );
    let expected = GenerationConfig {
        eos_token_ids: vec![1, 2],
        bos_token_id: Some(3),
        do_sample: Some(true),
        temperature: Some(0.7),
        top_k: Some(20),
        top_p: Some(0.8),
        min_p: Some(0.1),
        repetition_penalty: Some(1.05),
    };
    assert_eq!(full.unwrap(), expected);
    for (field, wrong) in [
        ("temperature", json!(-1)),
        ("temperature", json!("hot")),
        ("top_k", json!(-1)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-0.1)),
        ("repetition_penalty", json!(0)),
        ("do_sample", json!("yes")),
        ("eos_token_id", json!({})),
    ] {
        let error = parse(json!({field: wrong})).unwrap_err().to_string();
        assert!(
            error.contains(field) && error.contains("generation_config.json"),
            "{error}"
        );
    }
}

/// The files that the reference implementation wrote, where they are beside us.
#[test]
fn fixtures_of_every_family_open() {
    let fixtures =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures");
    let Ok(entries) = std::fs::read_dir(fixtures) else {
        return;
    };
    let mut families = Vec::new();
    for entry in entries {
        let dir = entry.unwrap().path();
        if dir.join("config.json").exists() {
            let checkpoint = loader::Checkpoint::open(&dir).unwrap();
            assert_eq!(checkpoint.config.dtype, Some(checkpoint.dtype()));
            families.push(checkpoint.config.family);
        }
    }
    for family in Family::ALL {
        assert!(families.contains(&family), "{family}");
    }
}

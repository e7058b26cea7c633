//! `config.json` and `generation_config.json`: both generations, every default, every refusal.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

use loader::{
    AttentionBiases, BlockSpec, DType, Family, FeedForward, GenerationConfig, HeadNorms, Mixer,
    ModelConfig, Rope, RopePairing, RopeScaling,
};
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

fn block(biases: AttentionBiases, head_norms: HeadNorms) -> BlockSpec {
    let mixer = Mixer::Attention {
        biases,
        head_norms,
        scale: None,
    };
    BlockSpec {
        mixer,
        ..BlockSpec::PLAIN
    }
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
    assert_eq!(llama.family, Family::LLAMA);
    assert_eq!((llama.head_dim, llama.max_positions), (8, 2048));
    assert_eq!(llama.norm_eps, 1e-6);
    let plain = Rope {
        theta: 10_000.0,
        dims: 8,
        scaling: RopeScaling::None,
        pairing: RopePairing::Halves,
        divisors: None,
    };
    assert_eq!(llama.rope, plain);
    assert_eq!(llama.block, BlockSpec::PLAIN);
    assert!(!llama.tied_embeddings);
    assert_eq!((llama.dtype, llama.bos_token_id), (None, None));
    assert!(llama.eos_token_ids.is_empty());
    assert_eq!(llama.windows, [None; 4]);

    let mistral = parse(base(MISTRAL));
    assert_eq!(mistral.windows, [Some(4096); 4]);
    assert_eq!(mistral.max_positions, 131_072);

    let qwen2 = parse(base(QWEN2));
    assert_eq!(qwen2.block, block(AttentionBiases::Qkv, HeadNorms::None));
    assert_eq!(qwen2.windows, [None; 4]);

    let qwen3 = parse(base(QWEN3));
    assert_eq!(qwen3.block, block(AttentionBiases::None, HeadNorms::Each));
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
    let biased = BlockSpec {
        feed_forward: FeedForward::SwiGlu { biases: true },
        ..block(AttentionBiases::All, HeadNorms::None)
    };
    assert_eq!(config.block, biased);
    assert!(config.tied_embeddings);
    assert_eq!((config.q_size(), config.kv_size()), (96, 24));
    // Keys and values, 4 layers, 24 numbers of 2 bytes.
    assert_eq!(config.kv_bytes_per_position(DType::F16), 2 * 4 * 24 * 2);
    let config = parse(with(
        QWEN2,
        json!({"attention_bias": false, "eos_token_id": 7}),
    ));
    assert_eq!(config.block, block(AttentionBiases::Qkv, HeadNorms::None));
    assert_eq!(config.eos_token_ids, [7]);
    // The model type decides where no architecture is named.
    let mut unnamed = base(LLAMA);
    unnamed["architectures"] = json!([]);
    unnamed["model_type"] = json!("qwen3");
    assert_eq!(parse(unnamed).family, Family::QWEN3);
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
            &["`rope_scaling.factor` is 0", "a number from 1 to 1000000"],
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
        (
            json!({"rope_scaling": {"factor": 4.0}}),
            &["`rope_scaling.rope_type` is missing"],
        ),
        (
            json!({"text_config": {"num_hidden_layers": 2}}),
            &["text_config", "at the top level"],
        ),
        (
            json!({"compression_config": {"quant_method": "compressed-tensors"}}),
            &["compression_config compressed-tensors"],
        ),
        (
            json!({"layer_types": ["full_attention"]}),
            &["`layer_types` is a list of 1", "4 layers"],
        ),
        (
            json!({"layer_types": vec!["sliding_attention"; 4]}),
            &["layer_types", "sliding_attention in a Llama"],
        ),
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
fn numbers_have_bounds_that_arithmetic_in_32_bits_survives() {
    let linear = |factor: Value| json!({"rope_scaling": {"type": "linear", "factor": factor}});
    let llama3 = |low: Value| {
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": low,
            "high_freq_factor": 4, "original_max_position_embeddings": 8192}})
    };
    let within = [
        json!({"rms_norm_eps": 1e-12}),
        json!({"rms_norm_eps": 1}),
        json!({"rope_theta": 1}),
        json!({"rope_theta": 4.5e10}),
        linear(json!(1)),
        linear(json!(1e6)),
        llama3(json!(0.5)),
    ];
    for extra in within {
        parse(with(LLAMA, extra));
    }
    let beyond = [
        (json!({"rms_norm_eps": 1e300}), "from 1e-12 to 1"),
        (json!({"rms_norm_eps": -1e-5}), "rms_norm_eps` is -0.00001"),
        (json!({"rms_norm_eps": 0}), "rms_norm_eps` is 0"),
        (json!({"rms_norm_eps": 1e-300}), "1e-300"),
        (json!({"rms_norm_eps": "NaN"}), "\"NaN\""),
        (json!({"rope_theta": 1e300}), "from 1 to 1e16"),
        (json!({"rope_theta": 0.5}), "from 1 to 1e16"),
        (linear(json!(0.5)), "from 1 to 1000000"),
        (linear(json!(1e300)), "from 1 to 1000000"),
        (llama3(json!(1e-300)), "from 1e-6 to 1000000"),
    ];
    for (extra, words) in beyond {
        let error = ModelConfig::parse(with(LLAMA, extra).to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    for number in ["NaN", "Infinity", "1e999"] {
        let config = base(LLAMA).to_string();
        let config = config.replacen('{', &format!("{{\"rms_norm_eps\": {number},"), 1);
        let error = ModelConfig::parse(config.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("not valid JSON"), "{error}");
    }
}

/// What is said twice and the same is fine; what is said twice and differently is refused, with
/// both.
#[test]
fn what_is_said_twice_must_be_the_same() {
    let linear = |factor: f64| json!({"rope_type": "linear", "factor": factor});
    let llama3 = |low: f64| {
        json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": low, "high_freq_factor": 4,
            "original_max_position_embeddings": 8192})
    };
    let mut both_names = llama3(1.0);
    both_names["type"] = json!("llama3");
    let same = [
        (LLAMA, json!({"model_type": "llama"})),
        (LLAMA, json!({"architectures": [LLAMA, LLAMA]})),
        (
            LLAMA,
            json!({"torch_dtype": "float16", "dtype": "torch.float16"}),
        ),
        (LLAMA, json!({"torch_dtype": null, "dtype": "float16"})),
        (
            LLAMA,
            json!({"rope_scaling": linear(4.0), "rope_parameters": linear(4.0)}),
        ),
        (
            LLAMA,
            json!({"rope_scaling": null, "rope_parameters": linear(4.0)}),
        ),
        (
            LLAMA,
            json!({"rope_scaling": {}, "rope_parameters": linear(4.0)}),
        ),
        (LLAMA, json!({"rope_scaling": both_names})),
        (
            LLAMA,
            json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 500_000}}),
        ),
        (
            LLAMA,
            json!({"rope_scaling": llama3(1.0), "original_max_position_embeddings": 8192}),
        ),
        (LLAMA, json!({"layer_types": vec!["full_attention"; 4]})),
        (
            MISTRAL,
            json!({"sliding_window": 9, "layer_types": vec!["sliding_attention"; 4]}),
        ),
        (
            MISTRAL,
            json!({"sliding_window": null, "layer_types": vec!["full_attention"; 4]}),
        ),
        (
            QWEN2,
            json!({"sliding_window": 9, "layer_types": vec!["full_attention"; 4]}),
        ),
    ];
    for (architecture, extra) in same {
        parse(with(architecture, extra));
    }
    let top = json!({"rope_scaling": llama3(1.0), "original_max_position_embeddings": 4096});
    let types = json!({"rope_scaling": {"rope_type": "llama3", "type": "linear", "factor": 8.0}});
    let in_map =
        json!({"rope_scaling": {"rope_theta": 2e4}, "rope_parameters": {"rope_theta": 3e4}});
    let differently: Vec<(&str, Value, &str)> = vec![
        (
            LLAMA,
            json!({"model_type": "mistral"}),
            "`architectures` is LlamaForCausalLM, and `model_type` is mistral",
        ),
        (
            LLAMA,
            json!({"architectures": [LLAMA, QWEN2]}),
            "`architectures[0]` is LlamaForCausalLM, and `architectures[1]` is \"Qwen2ForCausalLM\"",
        ),
        (
            LLAMA,
            json!({"torch_dtype": "float16", "dtype": "bfloat16"}),
            "`torch_dtype` is f16, and `dtype` is bf16",
        ),
        (
            LLAMA,
            json!({"rope_scaling": linear(4.0), "rope_parameters": linear(2.0)}),
            "`rope_scaling.factor` is 4, and `rope_parameters.factor` is 2",
        ),
        (
            LLAMA,
            json!({"rope_scaling": linear(4.0), "rope_parameters": {"rope_theta": 1e4}}),
            "`rope_scaling.rope_type` is linear, and `rope_parameters.rope_type` is default",
        ),
        (
            LLAMA,
            json!({"rope_scaling": llama3(1.0), "rope_parameters": llama3(2.0)}),
            "`rope_scaling.low_freq_factor` is 1, and `rope_parameters.low_freq_factor` is 2",
        ),
        (
            LLAMA,
            types,
            "`rope_scaling.rope_type` is llama3, and `rope_scaling.type` is linear",
        ),
        (
            LLAMA,
            json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}),
            "`rope_theta` is 10000, and `rope_parameters.rope_theta` is 500000",
        ),
        (
            LLAMA,
            in_map,
            "`rope_scaling.rope_theta` is 20000, and `rope_parameters.rope_theta` is 30000",
        ),
        (
            LLAMA,
            top,
            "`original_max_position_embeddings` is 4096, and \
             `rope_scaling.original_max_position_embeddings` is 8192",
        ),
        (
            MISTRAL,
            json!({"sliding_window": 9, "layer_types":
                ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}),
            "`sliding_window` is 9, and `layer_types[1]` is full_attention",
        ),
        (
            MISTRAL,
            json!({"sliding_window": null, "layer_types": vec!["sliding_attention"; 4]}),
            "`sliding_window` is null, and `layer_types[0]` is sliding_attention",
        ),
        (
            QWEN3,
            json!({"use_sliding_window": false, "layer_types": vec!["sliding_attention"; 4]}),
            "`use_sliding_window` is false, and `layer_types[0]` is sliding_attention",
        ),
    ];
    for (architecture, extra, words) in differently {
        let config = with(architecture, extra).to_string();
        let error = ModelConfig::parse(config.as_bytes()).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.hint().unwrap().contains("agree"), "{error}");
    }
    // Of a list and the number that it was made of, the list counts, as for the reference.
    let config = parse(with(
        QWEN2,
        json!({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 28,
            "layer_types": vec!["sliding_attention"; 4]}),
    ));
    assert_eq!(config.windows, [Some(9); 4]);
}

#[test]
fn no_key_stands_twice_in_an_object() {
    let config = base(LLAMA).to_string();
    let refuse = |text: String, words: &str| {
        let error = ModelConfig::parse(text.as_bytes()).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.hint().is_some());
    };
    refuse(
        config.replacen('{', "{\"num_hidden_layers\": 5,", 1),
        "config.json: `num_hidden_layers` is given twice, as 5 and as 4",
    );
    // The same key, spelled in two ways; and the same value, which is as little said once.
    refuse(
        config.replacen('{', "{\"num_hidden_l\\u0061yers\": 4,", 1),
        "`num_hidden_layers` is given twice, as 4 and as 4",
    );
    let nested = "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"factor\": 4},";
    refuse(
        config.replacen('{', nested, 1),
        "`rope_scaling.factor` is given twice, as 2 and as 4",
    );
    // Parts that are not read are checked, too.
    let unread = "{\"notes\": [{\"a\": {\"b\": {}, \"c\": 1, \"b\": []}}],";
    refuse(
        config.replacen('{', unread, 1),
        "`notes.a.b` is given twice, as {} and as []",
    );
    let long = format!(
        "{{\"{0}\": \"{0}\", \"{0}\": \"{0}\"}}",
        "x".repeat(100_000)
    );
    let error = ModelConfig::parse(long.as_bytes()).unwrap_err();
    assert!(error.to_string().len() < 1000, "{error}");
    let error = GenerationConfig::parse(br#"{"top_k": 1, "top_k": 2}"#).unwrap_err();
    let words = "generation_config.json: `top_k` is given twice, as 1 and as 2";
    assert_eq!(error.to_string(), words);
}

#[test]
fn the_largest_config_that_passes_overflows_nothing() {
    let config = parse(with(
        LLAMA,
        json!({"hidden_size": 1 << 18, "intermediate_size": 1 << 20, "num_hidden_layers": 4096,
            "num_attention_heads": 4096, "num_key_value_heads": 4096, "head_dim": 64,
            "vocab_size": 1 << 24, "max_position_embeddings": 1 << 30}),
    ));
    let layout = loader::BlockLayout::packed(&config.block_weights(), DType::F32);
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
            assert_eq!(
                checkpoint.config.dtype.map(DType::encoding),
                Some(checkpoint.encoding())
            );
            families.push(checkpoint.config.family);
        }
    }
    for family in Family::ALL {
        assert!(families.contains(&family), "{family}");
    }
}

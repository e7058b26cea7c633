//! What is a family's own in its `config.json`: factors for short and for long texts, norms after
//! the parts, multipliers.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

use loader::{
    AttentionBiases, BlockSpec, EndsSpec, HeadNorms, Mixer, ModelConfig, Norms, Role, RopeScaling,
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
const PHI3: &str = "Phi3ForCausalLM";
const OLMO2: &str = "Olmo2ForCausalLM";
const GRANITE: &str = "GraniteForCausalLM";

fn longrope(extra: Value) -> Value {
    let mut scaling = json!({"type": "longrope", "short_factor": [1, 1.0, 1.1, 0.9],
        "long_factor": [1, 2, 3.5, 64]});
    let mut config = json!({"max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096});
    for (field, value) in extra.as_object().unwrap() {
        match field.strip_prefix("rope_scaling.") {
            Some(inner) => scaling[inner] = value.clone(),
            None => config[field] = value.clone(),
        }
    }
    config["rope_scaling"] = scaling;
    with(PHI3, config)
}

#[test]
fn factors_for_short_and_for_long_texts() {
    let plain = parse(base(PHI3));
    assert_eq!((plain.max_positions, plain.norm_eps), (4096, 1e-5));
    assert_eq!((plain.kv_heads, plain.windows), (2, vec![None; 4]));
    let scaling = |config: Value| match parse(config).rope.scaling {
        RopeScaling::LongRope {
            short_factors,
            long_factors,
            attention_factor,
            original_max_positions,
        } => {
            assert_eq!(short_factors, [1.0, 1.0, 1.1, 0.9]);
            assert_eq!(long_factors, [1.0, 2.0, 3.5, 64.0]);
            (attention_factor, original_max_positions)
        }
        other => panic!("{other:?}"),
    };
    // 32 times more positions: the root of 1 + ln 32 / ln 4096.
    let published = (1.0 + 5.0_f64 / 12.0).sqrt();
    let near = |(factor, original): (f64, usize)| {
        assert!(
            (factor - published).abs() < 1e-12 && original == 4096,
            "{factor}"
        );
    };
    near(scaling(longrope(json!({}))));
    for name in ["su", "yarn"] {
        near(scaling(longrope(json!({"rope_scaling.type": name}))));
        // As transformers writes such a file again.
        let again = json!({"rope_scaling.type": name, "rope_scaling.rope_type": "longrope"});
        near(scaling(longrope(again)));
    }
    // What stands at the top counts, and else the default.
    near(scaling(longrope(
        json!({"original_max_position_embeddings": null}),
    )));
    let both = json!({"rope_scaling.original_max_position_embeddings": 4096});
    near(scaling(longrope(both)));
    let given = json!({"rope_scaling.attention_factor": 1.5});
    assert_eq!(scaling(longrope(given)).0, 1.5);
    let factor = json!({"rope_scaling.factor": 1.0});
    assert_eq!(scaling(longrope(factor)).0, 1.0);
    let shrunk = json!({"max_position_embeddings": 1024});
    assert_eq!(scaling(longrope(shrunk)).0, 1.0);

    let partial = json!({"partial_rotary_factor": 0.75, "head_dim": 16});
    assert_eq!(parse(with(PHI3, partial)).rope.dims, 12);
    let newer = json!({"head_dim": 16,
        "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}});
    assert_eq!(parse(with(PHI3, newer)).rope.dims, 8);
}

#[test]
fn norms_after_the_parts() {
    let olmo2 = parse(with(OLMO2, json!({"num_key_value_heads": 4})));
    let expected = BlockSpec {
        norms: Norms::After,
        ..block(AttentionBiases::None, HeadNorms::Whole)
    };
    assert_eq!(olmo2.block, expected);
    assert_eq!((olmo2.norm_eps, olmo2.max_positions), (1e-5, 2048));
    let roles = |config: &ModelConfig| -> Vec<Role> {
        let weights = config.block_weights().into_iter();
        weights.map(|weight| weight.role).collect()
    };
    use Role::{Down, DownNorm, GateUp, InputNorm, KNorm, Out, OutNorm, PostNorm, QNorm, Qkv};
    let after = [Qkv, QNorm, KNorm, Out, OutNorm, GateUp, Down, DownNorm];
    assert_eq!(roles(&olmo2), after);
    let shape = |role| {
        let mut weights = olmo2.block_weights().into_iter();
        let weight = weights.find(|weight| weight.role == role).unwrap();
        weight.tensors[0].shape.clone()
    };
    assert_eq!((shape(QNorm), shape(KNorm)), (vec![64], vec![32]));
    let llama = parse(base(LLAMA));
    assert_eq!(roles(&llama), [InputNorm, Qkv, Out, PostNorm, GateUp, Down]);
    // There is no field for a window: a list of layers can only deny one.
    let sliding = with(OLMO2, json!({"layer_types": vec!["sliding_attention"; 4]}));
    let error = ModelConfig::parse(sliding.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("sliding_attention"), "{error}");
}

#[test]
fn multipliers_are_one_or_what_the_file_says() {
    let granite = parse(with(GRANITE, json!({"num_key_value_heads": 4})));
    let scaled = |scale| BlockSpec {
        mixer: Mixer::Attention {
            biases: AttentionBiases::None,
            head_norms: HeadNorms::None,
            scale: Some(scale),
        },
        ..BlockSpec::PLAIN
    };
    // To the reference an absent multiplier of scores is 1, and not 1 over a root.
    assert_eq!(
        (granite.block, granite.ends),
        (scaled(1.0), EndsSpec::PLAIN)
    );
    let granite = parse(with(
        GRANITE,
        json!({"embedding_multiplier": 12, "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22, "logits_scaling": 8.0}),
    ));
    let expected = BlockSpec {
        residual_multiplier: 0.22,
        ..scaled(0.015625)
    };
    assert_eq!(granite.block, expected);
    let ends = EndsSpec {
        embedding_multiplier: 12.0,
        logits_divisor: 8.0,
    };
    assert_eq!(granite.ends, ends);
    // Other families have no such fields.
    let llama = parse(with(LLAMA, json!({"residual_multiplier": 0.22})));
    assert_eq!(llama.block, BlockSpec::PLAIN);
    for field in [
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ] {
        for wrong in [
            json!(0),
            json!(-1.5),
            json!(1e300),
            json!(1e-300),
            json!("NaN"),
            json!([]),
        ] {
            let config = with(GRANITE, json!({field: wrong})).to_string();
            let error = ModelConfig::parse(config.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("`{field}` is {wrong}")), "{error}");
            assert!(error.contains("a number from 1e-6 to 1000000"), "{error}");
        }
    }
}

#[test]
fn wrong_factors_are_refused() {
    let cases = [
        (json!({"rope_scaling.type": "linear"}), "type linear"),
        (
            json!({"rope_scaling.type": "llama3"}),
            "supported: default or longrope",
        ),
        (
            json!({"rope_scaling.long_factor": [1, 2, 3]}),
            "`rope_scaling.long_factor` is a list of 3",
        ),
        (
            json!({"rope_scaling.short_factor": [1, 2, 3, 4, 5]}),
            "each of 4 pairs",
        ),
        (
            json!({"rope_scaling.short_factor": null}),
            "`rope_scaling.short_factor` is missing",
        ),
        (
            json!({"rope_scaling.long_factor": 4}),
            "`rope_scaling.long_factor` is 4",
        ),
        (
            json!({"rope_scaling.long_factor": [1, 2, 3, 0]}),
            "`rope_scaling.long_factor` is 0",
        ),
        (json!({"rope_scaling.long_factor": [1, 2, 3, -1]}), "is -1"),
        (
            json!({"rope_scaling.long_factor": [1, 2, 3, "NaN"]}),
            "is \"NaN\"",
        ),
        (
            json!({"rope_scaling.long_factor": [1, 2, 3, 1e300]}),
            "is 1e+300",
        ),
        (
            json!({"rope_scaling.attention_factor": 0}),
            "attention_factor` is 0",
        ),
        (
            json!({"rope_scaling.attention_factor": -1.0}),
            "attention_factor` is -1",
        ),
        (
            json!({"original_max_position_embeddings": 1}),
            "original_max_position_embeddings` is 1",
        ),
        (
            json!({"original_max_position_embeddings": 0}),
            "original_max_position_embeddings` is 0",
        ),
        (
            json!({"rope_scaling.original_max_position_embeddings": 2048}),
            "`original_max_position_embeddings` is 4096, and",
        ),
        (
            json!({"original_max_position_embeddings": null,
                "rope_scaling.original_max_position_embeddings": 2048}),
            "is 2048, expected 4096, or the same number at the top level",
        ),
        (
            json!({"rope_scaling.type": "su", "rope_scaling.rope_type": "default"}),
            "`rope_scaling.rope_type` is default, and `rope_scaling.type` is longrope",
        ),
        (json!({"partial_rotary_factor": 0.5}), "each of 2 pairs"),
        (
            json!({"partial_rotary_factor": 0}),
            "`partial_rotary_factor` is 0",
        ),
        (
            json!({"partial_rotary_factor": 1.5}),
            "`partial_rotary_factor` is 1.5",
        ),
        (
            json!({"partial_rotary_factor": 0.4}),
            "an even number of them",
        ),
        (
            json!({"partial_rotary_factor": 0.5, "rope_scaling.partial_rotary_factor": 0.75}),
            "`partial_rotary_factor` is 0.5, and `rope_scaling.partial_rotary_factor` is 0.75",
        ),
    ];
    for (extra, words) in cases {
        let config = longrope(extra.clone()).to_string();
        let error = ModelConfig::parse(config.as_bytes()).expect_err(words);
        assert!(error.to_string().contains(words), "{extra}: {error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

//! Whatever a checkpoint's files say, opening them gives a model whose every tensor lies inside its
//! file, or an error with words; never a panic. Files are changed at random, from seeds that a
//! failure names.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{make, put_together, take_apart};
use loader::synth::SynthSpec;
use loader::{BlockLayout, Checkpoint, DType, Family, ModelConfig};
use serde_json::{Value, json};

/// Small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What numbers, names and everything else may be instead of what they are.
fn odd_values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(8),
        json!(64),
        json!(0.5),
        json!(1e308),
        json!(u32::MAX),
        json!(i64::MAX),
        json!(1_u64 << 63),
        json!(u64::MAX),
        json!(""),
        json!("F32"),
        json!("BF16"),
        json!("F4"),
        json!("../x"),
        json!([]),
        json!([0, 0]),
        json!([u64::MAX, u64::MAX]),
        json!([8, 0]),
        json!({}),
        json!([[]]),
        json!({"rope_type": "linear"}),
        json!("x".repeat(5000)),
    ];
    values.push((0..100).fold(json!(1), |deep, _| json!([deep])));
    values
}

/// Changes, removes, copies or renames something somewhere inside.
fn disturb(value: &mut Value, chance: &mut Chance, odd: &[Value]) {
    match value {
        Value::Object(map) if !map.is_empty() && chance.below(8) > 0 => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = chance.pick(&keys).clone();
            match chance.below(8) {
                0 => drop(map.remove(&key)),
                1 => {
                    let other = map[chance.pick(&keys)].clone();
                    map.insert(key, other);
                }
                2 => {
                    let moved = map.remove(&key).unwrap_or_default();
                    map.insert(format!("{key}x"), moved);
                }
                _ => disturb(&mut map[&key], chance, odd),
            }
        }
        Value::Array(list) if !list.is_empty() && chance.below(4) > 0 => {
            let at = chance.below(list.len());
            disturb(&mut list[at], chance, odd);
        }
        Value::Number(number) if number.is_u64() && chance.below(2) == 0 => {
            let near = number.as_u64().unwrap_or(0);
            let change = *chance.pick(&[1, 2, 8, 1 << 20, 1 << 40]);
            *value = match chance.below(3) {
                0 => json!(near.wrapping_add(change)),
                1 => json!(near.wrapping_sub(change)),
                _ => json!(near.wrapping_mul(change)),
            };
        }
        value => *value = chance.pick(odd).clone(),
    }
}

/// Opens it; true if that worked.
fn check(dir: &Path, seed: u64) -> bool {
    match Checkpoint::open(dir) {
        Ok(checkpoint) => {
            for (name, entry) in checkpoint.tensors() {
                let file = checkpoint.sources()[entry.source].len();
                let end = entry.offset.checked_add(entry.bytes);
                assert!(end.is_some_and(|end| end <= file), "seed {seed}: {name}");
            }
            check_sizes(&checkpoint.config, seed);
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && text.len() < 20_000,
                "seed {seed}: {text}"
            );
            assert!(error.hint().is_some(), "seed {seed}: no hint with {text}");
            false
        }
    }
}

/// With overflow checks these would panic.
fn check_sizes(config: &ModelConfig, seed: u64) {
    for dtype in DType::ALL {
        let slab_bytes = BlockLayout::packed(&config.block_weights(), dtype).slab_bytes() as u64;
        assert!(
            slab_bytes.checked_mul(config.layers as u64).is_some(),
            "seed {seed}"
        );
        let cache = config.kv_bytes_per_position(dtype);
        assert!(
            cache.checked_mul(config.max_positions as u64).is_some(),
            "seed {seed}"
        );
    }
    assert_eq!(config.windows.len(), config.layers, "seed {seed}");
    assert!(config.heads.is_multiple_of(config.kv_heads), "seed {seed}");
}

#[test]
fn headers_changed_anywhere() {
    let made = make(&SynthSpec::tiny(Family::QWEN2));
    let file = made.dir.join("model.safetensors");
    let whole = take_apart(&file);
    let odd = odd_values();
    let mut opened = 0;
    for seed in 0..2000 {
        let mut chance = Chance::new(seed);
        let mut header = whole.header.clone();
        for _ in 0..1 + chance.below(3) {
            disturb(&mut header, &mut chance, &odd);
        }
        let mut header = header.to_string().into_bytes();
        if chance.below(4) == 0 {
            let at = chance.below(header.len());
            header[at] = chance.below(256) as u8;
        }
        put_together(&file, &header, &whole.data);
        opened += usize::from(check(&made.dir, seed));
    }
    // Some changes do no harm; if all did, or none, this would test nothing.
    assert!((1..1000).contains(&opened), "{opened}");
}

#[test]
fn configs_changed_anywhere() {
    let odd = odd_values();
    let mut parsed = 0;
    for seed in 0..20_000 {
        let mut chance = Chance::new(seed);
        let family = Family::ALL[chance.below(Family::ALL.len())];
        let mut config = json!({
            "architectures": [family.architecture],
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "vocab_size": 256, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 128},
            "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1,
            "eos_token_id": [1, 2],
        });
        if family == Family::PHI3 {
            config["original_max_position_embeddings"] = json!(128);
            config["rope_scaling"] = json!({"rope_type": "longrope",
                "short_factor": vec![1.5; 8], "long_factor": vec![4.0; 8]});
        }
        for _ in 0..1 + chance.below(3) {
            disturb(&mut config, &mut chance, &odd);
        }
        match ModelConfig::parse(config.to_string().as_bytes()) {
            Ok(config) => {
                check_sizes(&config, seed);
                parsed += 1;
            }
            Err(error) => assert!(error.to_string().len() < 20_000, "seed {seed}: {error}"),
        }
    }
    assert!((1000..19_000).contains(&parsed), "{parsed}");
}

#[test]
fn indexes_changed_anywhere() {
    let spec = SynthSpec {
        shard_bytes: 100_000,
        ..SynthSpec::tiny(Family::QWEN3)
    };
    let made = make(&spec);
    let file = made.dir.join("model.safetensors.index.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let odd = odd_values();
    let mut opened = 0;
    for seed in 0..500 {
        let mut chance = Chance::new(seed);
        let mut index = whole.clone();
        disturb(&mut index, &mut chance, &odd);
        std::fs::write(&file, index.to_string()).unwrap();
        opened += usize::from(check(&made.dir, seed));
    }
    assert!((1..400).contains(&opened), "{opened}");
}

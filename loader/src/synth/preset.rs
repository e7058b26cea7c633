//! Shapes of public models, by name. Only numbers; nothing here is read from anywhere.

use super::{ConfigStyle, SynthSpec};
use crate::{DType, Error, Family, RopeScaling};

const LLAMA3_STRETCH: (f64, f64, usize) = (1.0, 4.0, 8192);

/// Name, family, layers, hidden, intermediate, heads, kv heads, head dim, vocabulary, tied.
type Row = (&'static str, Family, [usize; 7], bool);

/// The seven numbers: layers, hidden, intermediate, heads, kv heads, head dim, vocabulary.
const ROWS: &[Row] = &[
    (
        "qwen2.5-0.5b",
        Family::Qwen2,
        [24, 896, 4864, 14, 2, 64, 151_936],
        true,
    ),
    (
        "qwen2.5-1.5b",
        Family::Qwen2,
        [28, 1536, 8960, 12, 2, 128, 151_936],
        true,
    ),
    (
        "qwen2.5-3b",
        Family::Qwen2,
        [36, 2048, 11_008, 16, 2, 128, 151_936],
        true,
    ),
    (
        "qwen2.5-7b",
        Family::Qwen2,
        [28, 3584, 18_944, 28, 4, 128, 152_064],
        false,
    ),
    (
        "qwen2.5-14b",
        Family::Qwen2,
        [48, 5120, 13_824, 40, 8, 128, 152_064],
        false,
    ),
    (
        "llama-3.2-1b",
        Family::Llama,
        [16, 2048, 8192, 32, 8, 64, 128_256],
        true,
    ),
    (
        "llama-3.2-3b",
        Family::Llama,
        [28, 3072, 8192, 24, 8, 128, 128_256],
        true,
    ),
    (
        "llama-3.1-8b",
        Family::Llama,
        [32, 4096, 14_336, 32, 8, 128, 128_256],
        false,
    ),
    (
        "mistral-7b",
        Family::Mistral,
        [32, 4096, 14_336, 32, 8, 128, 32_768],
        false,
    ),
    (
        "qwen3-0.6b",
        Family::Qwen3,
        [28, 1024, 3072, 16, 8, 128, 151_936],
        true,
    ),
    (
        "qwen3-1.7b",
        Family::Qwen3,
        [28, 2048, 6144, 16, 8, 128, 151_936],
        true,
    ),
    (
        "qwen3-4b",
        Family::Qwen3,
        [36, 2560, 9728, 32, 8, 128, 151_936],
        true,
    ),
    (
        "qwen3-8b",
        Family::Qwen3,
        [36, 4096, 12_288, 32, 8, 128, 151_936],
        false,
    ),
    (
        "bench-1.3b",
        Family::Qwen2,
        [28, 1536, 8960, 12, 2, 128, 32_000],
        false,
    ),
];

/// Every name that [`SynthSpec::preset`] knows.
pub fn preset_names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.0).collect()
}

pub(super) fn find(name: &str) -> Result<SynthSpec, Error> {
    let Some(&(_, family, numbers, tied_embeddings)) = ROWS.iter().find(|row| row.0 == name) else {
        return Err(Error::UnknownPreset { name: name.into() });
    };
    let [
        layers,
        hidden_size,
        intermediate_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
    ] = numbers;
    let mut spec = SynthSpec {
        layers,
        hidden_size,
        intermediate_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
        tied_embeddings,
        ..base(family)
    };
    let (low_freq_factor, high_freq_factor, original_max_positions) = LLAMA3_STRETCH;
    if family == Family::Llama {
        spec.rope_scaling = RopeScaling::Llama3 {
            factor: if name.starts_with("llama-3.2") {
                32.0
            } else {
                8.0
            },
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        };
    }
    Ok(spec)
}

/// What the members of a family share. The sizes are placeholders.
pub(super) fn base(family: Family) -> SynthSpec {
    let (max_positions, norm_eps, rope_theta) = match family {
        Family::Llama => (131_072, 1e-5, 500_000.0),
        Family::Mistral => (32_768, 1e-5, 1_000_000.0),
        Family::Qwen2 => (32_768, 1e-6, 1_000_000.0),
        Family::Qwen3 => (40_960, 1e-6, 1_000_000.0),
    };
    SynthSpec {
        family,
        hidden_size: 1,
        intermediate_size: 1,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        vocab_size: 1,
        max_positions,
        norm_eps,
        rope_theta,
        rope_scaling: RopeScaling::None,
        attention_bias: false,
        mlp_bias: false,
        tied_embeddings: false,
        sliding_window: None,
        dtype: DType::Bf16,
        config_style: ConfigStyle::TorchDtype,
        seed: 0,
        std_dev: 0.02,
        shard_bytes: 4_000_000_000,
    }
}

//! Qwen2 and Qwen2.5: biases of queries, keys and values, and a window behind a switch.

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, RopePairing, Rotations, Windows, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::spec::{AttentionBiases, BlockSpec, HeadNorms, Mixer};
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const QWEN2: &'static Self = &Self {
        name: "Qwen2",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        read,
        names: names::usual,
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "qwen2",
            names: gguf::names::usual,
            pairing: RopePairing::Halves,
            own: &[],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 32_768,
            norm_eps: 1e-6,
            rope_theta: 1_000_000.0,
            config: |_| json!({"use_sliding_window": false}),
            shapes: &[
                Shape {
                    name: "qwen2.5-0.5b",
                    sizes: [24, 896, 4864, 14, 2, 64, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen2.5-1.5b",
                    sizes: [28, 1536, 8960, 12, 2, 128, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen2.5-3b",
                    sizes: [36, 2048, 11_008, 16, 2, 128, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen2.5-7b",
                    sizes: [28, 3584, 18_944, 28, 4, 128, 152_064],
                    tied: false,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen2.5-14b",
                    sizes: [48, 5120, 13_824, 40, 8, 128, 152_064],
                    tied: false,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "bench-1.3b",
                    sizes: [28, 1536, 8960, 12, 2, 128, 32_000],
                    tied: false,
                    rope: RopeScaling::None,
                },
            ],
        },
    };
}

const DEFAULTS: Defaults = Defaults {
    max_positions: 32_768,
    kv_heads: Some(32),
    head_dim: None,
    norm_eps: 1e-6,
    rotations: &Rotations::USUAL,
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let block = BlockSpec {
        mixer: Mixer::Attention {
            biases: AttentionBiases::Qkv,
            head_norms: HeadNorms::None,
            scale: None,
        },
        ..BlockSpec::PLAIN
    };
    let config = dense(Family::QWEN2, fields, &DEFAULTS)?;
    Windows::Switched { default: 4096 }.read(fields, ModelConfig { block, ..config })
}

fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    let mut config = settings.dense()?;
    let Mixer::Attention { biases, .. } = &mut config.block.mixer;
    if *biases == AttentionBiases::None {
        *biases = AttentionBiases::Qkv;
    }
    Ok(config)
}

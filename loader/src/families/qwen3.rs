//! Qwen3: queries and keys are normalised head by head.

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, RopePairing, Rotations, Windows, attention_biases, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::spec::{BlockSpec, HeadNorms, Mixer};
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const QWEN3: &'static Self = &Self {
        name: "Qwen3",
        architecture: "Qwen3ForCausalLM",
        model_type: "qwen3",
        read,
        names: names::usual,
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "qwen3",
            names: gguf::names::usual,
            pairing: RopePairing::Halves,
            own: &[],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 40_960,
            norm_eps: 1e-6,
            rope_theta: 1_000_000.0,
            config: |spec| json!({"attention_bias": spec.attention_bias, "use_sliding_window": false}),
            shapes: &[
                Shape {
                    name: "qwen3-0.6b",
                    sizes: [28, 1024, 3072, 16, 8, 128, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen3-1.7b",
                    sizes: [28, 2048, 6144, 16, 8, 128, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen3-4b",
                    sizes: [36, 2560, 9728, 32, 8, 128, 151_936],
                    tied: true,
                    rope: RopeScaling::None,
                },
                Shape {
                    name: "qwen3-8b",
                    sizes: [36, 4096, 12_288, 32, 8, 128, 151_936],
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
    head_dim: Some(128),
    norm_eps: 1e-6,
    rotations: &Rotations::USUAL,
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let block = BlockSpec {
        mixer: Mixer::Attention {
            biases: attention_biases(fields)?,
            head_norms: HeadNorms::Each,
            scale: None,
        },
        ..BlockSpec::PLAIN
    };
    let config = dense(Family::QWEN3, fields, &DEFAULTS)?;
    Windows::Switched { default: 4096 }.read(fields, ModelConfig { block, ..config })
}

fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    let mut config = settings.dense()?;
    let Mixer::Attention { head_norms, .. } = &mut config.block.mixer;
    *head_norms = HeadNorms::Each;
    Ok(config)
}

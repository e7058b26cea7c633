//! Llama 2 and 3, and what was trained in its form.

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, RopePairing, Rotations, Windows, attention_biases, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::spec::{BlockSpec, FeedForward, HeadNorms, Mixer};
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const LLAMA: &'static Self = &Self {
        name: "Llama",
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        read,
        names: names::usual,
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "llama",
            names: gguf::names::usual,
            pairing: RopePairing::Neighbours,
            own: &[gguf::WINDOW],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 131_072,
            norm_eps: 1e-5,
            rope_theta: 500_000.0,
            config: |spec| json!({"attention_bias": spec.attention_bias, "mlp_bias": spec.mlp_bias}),
            shapes: &[
                Shape {
                    name: "llama-3.2-1b",
                    sizes: [16, 2048, 8192, 32, 8, 64, 128_256],
                    tied: true,
                    rope: stretched(32.0),
                },
                Shape {
                    name: "llama-3.2-3b",
                    sizes: [28, 3072, 8192, 24, 8, 128, 128_256],
                    tied: true,
                    rope: stretched(32.0),
                },
                Shape {
                    name: "llama-3.1-8b",
                    sizes: [32, 4096, 14_336, 32, 8, 128, 128_256],
                    tied: false,
                    rope: stretched(8.0),
                },
            ],
        },
    };
}

const fn stretched(factor: f64) -> RopeScaling {
    RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    }
}

const DEFAULTS: Defaults = Defaults {
    max_positions: 2048,
    kv_heads: None,
    head_dim: None,
    norm_eps: 1e-6,
    rotations: &Rotations::USUAL,
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let block = BlockSpec {
        mixer: Mixer::Attention {
            biases: attention_biases(fields)?,
            head_norms: HeadNorms::None,
            scale: None,
        },
        feed_forward: FeedForward::SwiGlu {
            biases: fields.bool("mlp_bias")?.unwrap_or(false),
        },
        ..BlockSpec::PLAIN
    };
    let config = dense(Family::LLAMA, fields, &DEFAULTS)?;
    Windows::Never.read(fields, ModelConfig { block, ..config })
}

fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    // Mistral's models are saved as Llama's, and the first of them have a window on all layers.
    settings.with_window(settings.with_divisors(settings.dense()?)?)
}

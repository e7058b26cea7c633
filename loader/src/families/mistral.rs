//! Mistral: no biases, and a window on all layers.

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, Rotations, Windows, dense};
use crate::json::Fields;
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const MISTRAL: &'static Self = &Self {
        name: "Mistral",
        architecture: "MistralForCausalLM",
        model_type: "mistral",
        read,
        names: names::usual,
        extra: names::rotation,
        // Its models are saved as Llama's.
        gguf: None,
        synth: Synth {
            max_positions: 32_768,
            norm_eps: 1e-5,
            rope_theta: 1_000_000.0,
            config: |_| json!({}),
            shapes: &[Shape {
                name: "mistral-7b",
                sizes: [32, 4096, 14_336, 32, 8, 128, 32_768],
                tied: false,
                rope: RopeScaling::None,
            }],
        },
    };
}

const DEFAULTS: Defaults = Defaults {
    max_positions: 131_072,
    kv_heads: Some(8),
    head_dim: None,
    norm_eps: 1e-6,
    rotations: &Rotations::USUAL,
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let config = dense(Family::MISTRAL, fields, &DEFAULTS)?;
    let default = Some(4096);
    Windows::Everywhere { default }.read(fields, config)
}

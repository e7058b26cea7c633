//! Phi-3, Phi-3.5 and Phi-4: projections that are stored fused, no biases, a window on all layers,
//! and factors for short and for long texts in place of one stretch.

use serde_json::json;

use super::{Family, names};
use crate::config::{DEFAULT, Defaults, Kind, LONGROPE, RopePairing, Rotations, Windows, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, Role, RopeScaling};

impl Family {
    pub const PHI3: &'static Self = &Self {
        name: "Phi3",
        architecture: "Phi3ForCausalLM",
        model_type: "phi3",
        read,
        names: |role| match role {
            Role::Qkv => &["self_attn.qkv_proj.weight"],
            Role::GateUp => &["mlp.gate_up_proj.weight"],
            role => names::usual(role),
        },
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "phi3",
            names: |role| match role {
                Role::GateUp => &["ffn_up.weight"],
                role => gguf::names::usual(role),
            },
            pairing: RopePairing::Halves,
            own: &[gguf::WINDOW, gguf::TURNED, gguf::ATTENTION_FACTOR],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 4096,
            norm_eps: 1e-5,
            rope_theta: 10_000.0,
            config: |spec| match &spec.rope_scaling {
                RopeScaling::LongRope {
                    original_max_positions,
                    ..
                } => json!({"original_max_position_embeddings": original_max_positions}),
                _ => json!({}),
            },
            shapes: &[Shape {
                name: "phi-3-mini",
                sizes: [32, 3072, 8192, 32, 32, 96, 32_064],
                tied: false,
                rope: RopeScaling::None,
            }],
        },
    };
}

const DEFAULTS: Defaults = Defaults {
    max_positions: 4096,
    kv_heads: None,
    head_dim: None,
    norm_eps: 1e-5,
    rotations: &Rotations {
        kinds: &[
            DEFAULT,
            Kind {
                // Older files have other names for it.
                also: &["su", "yarn"],
                ..LONGROPE
            },
        ],
        partial: true,
        original_default: Some(4096),
    },
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let config = dense(Family::PHI3, fields, &DEFAULTS)?;
    Windows::Everywhere { default: None }.read(fields, config)
}

fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    settings.with_window(settings.with_factors(settings.dense()?)?)
}

//! Granite: Llama's block with multipliers of the embedding, the scores, what is added to the
//! residual stream, and the logits.

use std::ops::RangeInclusive;

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, RopePairing, Rotations, Windows, attention_biases, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::spec::{BlockSpec, EndsSpec, FeedForward, HeadNorms, Mixer};
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const GRANITE: &'static Self = &Self {
        name: "Granite",
        architecture: "GraniteForCausalLM",
        model_type: "granite",
        read,
        names: names::usual,
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "granite",
            names: gguf::names::usual,
            pairing: RopePairing::Neighbours,
            own: &[
                gguf::ATTENTION_SCALE,
                gguf::EMBEDDING_SCALE,
                gguf::RESIDUAL_SCALE,
                gguf::LOGIT_SCALE,
            ],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 131_072,
            norm_eps: 1e-5,
            rope_theta: 10_000_000.0,
            config: |spec| {
                json!({
                    "attention_bias": spec.attention_bias,
                    "mlp_bias": spec.mlp_bias,
                    EMBEDDING: 12.0,
                    SCORES: 1.0 / 64.0,
                    RESIDUAL: 0.22,
                    LOGITS: 8.0,
                })
            },
            shapes: &[Shape {
                name: "granite-3.3-2b",
                sizes: [40, 2048, 8192, 32, 8, 64, 49_159],
                tied: true,
                rope: RopeScaling::None,
            }],
        },
    };
}

/// Published ones are from 0.0078125 to 16. One of zero would leave nothing of what it multiplies.
const MULTIPLIERS: RangeInclusive<f64> = 1e-6..=1e6;
const EMBEDDING: &str = "embedding_multiplier";
const SCORES: &str = "attention_multiplier";
const RESIDUAL: &str = "residual_multiplier";
const LOGITS: &str = "logits_scaling";

const DEFAULTS: Defaults = Defaults {
    max_positions: 2048,
    kv_heads: None,
    head_dim: None,
    norm_eps: 1e-6,
    rotations: &Rotations::USUAL,
};

fn multiplier(fields: &Fields<'_>, field: &str) -> Result<f64, Error> {
    Ok(fields.within(field, MULTIPLIERS)?.unwrap_or(1.0))
}

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let block = BlockSpec {
        mixer: Mixer::Attention {
            biases: attention_biases(fields)?,
            head_norms: HeadNorms::None,
            scale: Some(multiplier(fields, SCORES)?),
        },
        feed_forward: FeedForward::SwiGlu {
            biases: fields.bool("mlp_bias")?.unwrap_or(false),
        },
        residual_multiplier: multiplier(fields, RESIDUAL)?,
        ..BlockSpec::PLAIN
    };
    let ends = EndsSpec {
        embedding_multiplier: multiplier(fields, EMBEDDING)?,
        logits_divisor: multiplier(fields, LOGITS)?,
    };
    let config = dense(Family::GRANITE, fields, &DEFAULTS)?;
    let config = ModelConfig {
        block,
        ends,
        ..config
    };
    Windows::Never.read(fields, config)
}

/// There a factor of zero is none.
fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    const TURNS: &str = "rope.scaling.finetuned";
    if settings.bool(TURNS)? == Some(false) {
        return Err(settings.unsupported(TURNS, "false", "true"));
    }
    let factor = |name| settings.factor(name, MULTIPLIERS);
    let mut config = settings.with_divisors(settings.dense()?)?;
    let Mixer::Attention { scale, .. } = &mut config.block.mixer;
    *scale = factor(gguf::ATTENTION_SCALE)?;
    config.block.residual_multiplier = factor(gguf::RESIDUAL_SCALE)?.unwrap_or(1.0);
    config.ends = EndsSpec {
        embedding_multiplier: factor(gguf::EMBEDDING_SCALE)?.unwrap_or(1.0),
        logits_divisor: settings
            .within(gguf::LOGIT_SCALE, MULTIPLIERS)?
            .ok_or_else(|| settings.missing(gguf::LOGIT_SCALE))?,
    };
    Ok(config)
}

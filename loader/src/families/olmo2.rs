//! OLMo 2: norms of what attention and the feed-forward part give, and of queries and keys over all
//! heads together.

use serde_json::json;

use super::{Family, names};
use crate::config::{Defaults, RopePairing, Rotations, Windows, attention_biases, dense};
use crate::files::gguf::{self, InGguf, Settings};
use crate::json::Fields;
use crate::spec::{BlockSpec, HeadNorms, Mixer, Norms};
use crate::synth::{Shape, Synth};
use crate::{Error, ModelConfig, RopeScaling};

impl Family {
    pub const OLMO2: &'static Self = &Self {
        name: "OLMo2",
        architecture: "Olmo2ForCausalLM",
        model_type: "olmo2",
        read,
        names: names::usual,
        extra: names::rotation,
        gguf: Some(InGguf {
            architecture: "olmo2",
            names: gguf::names::usual,
            pairing: RopePairing::Halves,
            own: &[],
            read: read_gguf,
        }),
        synth: Synth {
            max_positions: 4096,
            norm_eps: 1e-6,
            rope_theta: 500_000.0,
            config: |spec| json!({"attention_bias": spec.attention_bias}),
            shapes: &[Shape {
                name: "olmo2-7b",
                sizes: [32, 4096, 11_008, 32, 32, 128, 100_352],
                tied: false,
                rope: RopeScaling::None,
            }],
        },
    };
}

const DEFAULTS: Defaults = Defaults {
    max_positions: 2048,
    kv_heads: None,
    head_dim: None,
    norm_eps: 1e-5,
    rotations: &Rotations::USUAL,
};

fn read(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    let block = BlockSpec {
        norms: Norms::After,
        mixer: Mixer::Attention {
            biases: attention_biases(fields)?,
            head_norms: HeadNorms::Whole,
            scale: None,
        },
        ..BlockSpec::PLAIN
    };
    let config = dense(Family::OLMO2, fields, &DEFAULTS)?;
    Windows::Never.read(fields, ModelConfig { block, ..config })
}

fn read_gguf(settings: &Settings<'_>) -> Result<ModelConfig, Error> {
    let mut config = settings.dense()?;
    config.block.norms = Norms::After;
    let Mixer::Attention { head_norms, .. } = &mut config.block.mixer;
    *head_norms = HeadNorms::Whole;
    Ok(config)
}

//! Shapes of public models, by name, and what the members of a family share. Only numbers, which
//! stand in the families' files.

use serde_json::Value;

use super::{ConfigStyle, SynthSpec};
use crate::{DType, Error, Family, RopeScaling};

/// How a random checkpoint of a family is written.
pub(crate) struct Synth {
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    /// The fields of its config.json beside those that every family has.
    pub config: fn(&SynthSpec) -> Value,
    /// Public models.
    pub shapes: &'static [Shape],
}

/// The shape of a public model.
pub(crate) struct Shape {
    pub name: &'static str,
    /// Layers, hidden, intermediate, heads, kv heads, head dim, vocabulary.
    pub sizes: [usize; 7],
    pub tied: bool,
    pub rope: RopeScaling,
}

fn shapes() -> impl Iterator<Item = (&'static Family, &'static Shape)> {
    let of = |family: &'static Family| family.synth.shapes.iter().map(move |shape| (family, shape));
    Family::ALL.into_iter().flat_map(of)
}

/// Every name that [`SynthSpec::preset`] knows.
pub fn preset_names() -> Vec<&'static str> {
    shapes().map(|(_, shape)| shape.name).collect()
}

pub(super) fn find(name: &str) -> Result<SynthSpec, Error> {
    let Some((family, shape)) = shapes().find(|(_, shape)| shape.name == name) else {
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
    ] = shape.sizes;
    Ok(SynthSpec {
        layers,
        hidden_size,
        intermediate_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
        tied_embeddings: shape.tied,
        rope_scaling: shape.rope.clone(),
        ..base(family)
    })
}

/// What the members of a family share. The sizes are placeholders.
pub(super) fn base(family: &'static Family) -> SynthSpec {
    SynthSpec {
        family,
        hidden_size: 1,
        intermediate_size: 1,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        vocab_size: 1,
        max_positions: family.synth.max_positions,
        norm_eps: family.synth.norm_eps,
        rope_theta: family.synth.rope_theta,
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

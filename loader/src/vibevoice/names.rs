//! What the files of a checkpoint call the tensors of its components: as the original does, or as
//! transformers converts them. Follows from the tensors that are there, not from config.json: files
//! that were merged or converted elsewhere have the one's names with the other's settings.

use std::collections::BTreeMap;

use super::{Component, Part};
use crate::TensorEntry;
use crate::naming::NestedNames;

/// Of the language model, in all layouts.
pub(super) const LANGUAGE: NestedNames = NestedNames {
    layers: "model.language_model.layers.",
    embedding: "model.language_model.embed_tokens.weight",
    final_norm: "model.language_model.norm.weight",
    head: "lm_head.weight",
    rotation: "model.language_model.rotary_emb.inv_freq",
};

/// Whose names they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Original,
    Converted {
        /// The first conversions have other names for the two layers of the timestep.
        is_early: bool,
    },
}

/// What only original names begin with.
const OF_ORIGINAL: [&str; 4] = [
    "model.acoustic_tokenizer.",
    "model.semantic_tokenizer.",
    "model.prediction_head.",
    "model.acoustic_connector.",
];

/// How the early conversions and the later ones call the layers of the timestep.
const TIMESTEP: [(&str, &str); 2] = [
    ("timestep_proj.fc1.", "timestep_embedder.layer_1."),
    ("timestep_proj.fc2.", "timestep_embedder.layer_2."),
];

impl Component {
    /// What its tensors' names begin with in the original.
    pub(crate) const fn original(self) -> &'static str {
        Names::Original.prefix(self)
    }
}

impl Names {
    pub fn of(tensors: &BTreeMap<String, TensorEntry>) -> Self {
        let any = |prefix: &str| {
            let first = tensors.range(prefix.to_owned()..).next();
            first.is_some_and(|(name, _)| name.starts_with(prefix))
        };
        if OF_ORIGINAL.into_iter().any(any) {
            return Self::Original;
        }
        Self::Converted {
            is_early: any("model.diffusion_head.timestep_embedder."),
        }
    }

    /// The name of a component's tensor in the file.
    pub fn stored(self, component: Component, part: &Part) -> String {
        let prefix = self.prefix(component);
        let is_early = match self {
            Self::Original => return format!("{prefix}{}", part.original),
            Self::Converted { is_early } => is_early && component == Component::Head,
        };
        let early = TIMESTEP.into_iter().filter(|_| is_early);
        for (later, early) in early {
            if let Some(rest) = part.name.strip_prefix(later) {
                return format!("{prefix}{early}{rest}");
            }
        }
        format!("{prefix}{}", part.name)
    }

    const fn prefix(self, component: Component) -> &'static str {
        match (self, component) {
            (Self::Original, Component::AcousticEncoder) => "model.acoustic_tokenizer.encoder.",
            (Self::Original, Component::AcousticDecoder) => "model.acoustic_tokenizer.decoder.",
            (Self::Original, Component::SemanticEncoder) => "model.semantic_tokenizer.encoder.",
            (Self::Original, Component::Head) => "model.prediction_head.",
            (Self::Original, Component::AcousticConnector) => "model.acoustic_connector.",
            (_, Component::SemanticConnector) => "model.semantic_connector.",
            (_, Component::AcousticEncoder) => "model.audio_tower.encoder.",
            (_, Component::AcousticDecoder) => "model.audio_tower.decoder.",
            (_, Component::SemanticEncoder) => "model.semantic_tokenizer_encoder.",
            (_, Component::Head) => "model.diffusion_head.",
            (_, Component::AcousticConnector) => "model.multi_modal_projector.",
        }
    }

    pub const fn scaling(self) -> &'static str {
        match self {
            Self::Original => "model.speech_scaling_factor",
            Self::Converted { .. } => "model.latent_scaling_factor",
        }
    }

    pub const fn bias(self) -> &'static str {
        match self {
            Self::Original => "model.speech_bias_factor",
            Self::Converted { .. } => "model.latent_bias_factor",
        }
    }
}

//! The stages a run is made of: their names, their order, and what nests in what. Reports, traces
//! and spans all take their names from here.

use std::ops::{AddAssign, Index, IndexMut};
use std::time::Duration;

/// A stage of a run.
///
/// The stages of a pass (from [`Stage::Embed`] on) occur in the prompt's pass, under
/// [`Stage::Prefill`], and in each token's, under [`Stage::Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Weights on their way to where they will live.
    ModelLoad,
    /// Cache and activations.
    Init,
    /// The prompt's pass, to the first token.
    Prefill,
    /// All tokens after the first, and what the caller does between them.
    Generate,
    /// One token.
    Step,
    Embed,
    /// All layers, and the waiting for them.
    Blocks,
    /// Weights, made into the numbers that the clear kernels compute with.
    Widen,
    Norm,
    Attention,
    Mlp,
    /// One layer's cache, rewritten with another model's.
    Projection,
    /// Waiting for streamed layers.
    Transfer,
    /// Final norm and head.
    Head,
    /// The codes of a frame that follow its first.
    CodePredictor,
    /// From noise to what a frame of sound is decoded from.
    DiffusionHead,
    /// From there to sound.
    Codec,
    /// What a frame of sound means, for the next one.
    SemanticEncoder,
    /// From logits to a token.
    Sampling,
    /// What a grammar forbids.
    Mask,
    TopK,
    TopP,
    /// From a token to text.
    Decode,
}

impl Stage {
    pub const COUNT: usize = Self::ALL.len();

    pub const ALL: [Self; 23] = [
        Self::ModelLoad,
        Self::Init,
        Self::Prefill,
        Self::Generate,
        Self::Step,
        Self::Embed,
        Self::Blocks,
        Self::Widen,
        Self::Norm,
        Self::Attention,
        Self::Mlp,
        Self::Projection,
        Self::Transfer,
        Self::Head,
        Self::CodePredictor,
        Self::DiffusionHead,
        Self::Codec,
        Self::SemanticEncoder,
        Self::Sampling,
        Self::Mask,
        Self::TopK,
        Self::TopP,
        Self::Decode,
    ];

    /// What makes sound, beside the layers.
    pub const OF_SPEECH: [Self; 4] = [
        Self::CodePredictor,
        Self::DiffusionHead,
        Self::Codec,
        Self::SemanticEncoder,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ModelLoad => "model_load",
            Self::Init => "init",
            Self::Prefill => "prefill",
            Self::Generate => "generate",
            Self::Step => "step",
            Self::Embed => "embed",
            Self::Blocks => "blocks",
            Self::Widen => "widen",
            Self::Norm => "norm",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Projection => "projection",
            Self::Transfer => "transfer",
            Self::Head => "head",
            Self::CodePredictor => "code_predictor",
            Self::DiffusionHead => "diffusion_head",
            Self::Codec => "codec",
            Self::SemanticEncoder => "semantic_encoder",
            Self::Sampling => "sampling",
            Self::Mask => "mask",
            Self::TopK => "top_k",
            Self::TopP => "top_p",
            Self::Decode => "decode",
        }
    }

    /// What it nests in; `None` for the stages of a run, and for those that begin a pass.
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Widen
            | Self::Norm
            | Self::Attention
            | Self::Mlp
            | Self::Projection
            | Self::Transfer => Some(Self::Blocks),
            Self::Mask | Self::TopK | Self::TopP => Some(Self::Sampling),
            Self::Step => Some(Self::Generate),
            _ => None,
        }
    }

    /// Whether it is part of a pass.
    pub const fn in_pass(self) -> bool {
        self as usize >= Self::Embed as usize
    }
}

/// What one stage took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTime {
    /// By the host's clock.
    pub wall: Duration,
    /// By the device's clock, where there is one.
    pub device: Option<Duration>,
    pub count: u64,
}

/// What each stage took, in one pass or in many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimes([StageTime; Stage::COUNT]);

impl Index<Stage> for StageTimes {
    type Output = StageTime;

    fn index(&self, stage: Stage) -> &StageTime {
        &self.0[stage as usize]
    }
}

impl IndexMut<Stage> for StageTimes {
    fn index_mut(&mut self, stage: Stage) -> &mut StageTime {
        &mut self.0[stage as usize]
    }
}

impl AddAssign<&Self> for StageTimes {
    fn add_assign(&mut self, other: &Self) {
        for (sum, time) in self.0.iter_mut().zip(&other.0) {
            sum.wall += time.wall;
            sum.count += time.count;
            sum.device = match (sum.device, time.device) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_listed_in_order_and_named_in_snake_case() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
            let name = stage.name();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            // A parent comes before its children: one walk over the list builds the tree.
            assert!(
                stage
                    .parent()
                    .is_none_or(|parent| (parent as usize) < index)
            );
        }
    }
}

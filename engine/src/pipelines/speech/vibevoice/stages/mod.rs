//! What stands beside the language model, computed: by the kernels on the host ([`fast`]), or spelt
//! in tensor operations there and on a device ([`clear`]). Knows no sequence and no script.

pub(super) mod clear;
pub(super) mod fast;

use std::fmt;
use std::sync::Arc;

use kernels::Team;
use loader::{Component, ComponentSource, DType, VibeVoiceConfig};
use offload::Place;

use super::model::SpeechOptions;
use super::prompt::Special;
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::model::options::ModelOptions;
use crate::pipelines::speech::part::Part;
use crate::run::passes::Passes;

/// Rows under two conditions.
const BRANCHES: usize = 2;

/// Frames of a voice that are encoded together.
const VOICE_FRAMES: usize = 4;

/// Where the last rows of both branches stand in a pass.
#[derive(Debug, Clone, Copy)]
pub struct LastRows {
    pub with_prompt: usize,
    pub without: Option<usize>,
}

/// How a frame is to be made, if one comes.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What its latent begins as.
    pub noise: &'a [f32],
    pub guidance: f32,
    /// Every token is a frame.
    pub only_frames: bool,
}

/// A frame, and what it was made of.
#[derive(Debug)]
pub struct Made {
    pub latent: Vec<f32>,
    pub audio: Vec<f32>,
    /// What was heard of it.
    pub semantic: Vec<f32>,
    /// The language model's last rows.
    pub with_prompt: Vec<f32>,
    pub without: Option<Vec<f32>>,
    /// What the language model takes for it.
    pub row: Vec<f32>,
}

/// The stages of a stream of speech, and what they keep of it.
pub trait Stages: fmt::Debug {
    /// A stream begins.
    fn begin(&mut self);

    /// The latents of whole frames of sound, which are a stream by themselves.
    fn hear(&mut self, sound: &[f32]) -> Result<Vec<f32>, EngineError>;

    /// Latents as rows of the language model, by the connector of those.
    fn connect(&mut self, which: Component, latents: &[f32]) -> Result<Vec<f32>, EngineError>;

    /// What a pass says, as a part of it: a token, and a frame if it is one of speech.
    fn say(
        &mut self,
        passes: &mut Passes<'_>,
        last: LastRows,
        asked: Asked<'_>,
    ) -> Result<(u32, Option<Made>), EngineError>;

    /// What the convolutions of the decoder, and of what hears it, have seen: numbers in the order in
    /// which the kernels keep them.
    fn seen(&self) -> Result<[Vec<f32>; 2], EngineError>;

    /// Goes on from that; `false` where the numbers are not as many.
    fn go_on_from(&mut self, seen: [&[f32]; 2]) -> Result<bool, EngineError>;

    /// What the language model takes for frames.
    fn rows_of(&mut self, latents: &[f32], semantics: &[f32]) -> Result<Vec<f32>, EngineError> {
        let mut rows = self.connect(Component::AcousticConnector, latents)?;
        let heard = self.connect(Component::SemanticConnector, semantics)?;
        (rows.iter_mut().zip(heard)).for_each(|(row, heard)| *row += heard);
        Ok(rows)
    }
}

/// What all stages know of the system.
#[derive(Debug)]
pub struct Known {
    pub config: VibeVoiceConfig,
    pub special: Special,
    /// The rows of the language model's head for the tokens it may say, in f32.
    pub head_rows: Vec<f32>,
    /// What latents are multiplied by after the bias was added, before they enter the connector.
    pub scaling: f32,
    pub bias: f32,
    /// From noise to a latent.
    pub steps: usize,
}

impl Known {
    /// The likeliest of what may be said after a row.
    fn choose(&self, row: &[f32]) -> u32 {
        let logits = self.head_rows.chunks_exact(row.len());
        let logits = logits.map(|head| {
            let products = head
                .iter()
                .zip(row)
                .map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum::<f64>()
        });
        let mut best = (self.special.eos, f64::NEG_INFINITY);
        for (token, logit) in self.special.all().into_iter().zip(logits) {
            if logit > best.1 {
                best = (token, logit);
            }
        }
        best.0
    }
}

/// How the stages are computed, and how large that is.
#[derive(Debug)]
pub enum Sizes {
    Fast(Box<fast::Sizes>),
    Clear(clear::Sizes),
}

impl Sizes {
    /// `stored`: what most weights are in.
    pub fn of(
        config: &VibeVoiceConfig,
        options: &ModelOptions,
        stored: Option<DType>,
        &SpeechOptions { steps, stages, .. }: &SpeechOptions,
    ) -> Self {
        match (options.kernels, options.device.is_device()) {
            (Kernels::Fast, false) => {
                let threads = options.threads.unwrap_or_else(crate::physical_cores);
                let sizes = fast::Sizes::of(config, threads, steps, stages);
                Self::Fast(Box::new(sizes))
            }
            (Kernels::Clear, false) => Self::Clear(clear::Sizes::on_host(config, steps)),
            (_, true) => {
                // In blocks: the plan refuses them.
                let own = options.dtype.or(stored).unwrap_or(DType::Bf16);
                Self::Clear(clear::Sizes::on_device(config, own, steps))
            }
        }
    }

    /// What the numbers of a component become; `None`: they stay as they are stored.
    pub fn dtype(&self, asked: Option<DType>) -> Option<DType> {
        match self {
            Self::Fast(_) => asked,
            Self::Clear(sizes) => Some(sizes.numbers),
        }
    }

    /// Bytes of a component's weights.
    pub fn component_bytes(&self, component: &ComponentSource) -> u64 {
        match self {
            Self::Fast(_) => component.source.slab_bytes() as u64,
            Self::Clear(sizes) => sizes.component_bytes(component),
        }
    }

    /// Counts what is there of a component only while it is brought: states and what computing takes
    /// have its room later.
    pub fn bring(&mut self, component: &ComponentSource) {
        if let Self::Clear(sizes) = self {
            sizes.bring(component);
        }
    }

    /// Bytes of states and of what computing takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Fast(sizes) => sizes.bytes(),
            Self::Clear(sizes) => sizes.bytes(),
        }
    }

    /// Loads the weights, each component of which `part` brings.
    pub fn load(
        self,
        config: &VibeVoiceConfig,
        place: &dyn Place,
        part: &mut dyn FnMut(Component) -> Result<Part, EngineError>,
    ) -> Result<Weights, EngineError> {
        Ok(match self {
            Self::Fast(sizes) => Weights::Fast(Box::new(fast::Parts::load(*sizes, part)?)),
            Self::Clear(_) => {
                let parts = clear::Parts::load(config, place.device(), part)?;
                Weights::Clear(Box::new(parts))
            }
        })
    }
}

/// All weights that are not the language model's.
#[derive(Debug)]
pub enum Weights {
    Fast(Box<fast::Parts>),
    Clear(Box<clear::Parts>),
}

impl Weights {
    /// What computes with them.
    pub fn stages<'m>(
        &'m self,
        known: &'m Known,
        team: Arc<Team>,
    ) -> Result<Box<dyn Stages + 'm>, EngineError> {
        Ok(match self {
            Self::Fast(parts) => Box::new(fast::FastStages::new(parts, known, team)),
            Self::Clear(parts) => Box::new(clear::ClearStages::new(parts, known)?),
        })
    }

    /// Hands out many bytes of them, to measure how fast memory is read: none where a device has them.
    pub fn bytes_of_head<T>(&self, measure: impl FnOnce(Option<&[u8]>) -> T) -> T {
        match self {
            Self::Fast(parts) => measure(Some(parts.head.slab())),
            Self::Clear(parts) => parts.bytes_of_head(measure),
        }
    }
}

/// Bytes that a frame reads of a component, with so many steps.
pub fn frame_bytes(which: Component, part: &Part, steps: usize) -> u64 {
    match which {
        Component::AcousticEncoder => 0,
        Component::Head => {
            let again = part.bytes_of_weights(|name| {
                name.contains(".ffn.")
                    || name.starts_with("noisy")
                    || name == "final_layer.linear_2.weight"
            });
            part.bytes() + (steps as u64).saturating_sub(1) * again
        }
        Component::AcousticDecoder
        | Component::SemanticEncoder
        | Component::AcousticConnector
        | Component::SemanticConnector => part.bytes(),
    }
}

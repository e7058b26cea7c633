//! What makes a frame of its first code: the other codes, the sound, and what the talker takes next.
//! Two stand behind one seam: the kernels of the host, and tensor operations, there and on a device.

mod clear;
mod fast;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use candle_core::Device;
use kernels::Team;
use loader::{DType, Qwen3TtsComponent, Qwen3TtsConfig};

use self::clear::{ClearFrames, ClearParts, ClearSize};
use self::fast::{FastFrames, FastParts, FastSize};
use super::sampling::{Chooser, CodeChoice};
use super::weights::prepare;
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::pipelines::speech::part::{Part, StageType};
use crate::run::passes::Passes;

/// Rows of the text track that are projected together.
const PROJECTED_ROWS: usize = 16;

/// The predictor's logits, among a frame's stages.
const PREDICTED: &str = "predictor.logits";
/// Before the name of a part of the codec.
const STAGE: &str = "stage.";

/// What a frame is made of.
#[derive(Debug)]
pub struct Asked<'a> {
    pub first: u32,
    /// The embedding of the first code.
    pub embedded: &'a [f32],
    /// How the other codes are chosen.
    pub how: &'a CodeChoice,
    pub chooser: &'a mut Chooser,
    /// The numbers that codes are drawn by; the first is not used here.
    pub drawn: &'a [f64],
}

/// A frame.
#[derive(Debug)]
pub struct Made {
    /// The first among them.
    pub codes: Vec<u32>,
    /// The talker's row after the final norm.
    pub hidden: Vec<f32>,
    /// The embeddings of the codes that follow the first, added.
    pub row: Vec<f32>,
    pub audio: Vec<f32>,
    /// Where stages are kept.
    pub stages: Vec<(Cow<'static, str>, Vec<f32>)>,
}

/// Makes frames, one after another.
pub trait Frames: Debug {
    /// The sound begins anew.
    fn begin(&mut self);

    /// Frames are to have every stage that comparisons look at. Takes memory that no plan counts.
    fn keep_stages(&mut self);

    /// Rows of the text embedding, as the talker takes them.
    fn project(&mut self, embedded: &[f32]) -> Result<Vec<f32>, EngineError>;

    /// A frame of the pass under way, of which this is the last row.
    fn make(
        &mut self,
        passes: &mut Passes<'_>,
        last: usize,
        asked: Asked<'_>,
    ) -> Result<Made, EngineError>;

    /// Adds the embeddings of the codes that follow the first of each frame to the frame's row.
    fn add_rows(&mut self, codes: &[u32], rows: &mut [f32]) -> Result<(), EngineError>;

    /// The sound of frames of codes that there are, behind what was heard.
    fn sound_of(&mut self, codes: &[u32]) -> Result<Vec<f32>, EngineError>;
}

/// Which of the two makes frames, and how large it is.
#[derive(Debug, Clone)]
pub enum FramesSize {
    Fast(Box<FastSize>),
    Clear(Box<ClearSize>),
}

impl FramesSize {
    /// `of_device`: what a device computes in; `None` is the host. The rest is about the kernels.
    pub fn of(
        config: &Qwen3TtsConfig,
        kernels: Kernels,
        of_device: Option<DType>,
        (threads, stages): (usize, StageType),
    ) -> Self {
        match (kernels, of_device) {
            (Kernels::Fast, None) => Self::Fast(Box::new(FastSize::of(config, threads, stages))),
            _ => Self::Clear(Box::new(ClearSize::of(config, of_device))),
        }
    }

    /// What the numbers of a component become. The codec computes in f32, whatever was asked for: what
    /// it stores is prepared in place.
    pub fn dtype(&self, which: Qwen3TtsComponent, asked: Option<DType>) -> Option<DType> {
        match (which, self) {
            (Qwen3TtsComponent::CodecDecoder, _) => Some(DType::F32),
            (_, Self::Fast(_)) => asked,
            (_, Self::Clear(size)) => Some(size.numbers),
        }
    }

    /// What the components' weights are called in a plan.
    pub fn name(&self, which: Qwen3TtsComponent) -> &'static str {
        let widened = matches!(self, Self::Clear(_)) && self.is_host();
        match which {
            Qwen3TtsComponent::CodecDecoder => "codec decoder, in f32",
            Qwen3TtsComponent::Predictor if widened => "code predictor, in f32",
            Qwen3TtsComponent::TextProjection if widened => "text projection, in f32",
            which => which.name(),
        }
    }

    /// Whether the host computes.
    pub fn is_host(&self) -> bool {
        match self {
            Self::Fast(_) => true,
            Self::Clear(size) => size.is_host,
        }
    }

    /// Working memory, beside the weights, of which the largest component takes `largest` bytes.
    pub fn bytes(&self, largest: u64) -> u64 {
        match self {
            Self::Fast(size) => size.bytes(),
            Self::Clear(size) => size.bytes(largest),
        }
    }
}

/// All that is not the talker, loaded.
#[derive(Debug)]
pub enum Parts {
    Fast(Box<FastParts>),
    Clear(Box<ClearParts>),
}

impl Parts {
    /// `load` brings a component into the host's memory.
    pub fn load(
        size: FramesSize,
        config: &Qwen3TtsConfig,
        device: &Device,
        load: &mut dyn FnMut(Qwen3TtsComponent) -> Result<Part, EngineError>,
    ) -> Result<Self, EngineError> {
        let mut load = |which| {
            let mut part = load(which)?;
            if which == Qwen3TtsComponent::CodecDecoder {
                let books = config.codec.quantizers;
                part.prepare(|names, change| prepare(books, names, change));
            }
            Ok(part)
        };
        Ok(match size {
            FramesSize::Fast(size) => Self::Fast(Box::new(FastParts::load(*size, &mut load)?)),
            FramesSize::Clear(size) => {
                let parts = ClearParts::load(*size, config, device, &mut load)?;
                Self::Clear(Box::new(parts))
            }
        })
    }

    /// The weights that memory is measured over, where the kernels read them, and how many bytes a
    /// frame reads of all.
    pub fn read_by_frame(&self) -> (Option<&[u8]>, u64) {
        match self {
            Self::Fast(parts) => parts.read_by_frame(),
            Self::Clear(parts) => (None, parts.frame_bytes()),
        }
    }

    /// What makes frames of them.
    pub fn frames<'m>(
        &'m self,
        config: &Qwen3TtsConfig,
        team: &Arc<Team>,
    ) -> Result<Box<dyn Frames + 'm>, EngineError> {
        Ok(match self {
            Self::Fast(parts) => Box::new(FastFrames::new(parts, config, team)),
            Self::Clear(parts) => Box::new(ClearFrames::new(parts)?),
        })
    }
}

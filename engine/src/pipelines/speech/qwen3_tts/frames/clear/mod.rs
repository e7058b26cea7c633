//! Frames made by tensor operations, on the host or on a device. What a frame is comes back in one
//! piece: a device is waited for once.

mod choosing;
mod predictor;
mod size;
mod tensors;
mod vocoder;
mod weights;

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::silu;
use loader::{Qwen3TtsComponent, Qwen3TtsConfig};

use self::choosing::TensorChooser;
use self::predictor::{Predicted, Predictor, PredictorTensors};
pub use self::size::ClearSize;
use self::tensors::Named;
use self::vocoder::{Heard, Vocoder};
use self::weights::VocoderTensors;
use super::{Asked, Frames, Made, PREDICTED, PROJECTED_ROWS, STAGE};
use crate::compute::clear::linear::Linear;
use crate::compute::sync::gpu_sync;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;
use crate::profile::{Stage, stage};
use crate::run::passes::Passes;

/// The weights, where they are computed with.
#[derive(Debug)]
pub struct ClearParts {
    size: ClearSize,
    device: Device,
    projection: [Linear; 2],
    predictor: PredictorTensors,
    vocoder: VocoderTensors,
    frame_bytes: u64,
}

impl ClearParts {
    /// Each component is dropped from the host's memory before the next one is loaded.
    pub fn load(
        size: ClearSize,
        config: &Qwen3TtsConfig,
        device: &Device,
        load: &mut dyn FnMut(Qwen3TtsComponent) -> Result<Part, EngineError>,
    ) -> Result<Self, EngineError> {
        let projection = {
            let part = &load(Qwen3TtsComponent::TextProjection)?;
            let named = Named { part, device };
            [named.linear("linear_fc1")?, named.linear("linear_fc2")?]
        };
        let (predictor, predicting) = {
            let part = &load(Qwen3TtsComponent::Predictor)?;
            let config = &config.predictor;
            let bytes = PredictorTensors::frame_bytes(part, config.steps());
            let tensors = PredictorTensors::new(part, config, size.numbers, device)?;
            (tensors, bytes)
        };
        let part = &load(Qwen3TtsComponent::CodecDecoder)?;
        Ok(Self {
            vocoder: VocoderTensors::new(part, &size.vocoder, device)?,
            frame_bytes: predicting + VocoderTensors::frame_bytes(part),
            size,
            device: device.clone(),
            projection,
            predictor,
        })
    }

    /// How many bytes a frame reads of all.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }
}

/// What makes frames of them.
#[derive(Debug)]
pub struct ClearFrames<'m> {
    parts: &'m ClearParts,
    predictor: Predictor<'m>,
    vocoder: Vocoder<'m>,
    /// Chooses codes where they are; `None`: on the host, where nothing is waited for.
    chooser: Option<TensorChooser>,
    keeps_stages: bool,
}

impl<'m> ClearFrames<'m> {
    pub fn new(parts: &'m ClearParts) -> Result<Self, EngineError> {
        let ClearParts { size, device, .. } = parts;
        let chooser = (!size.is_host).then(|| TensorChooser::new(size.codes, device));
        Ok(Self {
            predictor: Predictor::new(&parts.predictor, &size.predictor, device)?,
            vocoder: Vocoder {
                weights: &parts.vocoder,
                shape: &size.vocoder,
                heard: Heard::new(&size.vocoder, device)?,
            },
            chooser: chooser.transpose()?,
            keeps_stages: false,
            parts,
        })
    }

    /// A row of the host's, where it is computed with.
    fn row(&self, numbers: &[f32]) -> candle_core::Result<Tensor> {
        Tensor::from_slice(numbers, (1, numbers.len()), &self.parts.device)
    }

    /// The codes that follow the first, by the sampler on the host or by tensors elsewhere.
    fn predict(&mut self, rows: &Tensor, asked: &mut Asked<'_>) -> Result<Predicted, EngineError> {
        let device = &self.parts.device;
        let Some(tensors) = &self.chooser else {
            return self.predictor.frame(rows, |step, logits| {
                // waits: on the host alone
                let logits: Vec<f32> = logits.to_vec1()?;
                let drawn = asked.drawn[step + 1];
                let code = asked.chooser.choose(&logits, asked.how, drawn);
                Ok(Tensor::new(&[code], device)?)
            });
        };
        let drawn = Tensor::new(asked.drawn, device)?;
        self.predictor.frame(rows, |step, logits| {
            let drawn = drawn.narrow(0, step + 1, 1)?;
            Ok(tensors.choose(logits, asked.how, &drawn)?)
        })
    }
}

impl Frames for ClearFrames<'_> {
    fn begin(&mut self) {
        self.vocoder.heard.begin(&self.parts.size.vocoder);
    }

    fn keep_stages(&mut self) {
        self.keeps_stages = true;
    }

    fn project(&mut self, embedded: &[f32]) -> Result<Vec<f32>, EngineError> {
        let [first, last] = &self.parts.projection;
        let width = first.weight().dim(0)?;
        let parts = embedded.chunks(PROJECTED_ROWS * width).map(|rows| {
            let size = (rows.len() / width, width);
            let rows = Tensor::from_slice(rows, size, &self.parts.device)?;
            last.run(&silu(&first.run(&rows)?)?)?.flatten_all()
        });
        let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
        brought(&parts)
    }

    fn make(
        &mut self,
        passes: &mut Passes<'_>,
        last: usize,
        mut asked: Asked<'_>,
    ) -> Result<Made, EngineError> {
        passes.compute.begin_stages()?;
        let hidden = passes.normed_tensor(last)?;
        let first = Tensor::new(&[asked.first], &self.parts.device)?;
        let rows = Tensor::cat(&[&hidden, &self.row(asked.embedded)?], 0)?;
        let predicted = stage!(
            passes.stage_clock(),
            CodePredictor,
            self.predict(&rows, &mut asked)?
        );
        passes.compute.end_stage(Stage::CodePredictor)?;
        let Predicted {
            mut codes,
            sum,
            logits,
        } = predicted;
        codes.insert(0, first);
        let codes = Tensor::cat(&codes, 0)?;
        let mut names: Vec<Cow<'static, str>> = Vec::new();
        let mut parts = vec![codes.to_dtype(DType::F32)?, hidden, sum];
        if self.keeps_stages {
            names.push(PREDICTED.into());
            parts.push(Tensor::cat(&logits, 0)?);
        }
        let keeps = self.keeps_stages;
        let mut look = |name: String, rows: &Tensor| {
            if keeps {
                names.push(format!("{STAGE}{name}").into());
                parts.push(rows.clone());
            }
        };
        let audio = stage!(
            passes.stage_clock(),
            Codec,
            self.vocoder.frame(&codes, &mut look)?
        );
        parts.insert(3, audio);
        let parts: Vec<Tensor> = parts
            .iter()
            .map(Tensor::flatten_all)
            .collect::<candle_core::Result<_>>()?;
        passes.compute.end_stage(Stage::Codec)?;
        let all = brought(&parts)?;
        let mut rest = &all[..];
        let mut pieces = parts.iter().map(|part| {
            let (piece, after) = rest.split_at(part.elem_count());
            rest = after;
            piece.to_vec()
        });
        let mut next = || pieces.next().unwrap_or_default();
        let (codes, hidden, row, mut audio) = (next(), next(), next(), next());
        audio.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
        Ok(Made {
            codes: codes.iter().map(|code| *code as u32).collect(),
            hidden,
            row,
            audio,
            stages: names.into_iter().zip(pieces).collect(),
        })
    }

    fn add_rows(&mut self, codes: &[u32], rows: &mut [f32]) -> Result<(), EngineError> {
        let parts = self.parts;
        let groups = parts.size.vocoder.quantisers;
        let frames = codes.len() / groups;
        let size = (frames, rows.len() / frames.max(1));
        let mut sum = Tensor::from_slice(rows, size, &parts.device)?;
        for step in 0..groups - 1 {
            let of_step: Vec<u32> = codes
                .iter()
                .skip(step + 1)
                .step_by(groups)
                .copied()
                .collect();
            let of_step = Tensor::from_vec(of_step, frames, &parts.device)?;
            sum = (sum + parts.predictor.embedded(step, &of_step)?)?;
        }
        rows.copy_from_slice(&brought(&[sum.flatten_all()?])?);
        Ok(())
    }

    fn sound_of(&mut self, codes: &[u32]) -> Result<Vec<f32>, EngineError> {
        let frames = codes.chunks_exact(self.parts.size.vocoder.quantisers);
        let frames = frames.map(|codes| {
            let codes = Tensor::new(codes, &self.parts.device)?;
            self.vocoder.frame(&codes, &mut |_, _| ())
        });
        let mut sound = brought(&frames.collect::<candle_core::Result<Vec<_>>>()?)?;
        sound.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
        Ok(sound)
    }
}

/// Lists of numbers, one after the other, on the host.
fn brought(parts: &[Tensor]) -> Result<Vec<f32>, EngineError> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let all = Tensor::cat(parts, 0)?;
    Ok(gpu_sync!("a frame", all.to_vec1())?)
}

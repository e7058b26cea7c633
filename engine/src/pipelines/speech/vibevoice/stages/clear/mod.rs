//! The stages in tensor operations: on the host in f32, what the kernels are held against; on a
//! device, where matrices are in the numbers of the weights and all else is f32.
//!
//! On a device a frame is ordered before it is known whether one comes: the host then waits once, for
//! the row that it chooses the token by and for all that the frame is made of. What convolutions
//! keep is a value, so a frame that does not come has left nothing behind.

mod codec;
mod head;
mod size;

use candle_core::{CpuStorage, Device, Storage, Tensor};
use kernels::CodecPart;
use loader::{CodecConfig, Component, VibeVoiceConfig};

use codec::{Codec, CodecState};
use head::{Connector, Head};
use size::CONNECTED;
pub use size::Sizes;

use super::{Asked, Known, LastRows, Made, Stages, VOICE_FRAMES};
use crate::compute::sync::gpu_sync;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;
use crate::pipelines::speech::vibevoice::schedule::Schedule;
use crate::pipelines::speech::vibevoice::weights::{codec_shape, denoiser_shape};
use crate::profile::{Stage, stage};
use crate::run::passes::Passes;

/// The weights, as tensors.
#[derive(Debug)]
pub struct Parts {
    device: Device,
    encoder: Codec,
    decoder: Codec,
    semantic: Codec,
    head: Head,
    acoustic_connector: Connector,
    semantic_connector: Connector,
}

impl Parts {
    pub fn load(
        config: &VibeVoiceConfig,
        device: &Device,
        part: &mut dyn FnMut(Component) -> Result<Part, EngineError>,
    ) -> Result<Self, EngineError> {
        let mut codec = |which, config: &CodecConfig, of| -> Result<Codec, EngineError> {
            Codec::new(&part(which)?, &codec_shape(config, of), device)
        };
        let encoder = CodecPart::Encoder;
        let eps = config.connector_eps as f32;
        Ok(Self {
            encoder: codec(Component::AcousticEncoder, &config.acoustic, encoder)?,
            decoder: codec(
                Component::AcousticDecoder,
                &config.acoustic,
                CodecPart::Decoder,
            )?,
            semantic: codec(Component::SemanticEncoder, &config.semantic, encoder)?,
            head: Head::new(
                &part(Component::Head)?,
                &denoiser_shape(&config.head),
                device,
            )?,
            acoustic_connector: Connector::new(&part(Component::AcousticConnector)?, eps, device)?,
            semantic_connector: Connector::new(&part(Component::SemanticConnector)?, eps, device)?,
            device: device.clone(),
        })
    }

    /// Hands out bytes of the head's largest matrix, if they are the host's.
    pub fn bytes_of_head<T>(&self, measure: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let (storage, _) = self.head.largest().storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => measure(Some(bytemuck::cast_slice(numbers))),
            _ => measure(None),
        }
    }
}

/// The stages of a stream of speech, in tensor operations.
#[derive(Debug)]
pub struct ClearStages<'m> {
    known: &'m Known,
    parts: &'m Parts,
    schedule: Schedule,
    /// Its times, embedded.
    times: Tensor,
    decoder: CodecState,
    semantic: CodecState,
}

/// A frame that is ordered, and what the convolutions keep if it comes.
struct Ordered {
    /// All that the host wants of it, in a row.
    numbers: Tensor,
    decoder: CodecState,
    semantic: CodecState,
}

impl<'m> ClearStages<'m> {
    pub fn new(parts: &'m Parts, known: &'m Known) -> Result<Self, EngineError> {
        let schedule = Schedule::new(known.config.head.train_steps, known.steps);
        Ok(Self {
            times: parts.head.embed_times(&schedule.times(), &parts.device)?,
            decoder: parts.decoder.start(),
            semantic: parts.semantic.start(),
            known,
            parts,
            schedule,
        })
    }

    fn on_host(&self) -> bool {
        self.parts.device.is_cpu()
    }

    /// Orders a frame under these conditions, a row each.
    fn order(
        &self,
        passes: &mut Passes<'_>,
        conditions: &Tensor,
        asked: Asked<'_>,
    ) -> Result<Ordered, EngineError> {
        let (parts, known) = (self.parts, self.known);
        let noise = Tensor::from_slice(asked.noise, (1, asked.noise.len()), &parts.device)?;
        let (schedule, times) = (&self.schedule, &self.times);
        let latent = stage!(passes.stage_clock(), DiffusionHead, {
            (parts.head).denoise(schedule, times, conditions, &noise, asked.guidance)?
        });
        passes.compute.end_stage(Stage::DiffusionHead)?;
        let (mut decoder, mut semantic) = (self.decoder.clone(), self.semantic.clone());
        let audio = stage!(passes.stage_clock(), Codec, {
            let scaled = (&latent / f64::from(known.scaling))?;
            let divided = (scaled - f64::from(known.bias))?;
            parts.decoder.run(&mut decoder, &divided)?
        });
        passes.compute.end_stage(Stage::Codec)?;
        let heard = stage!(
            passes.stage_clock(),
            SemanticEncoder,
            parts.semantic.run(&mut semantic, &audio)?
        );
        passes.compute.end_stage(Stage::SemanticEncoder)?;
        let said = parts.acoustic_connector.run(&latent)?;
        let row = (said + parts.semantic_connector.run(&heard)?)?;
        let all = [conditions, &latent, &audio, &heard, &row].map(Tensor::flatten_all);
        let all = all.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Ordered {
            numbers: Tensor::cat(&all, 0)?,
            decoder,
            semantic,
        })
    }

    /// The numbers of a frame apart.
    fn made(&self, numbers: &[f32], branches: usize) -> Made {
        let config = &self.known.config;
        let (hidden, acoustic) = (config.head.hidden, &config.acoustic);
        let mut rest = numbers;
        let mut take = |count: usize| {
            let (own, after) = rest.split_at(count);
            rest = after;
            own.to_vec()
        };
        Made {
            with_prompt: take(hidden),
            without: (branches == 2).then(|| take(hidden)),
            latent: take(acoustic.latent),
            audio: take(acoustic.hop() * acoustic.channels),
            semantic: take(config.semantic.latent),
            row: take(hidden),
        }
    }

    fn row(&self, rows: &Tensor) -> Result<Vec<f32>, EngineError> {
        // waits: on the host alone
        Ok(rows.narrow(0, 0, 1)?.flatten_all()?.to_vec1()?)
    }
}

impl Stages for ClearStages<'_> {
    fn begin(&mut self) {
        self.decoder = self.parts.decoder.start();
        self.semantic = self.parts.semantic.start();
    }

    fn hear(&mut self, sound: &[f32]) -> Result<Vec<f32>, EngineError> {
        let (encoder, acoustic) = (&self.parts.encoder, &self.known.config.acoustic);
        let (channels, mut state) = (acoustic.channels, encoder.start());
        let together = VOICE_FRAMES * acoustic.hop() * channels;
        let mut latents = Vec::new();
        for sound in sound.chunks(together) {
            let size = (sound.len() / channels, channels);
            let rows = Tensor::from_slice(sound, size, &self.parts.device)?;
            latents.push(encoder.run(&mut state, &rows)?);
        }
        if latents.is_empty() {
            return Ok(Vec::new());
        }
        // waits: while a voice is heard
        Ok(Tensor::cat(&latents, 0)?.flatten_all()?.to_vec1()?)
    }

    fn connect(&mut self, which: Component, latents: &[f32]) -> Result<Vec<f32>, EngineError> {
        let config = &self.known.config;
        let (connector, latent) = match which {
            Component::SemanticConnector => {
                (&self.parts.semantic_connector, config.semantic.latent)
            }
            _ => (&self.parts.acoustic_connector, config.acoustic.latent),
        };
        let mut all = Vec::new();
        for latents in latents.chunks(CONNECTED * latent) {
            let size = (latents.len() / latent, latent);
            let rows = Tensor::from_slice(latents, size, &self.parts.device)?;
            let rows = connector.run(&rows)?.flatten_all()?;
            // waits: while a prompt is made
            all.extend(rows.to_vec1::<f32>()?);
        }
        Ok(all)
    }

    fn say(
        &mut self,
        passes: &mut Passes<'_>,
        last: LastRows,
        asked: Asked<'_>,
    ) -> Result<(u32, Option<Made>), EngineError> {
        let speech = self.known.special.speech;
        passes.compute.begin_stages()?;
        let rows = [Some(last.with_prompt), last.without].into_iter().flatten();
        let rows = rows.map(|row| passes.normed_tensor(row));
        let rows = rows.collect::<Result<Vec<_>, EngineError>>()?;
        let conditions = Tensor::cat(&rows, 0)?;
        let known = match (asked.only_frames, self.on_host()) {
            (true, _) => Some(speech),
            // There is nothing to wait for, so nothing is made in vain.
            (false, true) => Some(stage!(passes.clock, Sampling, {
                self.known.choose(&self.row(&conditions)?)
            })),
            (false, false) => None,
        };
        if let Some(token) = known.filter(|token| *token != speech) {
            return Ok((token, None));
        }
        let ordered = self.order(passes, &conditions, asked)?;
        let numbers: Vec<f32> = gpu_sync!("a frame", ordered.numbers.to_vec1())?;
        let made = self.made(&numbers, rows.len());
        let token = known.unwrap_or_else(|| self.known.choose(&made.with_prompt));
        if token != speech {
            return Ok((token, None));
        }
        (self.decoder, self.semantic) = (ordered.decoder, ordered.semantic);
        Ok((token, Some(made)))
    }

    fn seen(&self) -> Result<[Vec<f32>; 2], EngineError> {
        let Parts {
            decoder,
            semantic,
            device,
            ..
        } = self.parts;
        let decoder = decoder.filed(&self.decoder, device)?;
        let semantic = semantic.filed(&self.semantic, device)?;
        // waits: at the end, and where what was said is kept on the way
        let [decoder, semantic] = [decoder, semantic].map(|filed| filed.to_vec1());
        Ok([decoder?, semantic?])
    }

    fn go_on_from(&mut self, [decoder, hearer]: [&[f32]; 2]) -> Result<bool, EngineError> {
        let device = &self.parts.device;
        let decoder = self.parts.decoder.unfiled(decoder, device)?;
        let hearer = self.parts.semantic.unfiled(hearer, device)?;
        let (Some(decoder), Some(hearer)) = (decoder, hearer) else {
            return Ok(false);
        };
        (self.decoder, self.semantic) = (decoder, hearer);
        Ok(true)
    }
}

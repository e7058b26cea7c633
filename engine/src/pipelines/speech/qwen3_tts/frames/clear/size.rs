//! What frames take of memory where tensor operations make them. These allocate as they go, so it is an
//! estimate of the most that lives at once; what is kept from frame to frame is counted exactly.

use kernels::VocoderShape;
use loader::{DType, Qwen3TtsConfig};

use super::choosing::TensorChooser;
use super::predictor;
use crate::compute::clear;
use crate::pipelines::speech::qwen3_tts::frames::PROJECTED_ROWS;
use crate::pipelines::speech::qwen3_tts::weights::vocoder_shape;

/// Shapes and working memory.
#[derive(Debug, Clone)]
pub struct ClearSize {
    pub predictor: clear::ClearSize,
    pub vocoder: VocoderShape,
    /// What text projection and predictor compute in.
    pub numbers: DType,
    pub is_host: bool,
    /// Codes that a step chooses from.
    pub codes: usize,
    /// The widest rows that are projected.
    text: usize,
}

impl ClearSize {
    /// On the host all is in f32; a device computes in the model's own numbers.
    pub fn of(config: &Qwen3TtsConfig, of_device: Option<DType>) -> Self {
        let numbers = of_device.unwrap_or(DType::F32);
        Self {
            predictor: predictor::size(&config.predictor, numbers),
            vocoder: vocoder_shape(&config.codec),
            numbers,
            is_host: of_device.is_none(),
            codes: config.predictor.codes(),
            text: config.text_hidden.max(config.predictor.talker_hidden),
        }
    }

    /// Beside the weights, of which the largest component takes so many bytes: on the host they are
    /// copied out of what they were read into, before there is anything else.
    pub fn bytes(&self, largest: u64) -> u64 {
        let needs = self.predictor.needs();
        let projecting = 4 * PROJECTED_ROWS * self.text * size_of::<f32>();
        let passing = self.passing_bytes().max(projecting) as u64;
        let (loading, choosing) = match self.is_host {
            true => (largest, 0),
            false => (0, TensorChooser::bytes(self.codes) as u64),
        };
        let working = needs.cache + needs.scratch + self.kept_bytes() as u64 + passing + choosing;
        working.max(loading)
    }

    /// Of a stream: keys and values of a window, and the times that convolutions see again.
    pub fn kept_bytes(&self) -> usize {
        let shape = &self.vocoder;
        let block = &shape.block;
        let caches = 2 * shape.layers * shape.window * block.kv_heads * block.head_dim;
        let past = shape.kernel - 1;
        let mut convs = (shape.pre_kernel - 1) * shape.quantised;
        // Where times are mixed in each first stage, and the stem.
        convs += (shape.upsampling.len() + 1) * past * shape.latent;
        let mut width = shape.channels;
        for rate in &shape.rates {
            width /= 2;
            let apart: usize = shape.dilations.iter().sum();
            convs += (rate + past * apart) * width;
        }
        (caches + convs + past * width) * size_of::<f32>()
    }

    /// The most that the tensors of a frame take at once.
    fn passing_bytes(&self) -> usize {
        let shape = &self.vocoder;
        let mut times = 1;
        let mut most = 0;
        for rate in &shape.upsampling {
            times *= rate;
            // The stream, and inner rows before and after their activation.
            most = most.max(times * shape.latent * (2 + 3 * shape.expansion));
        }
        most = most.max(times * (shape.latent * (2 + shape.kernel) + 2 * shape.channels));
        let mut width = shape.channels;
        for rate in &shape.rates {
            // Before and after the wave; the products, those that are added, and the sums.
            let spread = times * (2 * width + 5 * rate * width / 2);
            width /= 2;
            times *= rate;
            // The stream, a wave, what is seen, all that an output sees side by side, and the outputs.
            let unit = times * width * (5 + shape.kernel);
            most = most.max(spread).max(unit);
        }
        most * size_of::<f32>()
    }
}

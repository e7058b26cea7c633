//! What the stages in tensors take of memory. Their tensors are made by the tensor library, operation
//! by operation, so working memory is an estimate: the most bytes that live at once.

use kernels::{CodecPart, CodecShape};
use loader::{ComponentSource, DType, VibeVoiceConfig};

use super::codec::{Kind, LayerSize, layers};
use crate::pipelines::speech::vibevoice::stages::{BRANCHES, VOICE_FRAMES};
use crate::pipelines::speech::vibevoice::weights::{codec_shape, denoiser_shape};

/// Rows of latents that a connector takes together.
pub const CONNECTED: usize = 64;

/// How large all of it is.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// What matrices are in, and multiplied in. All else is f32.
    pub numbers: DType,
    /// Times that a convolution of each channel by itself sees.
    kernel: usize,
    is_host: bool,
    working: u64,
}

impl Sizes {
    /// On the host in f32, since its matrix products in anything else are of no use.
    pub fn on_host(config: &VibeVoiceConfig, steps: usize) -> Self {
        Self {
            is_host: true,
            ..Self::on_device(config, DType::F32, steps)
        }
    }

    /// On a device, in the weights' own numbers.
    pub fn on_device(config: &VibeVoiceConfig, numbers: DType, steps: usize) -> Self {
        let encoder = codec_shape(&config.acoustic, CodecPart::Encoder);
        let decoder = codec_shape(&config.acoustic, CodecPart::Decoder);
        let semantic = codec_shape(&config.semantic, CodecPart::Encoder);
        let head = denoiser_shape(&config.head);
        let passing = [(&encoder, VOICE_FRAMES), (&decoder, 1), (&semantic, 1)];
        let passing = passing.map(|(shape, frames)| passing_floats(shape, frames, numbers));
        // A frame that may be thrown away goes on from states that stay.
        let states = kept(&encoder) + 2 * (kept(&decoder) + kept(&semantic));
        let modulations = 2 * BRANCHES * steps * (3 * head.layers + 2) * head.hidden;
        let denoising = modulations + 4 * BRANCHES * (2 * head.ffn + 4 * head.hidden);
        let connecting = 6 * CONNECTED * head.hidden;
        let passing = passing.into_iter().max().unwrap_or(0);
        let floats = states + steps * head.hidden + passing.max(denoising).max(connecting);
        Self {
            numbers,
            kernel: config.acoustic.kernel.max(config.semantic.kernel),
            is_host: false,
            working: (floats * size_of::<f32>()) as u64,
        }
    }

    /// Bytes of a component's weights.
    pub fn component_bytes(&self, component: &ComponentSource) -> u64 {
        self.part_bytes(component).sum()
    }

    /// Each of its weights: vectors and what is read by channels are in f32.
    fn part_bytes<'a>(&'a self, component: &'a ComponentSource) -> impl Iterator<Item = u64> + 'a {
        let parts = component.source.layout().parts();
        parts.map(|(_, part)| {
            let each = match part.cols == 1 || part.cols == self.kernel {
                true => size_of::<f32>(),
                false => self.numbers.bytes(),
            };
            (part.rows * part.cols * each) as u64
        })
    }

    /// While a component is brought, copies of its largest matrix are there as well: as it came, and on
    /// the way into the order that it is computed with. On the host so are the bytes that were read.
    pub fn bring(&mut self, component: &ComponentSource) {
        let read = match self.is_host {
            true => component.source.slab_bytes() as u64,
            false => 0,
        };
        let largest = self.part_bytes(component).max().unwrap_or(0);
        self.working = self.working.max(read + 2 * largest);
    }

    /// States, and what computing takes, or bringing the weights before.
    pub fn bytes(&self) -> u64 {
        self.working
    }
}

fn kept(shape: &CodecShape) -> usize {
    layers(shape).iter().map(LayerSize::kept).sum()
}

/// The most that a layer's rows take together.
fn passing_floats(shape: &CodecShape, frames: usize, numbers: DType) -> usize {
    let of_layer = |layer: &LayerSize| {
        let times = layer.times * frames;
        let (inputs, outputs) = (times * layer.inputs, layer.outputs);
        let seen = inputs + layer.kept();
        // Of numbers that are multiplied in another format a copy.
        let copied = |floats: usize| match numbers {
            DType::F32 => floats,
            DType::F16 | DType::Bf16 => floats + floats / 2,
        };
        match layer.kind {
            Kind::Conv => {
                let times = times / layer.stride;
                let windows = times * layer.kernel * layer.inputs;
                seen + copied(windows) + 2 * copied(times * outputs)
            }
            Kind::Transposed => {
                let products = times * outputs * layer.kernel;
                inputs + 2 * copied(products) + 2 * products
            }
            Kind::Block => {
                let inner = shape.expansion * inputs;
                4 * inputs + (2 * seen).max(3 * copied(inner))
            }
        }
    };
    layers(shape).iter().map(of_layer).max().unwrap_or(0)
}

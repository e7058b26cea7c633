//! What is there beside the language model: codecs, the diffusion head, and the connectors, whole in
//! memory, as the kernels take them.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::{
    CodecBlock, CodecPart, CodecShape, CodecWeights, ConvWeights, DenoiserLayer, DenoiserShape,
    DenoiserWeights, Matrix, Weights,
};
use loader::{
    Access, BlockLayout, CodecConfig, Component, DType, HeadConfig, Placement, VibeVoice,
};
use offload::SlabBytes;

use crate::compute::fast::{matrix_of, numbers_of};
use crate::error::EngineError;

/// One of them.
#[derive(Debug)]
pub(super) struct Part {
    slab: SlabBytes,
    layout: Arc<BlockLayout>,
    /// Where in the layout each weight is.
    names: HashMap<String, usize>,
}

/// A part while its bytes are at hand.
#[derive(Clone, Copy)]
pub(super) struct Open<'a> {
    part: &'a Part,
    bytes: &'a [u8],
}

impl Part {
    /// Bytes that it takes.
    pub fn bytes_of(
        system: &VibeVoice,
        which: Component,
        dtype: Option<DType>,
    ) -> Result<u64, EngineError> {
        Ok(system.component(which, dtype)?.source.slab_bytes() as u64)
    }

    pub fn load(
        system: &VibeVoice,
        which: Component,
        dtype: Option<DType>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let component = system.component(which, dtype)?;
        let source = &component.source;
        let slab = SlabBytes::host(source.slab_bytes())?;
        slab.write(|to| loader::read_block(system.sources(), source, to, Access::Buffered))??;
        progress(source.stored_bytes());
        let names = component.tensors.iter().enumerate();
        Ok(Self {
            slab,
            layout: Arc::clone(source.layout()),
            names: names
                .map(|(at, tensor)| (tensor.name.clone(), at))
                .collect(),
        })
    }

    pub fn slab(&self) -> &SlabBytes {
        &self.slab
    }

    /// Of all its weights.
    pub fn bytes(&self) -> u64 {
        self.bytes_of_weights(|_| true)
    }

    /// Of those whose names are wanted.
    pub fn bytes_of_weights(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let places = self.layout.placements();
        let names = self.names.iter().filter(|(name, _)| wanted(name));
        names.map(|(_, at)| places[*at].bytes() as u64).sum()
    }

    /// Lets `work` see the weights.
    pub fn open<R>(&self, work: impl FnOnce(Open<'_>) -> R) -> Result<R, EngineError> {
        Ok(self.slab.read(|bytes| work(Open { part: self, bytes }))?)
    }
}

impl<'a> Open<'a> {
    fn place(&self, name: &str) -> &'a Placement {
        match self.part.names.get(name) {
            Some(&at) => &self.part.layout.placements()[at],
            None => unreachable!("no weight `{name}`: the loader has looked at all of them"),
        }
    }

    pub fn matrix(&self, name: &str) -> Matrix<'a> {
        matrix_of(self.place(name), self.bytes)
    }

    pub fn vector(&self, name: &str) -> Weights<'a> {
        numbers_of(self.place(name), self.bytes)
    }

    fn conv(&self, name: &str) -> ConvWeights<'a> {
        ConvWeights {
            weight: self.matrix(&format!("{name}.weight")),
            bias: self.vector(&format!("{name}.bias")),
        }
    }

    fn block(&self, name: &str) -> CodecBlock<'a> {
        let matrix = |of: &str| self.matrix(&format!("{name}.{of}"));
        let vector = |of: &str| self.vector(&format!("{name}.{of}"));
        CodecBlock {
            norm: vector("norm.weight"),
            mixer: self.conv(&format!("{name}.mixer.conv")),
            gamma: vector("gamma"),
            ffn_norm: vector("ffn_norm.weight"),
            linear1: matrix("ffn.linear1.weight"),
            bias1: vector("ffn.linear1.bias"),
            linear2: matrix("ffn.linear2.weight"),
            bias2: vector("ffn.linear2.bias"),
            ffn_gamma: vector("ffn_gamma"),
        }
    }

    /// An encoder's or a decoder's weights.
    pub fn codec(&self, shape: &CodecShape) -> CodecWeights<'a> {
        let resample = match shape.part {
            CodecPart::Encoder => "conv.conv",
            CodecPart::Decoder => "convtr.convtr",
        };
        let stage = |at: usize| match at.checked_sub(1) {
            None => "stem".to_owned(),
            Some(at) => format!("conv_layers.{at}"),
        };
        let blocks = |(at, &depth): (usize, &usize)| {
            let stage = stage(at);
            let blocks = (0..depth).map(|block| self.block(&format!("{stage}.stage.{block}")));
            blocks.collect()
        };
        let resamplings = 1..shape.depths.len();
        CodecWeights {
            stem: self.conv("stem.conv.conv"),
            stages: shape.depths.iter().enumerate().map(blocks).collect(),
            resample: resamplings
                .map(|at| self.conv(&format!("{}.{resample}", stage(at))))
                .collect(),
            head: self.conv("head.conv"),
        }
    }

    /// The diffusion head's.
    pub fn denoiser(&self, shape: &DenoiserShape) -> DenoiserWeights<'a> {
        let layer = |at: usize| {
            let matrix = |of: &str| self.matrix(&format!("layers.{at}.{of}.weight"));
            DenoiserLayer {
                norm: self.vector(&format!("layers.{at}.norm.weight")),
                gate: matrix("ffn.gate_proj"),
                up: matrix("ffn.up_proj"),
                down: matrix("ffn.down_proj"),
                modulation: matrix("linear"),
            }
        };
        DenoiserWeights {
            noisy_proj: self.matrix("noisy_images_proj.weight"),
            cond_proj: self.matrix("cond_proj.weight"),
            time_fc1: self.matrix("timestep_proj.fc1.weight"),
            time_fc2: self.matrix("timestep_proj.fc2.weight"),
            layers: (0..shape.layers).map(layer).collect(),
            final_modulation: self.matrix("final_layer.linear_1.weight"),
            final_linear: self.matrix("final_layer.linear_2.weight"),
        }
    }
}

/// The shape of an encoder or a decoder.
pub(super) fn codec_shape(config: &CodecConfig, part: CodecPart) -> CodecShape {
    CodecShape {
        part,
        channels: config.channels,
        latent: config.latent,
        filters: config.filters,
        ratios: config.ratios.clone(),
        depths: match part {
            CodecPart::Encoder => config.encoder_depths.clone(),
            CodecPart::Decoder => config.decoder_depths.clone(),
        },
        kernel: config.kernel,
        expansion: config.ffn_expansion,
        norm_eps: config.norm_eps as f32,
    }
}

pub(super) fn denoiser_shape(config: &HeadConfig) -> DenoiserShape {
    DenoiserShape {
        layers: config.layers,
        hidden: config.hidden,
        ffn: config.ffn,
        latent: config.latent,
        frequency: config.frequency,
        norm_eps: config.norm_eps as f32,
    }
}

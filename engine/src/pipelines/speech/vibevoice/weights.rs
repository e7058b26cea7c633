//! The weights of VibeVoice's codecs and of its diffusion head, by the names of the converted layout.

use kernels::{
    CodecBlock, CodecPart, CodecShape, CodecWeights, ConvWeights, DenoiserLayer, DenoiserShape,
    DenoiserWeights,
};
use loader::{CodecConfig, HeadConfig};

use crate::pipelines::speech::part::Part;

fn conv<'a>(part: &'a Part, name: &str) -> ConvWeights<'a> {
    ConvWeights {
        weight: part.matrix(&format!("{name}.weight")),
        bias: part.vector(&format!("{name}.bias")),
    }
}

fn block<'a>(part: &'a Part, name: &str) -> CodecBlock<'a> {
    let matrix = |of: &str| part.matrix(&format!("{name}.{of}"));
    let vector = |of: &str| part.vector(&format!("{name}.{of}"));
    CodecBlock {
        norm: vector("norm.weight"),
        mixer: conv(part, &format!("{name}.mixer.conv")),
        gamma: vector("gamma"),
        ffn_norm: vector("ffn_norm.weight"),
        linear1: matrix("ffn.linear1.weight"),
        bias1: vector("ffn.linear1.bias"),
        linear2: matrix("ffn.linear2.weight"),
        bias2: vector("ffn.linear2.bias"),
        ffn_gamma: vector("ffn_gamma"),
    }
}

/// What a codec's stages are called: the first one is that of the stem.
fn stage_name(stage: usize) -> String {
    match stage.checked_sub(1) {
        None => "stem".to_owned(),
        Some(at) => format!("conv_layers.{at}"),
    }
}

/// What a block of a stage is called.
pub(super) fn block_name(stage: usize, at: usize) -> String {
    format!("{}.stage.{at}", stage_name(stage))
}

/// What the convolution is called that a stage begins with; the first stage has none.
pub(super) fn resample_name(part: CodecPart, stage: usize) -> String {
    let convolution = match part {
        CodecPart::Encoder => "conv.conv",
        CodecPart::Decoder => "convtr.convtr",
    };
    format!("{}.{convolution}", stage_name(stage))
}

/// What the first and the last convolution are called.
pub(super) const STEM: &str = "stem.conv.conv";
pub(super) const HEAD: &str = "head.conv";

/// An encoder's or a decoder's weights.
pub(super) fn codec<'a>(part: &'a Part, shape: &CodecShape) -> CodecWeights<'a> {
    let blocks = |(stage, &depth): (usize, &usize)| {
        let blocks = (0..depth).map(|at| block(part, &block_name(stage, at)));
        blocks.collect()
    };
    let resamplings = 1..shape.depths.len();
    CodecWeights {
        stem: conv(part, STEM),
        stages: shape.depths.iter().enumerate().map(blocks).collect(),
        resample: resamplings
            .map(|stage| conv(part, &resample_name(shape.part, stage)))
            .collect(),
        head: conv(part, HEAD),
    }
}

/// The diffusion head's.
pub(super) fn denoiser<'a>(part: &'a Part, shape: &DenoiserShape) -> DenoiserWeights<'a> {
    let layer = |at: usize| {
        let matrix = |of: &str| part.matrix(&format!("layers.{at}.{of}.weight"));
        DenoiserLayer {
            norm: part.vector(&format!("layers.{at}.norm.weight")),
            gate: matrix("ffn.gate_proj"),
            up: matrix("ffn.up_proj"),
            down: matrix("ffn.down_proj"),
            modulation: matrix("linear"),
        }
    };
    DenoiserWeights {
        noisy_proj: part.matrix("noisy_images_proj.weight"),
        cond_proj: part.matrix("cond_proj.weight"),
        time_fc1: part.matrix("timestep_proj.fc1.weight"),
        time_fc2: part.matrix("timestep_proj.fc2.weight"),
        layers: (0..shape.layers).map(layer).collect(),
        final_modulation: part.matrix("final_layer.linear_1.weight"),
        final_linear: part.matrix("final_layer.linear_2.weight"),
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

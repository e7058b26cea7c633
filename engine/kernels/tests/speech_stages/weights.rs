//! Weights of the fixtures' checkpoints as the kernels take them, by the names of the converted
//! layout. Knows no kernel, and no shape but what it is given.

use std::collections::HashMap;

use half::bf16;
use kernels::{
    CodecBlock, CodecPart, CodecShape, CodecWeights, ConvWeights, DenoiserLayer, DenoiserWeights,
    Matrix, Weights,
};

use crate::fixtures;
use crate::numbers::Numbers;

/// As stored, or widened.
enum Values {
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
}

/// The weights of a file: how many rows, and their numbers.
pub struct Checkpoint(HashMap<String, (usize, Values)>);

impl Checkpoint {
    pub fn read(file: &str, widened: bool) -> Self {
        let stored = Numbers::read(&fixtures().join(file));
        let names = stored.header.as_object().unwrap().keys();
        let names = names.filter(|name| *name != "__metadata__");
        let tensor = |name: &String| {
            let header = &stored.header[name];
            assert_eq!(header["dtype"], "BF16", "{name}");
            let values = stored.bytes(name).chunks_exact(2);
            let values = values.map(|bytes| bf16::from_le_bytes(bytes.try_into().unwrap()));
            let values = if widened {
                Values::F32(values.map(bf16::to_f32).collect())
            } else {
                Values::Bf16(values.collect())
            };
            let rows = header["shape"][0].as_u64().unwrap_or(1) as usize;
            (name.clone(), (rows, values))
        };
        Self(names.map(tensor).collect())
    }

    /// Both forms of it.
    pub fn both(file: &str) -> [(&'static str, Self); 2] {
        [("bf16", false), ("f32", true)].map(|(form, widened)| (form, Self::read(file, widened)))
    }

    pub fn part<'a>(&'a self, prefix: &'a str) -> Part<'a> {
        Part {
            stored: self,
            prefix,
        }
    }
}

/// The weights whose names begin alike.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    stored: &'a Checkpoint,
    prefix: &'a str,
}

impl<'a> Part<'a> {
    pub fn matrix(&self, name: &str) -> Matrix<'a> {
        let numbers = self.vector(name);
        let rows = self.stored.0[&format!("{}.{name}", self.prefix)].0;
        Matrix::new(numbers, rows, numbers.len() / rows)
    }

    pub fn vector(&self, name: &str) -> Weights<'a> {
        let name = format!("{}.{name}", self.prefix);
        match self.stored.0.get(&name) {
            Some((_, Values::Bf16(values))) => Weights::Bf16(values),
            Some((_, Values::F32(values))) => Weights::F32(values),
            None => panic!("no {name}"),
        }
    }

    fn conv(&self, name: &str) -> ConvWeights<'a> {
        ConvWeights {
            weight: self.matrix(&format!("{name}.weight")),
            bias: self.vector(&format!("{name}.bias")),
        }
    }

    fn block(&self, name: &str) -> CodecBlock<'a> {
        let vector = |of: &str| self.vector(&format!("{name}.{of}"));
        let matrix = |of: &str| self.matrix(&format!("{name}.{of}"));
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

    pub fn codec(&self, shape: &CodecShape) -> CodecWeights<'a> {
        let resample = match shape.part {
            CodecPart::Encoder => "conv.conv",
            CodecPart::Decoder => "convtr.convtr",
        };
        let stage = |at: usize| match at {
            0 => "stem".to_owned(),
            _ => format!("conv_layers.{}", at - 1),
        };
        let blocks = |(at, &depth): (usize, &usize)| {
            let blocks = 0..depth;
            let name = |block| format!("{}.stage.{block}", stage(at));
            blocks.map(|block| self.block(&name(block))).collect()
        };
        CodecWeights {
            stem: self.conv("stem.conv.conv"),
            stages: shape.depths.iter().enumerate().map(blocks).collect(),
            resample: (1..shape.depths.len())
                .map(|at| self.conv(&format!("{}.{resample}", stage(at))))
                .collect(),
            head: self.conv("head.conv"),
        }
    }

    pub fn denoiser(&self, layers: usize) -> DenoiserWeights<'a> {
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
            layers: (0..layers).map(layer).collect(),
            final_modulation: self.matrix("final_layer.linear_1.weight"),
            final_linear: self.matrix("final_layer.linear_2.weight"),
        }
    }
}

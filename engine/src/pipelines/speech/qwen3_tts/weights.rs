//! The weights of Qwen3-TTS's predictor and of its codec, by their names in the files.

use kernels::{
    BlockShape, BlockWeights, ConvWeights, PredictorShape, PredictorWeights, Snake, StageWeights,
    UnitWeights, UpsampleWeights, VocoderLayer, VocoderShape, VocoderWeights,
};
use loader::{CodecDecoderConfig, PredictorConfig};

use crate::pipelines::speech::part::Part;

/// What the released convolutions span, and how far their taps are apart.
const PRE_KERNEL: usize = 3;
const KERNEL: usize = 7;
const EXPANSION: usize = 4;
const DILATIONS: [usize; 3] = [1, 3, 9];
const LAYER_NORM_EPS: f32 = 1e-6;

pub(super) fn predictor_shape(config: &PredictorConfig) -> PredictorShape {
    let layers = &config.layers;
    PredictorShape {
        input: config.talker_hidden,
        layers: layers.layers,
        block: BlockShape {
            hidden: layers.hidden_size,
            ffn: layers.intermediate_size,
            heads: layers.heads,
            kv_heads: layers.kv_heads,
            head_dim: layers.head_dim,
            norm_eps: layers.norm_eps as f32,
            scale: None,
            residual: 1.0,
        },
        codes: config.codes(),
        steps: config.steps(),
    }
}

pub(super) fn vocoder_shape(config: &CodecDecoderConfig) -> VocoderShape {
    VocoderShape {
        quantisers: config.quantizers,
        codes: config.codebook_size,
        entry: config.entry,
        quantised: config.codebook_dim,
        pre_kernel: PRE_KERNEL,
        latent: config.latent,
        layers: config.layers,
        block: BlockShape {
            hidden: config.hidden,
            ffn: config.ffn,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            norm_eps: config.norm_eps as f32,
            scale: None,
            residual: 1.0,
        },
        window: config.window,
        rope_theta: config.rope_theta as f32,
        upsampling: config.upsampling_ratios.clone(),
        expansion: EXPANSION,
        layer_norm_eps: LAYER_NORM_EPS,
        channels: config.decoder_dim,
        rates: config.upsample_rates.clone(),
        dilations: DILATIONS.to_vec(),
        kernel: KERNEL,
    }
}

/// A layer as transformers names its tensors.
fn layer<'a>(part: &'a Part, name: &str, has_norms: bool) -> BlockWeights<'a> {
    let matrix = |of: &str| part.matrix(&format!("{name}.{of}.weight"));
    let vector = |of: &str| Some(part.vector(&format!("{name}.{of}.weight")));
    let of_heads = |of: &str| has_norms.then(|| vector(of)).flatten();
    let attention = |of: &str| matrix(&format!("self_attn.{of}_proj"));
    BlockWeights {
        input_norm: vector("input_layernorm"),
        qkv: attention("q").above(attention("k")).above(attention("v")),
        qkv_bias: None,
        q_norm: of_heads("self_attn.q_norm"),
        k_norm: of_heads("self_attn.k_norm"),
        out: attention("o"),
        out_bias: None,
        out_norm: None,
        post_norm: vector("post_attention_layernorm"),
        gate_up: matrix("mlp.gate_proj").above(matrix("mlp.up_proj")),
        gate_up_bias: None,
        down: matrix("mlp.down_proj"),
        down_bias: None,
        down_norm: None,
    }
}

pub(super) fn predictor<'a>(part: &'a Part, shape: &PredictorShape) -> PredictorWeights<'a> {
    const PROJECTION: &str = "small_to_mtp_projection";
    let projects = shape.input != shape.block.hidden;
    let steps = 0..shape.steps;
    PredictorWeights {
        projection: projects.then(|| linear(part, PROJECTION)),
        layers: (0..shape.layers)
            .map(|at| layer(part, &format!("model.layers.{at}"), true))
            .collect(),
        norm: part.vector("model.norm.weight"),
        heads: (steps.clone())
            .map(|step| part.matrix(&format!("lm_head.{step}.weight")))
            .collect(),
        embeddings: steps
            .map(|step| part.matrix(&format!("model.codec_embedding.{step}.weight")))
            .collect(),
    }
}

fn linear<'a>(part: &'a Part, name: &str) -> (kernels::Matrix<'a>, kernels::Weights<'a>) {
    let weight = part.matrix(&format!("{name}.weight"));
    (weight, part.vector(&format!("{name}.bias")))
}

fn conv<'a>(part: &'a Part, name: &str) -> ConvWeights<'a> {
    let (weight, bias) = linear(part, &format!("{name}.conv"));
    ConvWeights { weight, bias }
}

/// Its logarithms were made numbers when it was loaded.
fn snake<'a>(part: &'a Part, name: &str) -> Snake<'a> {
    Snake {
        frequency: part.vector(&format!("{name}.alpha")),
        gain: part.vector(&format!("{name}.beta")),
    }
}

/// The name of a codebook, without what it has.
pub(super) fn codebook(at: usize) -> String {
    let (kind, at) = match at.checked_sub(1) {
        None => ("first", 0),
        Some(at) => ("rest", at),
    };
    format!("quantizer.rvq_{kind}.vq.layers.{at}._codebook")
}

pub(super) fn vocoder<'a>(part: &'a Part, shape: &VocoderShape) -> VocoderWeights<'a> {
    let out = |kind: &str| part.matrix(&format!("quantizer.rvq_{kind}.output_proj.weight"));
    let block = |at: usize| {
        let name = format!("pre_transformer.layers.{at}");
        VocoderLayer {
            block: layer(part, &name, false),
            attention_scale: part.vector(&format!("{name}.self_attn_layer_scale.scale")),
            ffn_scale: part.vector(&format!("{name}.mlp_layer_scale.scale")),
        }
    };
    let upsample = |at: usize| {
        let of = |name: &str| format!("upsample.{at}.1.{name}");
        let (linear1, bias1) = linear(part, &of("pwconv1"));
        let (linear2, bias2) = linear(part, &of("pwconv2"));
        UpsampleWeights {
            conv: conv(part, &format!("upsample.{at}.0")),
            mixer: conv(part, &of("dwconv")),
            norm: part.vector(&of("norm.weight")),
            norm_bias: part.vector(&of("norm.bias")),
            linear1,
            bias1,
            linear2,
            bias2,
            gamma: part.vector(&of("gamma")),
        }
    };
    let stage = |at: usize| {
        let of = |name: &str| format!("decoder.{}.block.{name}", at + 1);
        let unit = |unit: usize| {
            let of = |name: &str| of(&format!("{}.{name}", unit + 2));
            UnitWeights {
                snake1: snake(part, &of("act1")),
                conv1: conv(part, &of("conv1")),
                snake2: snake(part, &of("act2")),
                conv2: conv(part, &of("conv2")),
            }
        };
        StageWeights {
            snake: snake(part, &of("0")),
            conv: conv(part, &of("1")),
            units: (0..shape.dilations.len()).map(unit).collect(),
        }
    };
    let stages = shape.rates.len();
    VocoderWeights {
        codebooks: (0..shape.quantisers)
            .map(|at| part.matrix(&format!("{}.embedding_sum", codebook(at))))
            .collect(),
        first_out: out("first"),
        rest_out: out("rest"),
        pre_conv: conv(part, "pre_conv"),
        input: linear(part, "pre_transformer.input_proj"),
        layers: (0..shape.layers).map(block).collect(),
        norm: part.vector("pre_transformer.norm.weight"),
        output: linear(part, "pre_transformer.output_proj"),
        upsample: (0..shape.upsampling.len()).map(upsample).collect(),
        stem: conv(part, "decoder.0"),
        stages: (0..stages).map(stage).collect(),
        snake: snake(part, &format!("decoder.{}", stages + 1)),
        head: conv(part, &format!("decoder.{}", stages + 2)),
    }
}

/// What is stored as sums and counts, or as logarithms, becomes what is computed with. `change` gives a
/// weight's numbers, by its name, to be changed with another's. There are so many codebooks.
pub(super) fn prepare(
    codebooks: usize,
    names: &[String],
    mut change: impl FnMut(&str, Option<&str>, &dyn Fn(&mut [f32], &[f32])),
) {
    for at in 0..codebooks {
        let name = codebook(at);
        let (sum, usage) = (
            format!("{name}.embedding_sum"),
            format!("{name}.cluster_usage"),
        );
        change(&sum, Some(&usage), &|entries, usage| {
            let width = entries.len() / usage.len();
            for (entry, usage) in entries.chunks_exact_mut(width).zip(usage) {
                let usage = usage.max(1e-5);
                entry.iter_mut().for_each(|number| *number /= usage);
            }
        });
    }
    for name in names {
        if name.ends_with(".alpha") {
            change(name, None, &|numbers, _| {
                numbers.iter_mut().for_each(|it| *it = it.exp());
            });
        } else if name.ends_with(".beta") {
            change(name, None, &|numbers, _| {
                numbers
                    .iter_mut()
                    .for_each(|it| *it = 1.0 / (it.exp() + 1e-9));
            });
        }
    }
}

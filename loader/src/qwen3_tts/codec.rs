//! The decoder of the codec, which makes sound of codes, as the codec's own config.json describes it.
//! Everything that would change what is computed and is not computed here is refused. What describes
//! the encoder is not looked at. Knows no tensor.

use serde_json::Value;

use super::kind::{CODEC, must_be};
use super::predictor::GROUPS_MAX;
use crate::Error;
use crate::config::{contradiction, limits, ranges, unsupported};
use crate::json::{Fields, parse_object};

/// The sizes of the decoder, in the order in which codes pass through it.
#[derive(Debug, Clone, PartialEq)]
pub struct CodecDecoderConfig {
    /// Codes of a frame. The first has a projection of its own, the others share one.
    pub quantizers: usize,
    /// Entries of each codebook.
    pub codebook_size: usize,
    /// Numbers of an entry.
    pub entry: usize,
    /// Channels that entries are projected to.
    pub codebook_dim: usize,
    /// Channels before and after the transformer.
    pub latent: usize,
    /// The transformer.
    pub layers: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a frame sees, itself among them.
    pub window: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    /// Strides at the width of the latents.
    pub upsampling_ratios: Vec<usize>,
    /// Channels after them; each of the strides that follow halves them.
    pub decoder_dim: usize,
    pub upsample_rates: Vec<usize>,
    /// Samples a second.
    pub sample_rate: usize,
}

impl CodecDecoderConfig {
    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        let strides = self.upsampling_ratios.iter().chain(&self.upsample_rates);
        strides.product()
    }

    /// Channels before the first of the strides that halve them, and after each.
    pub fn channels(&self) -> Vec<usize> {
        let strides = self.upsample_rates.len();
        (0..=strides).map(|at| self.decoder_dim >> at).collect()
    }
}

/// No product of these overflows, and the tensors of a component can be numbered.
const DIM_MAX: usize = 1 << 16;
const CODEBOOK_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1024;
const STRIDES_MAX: usize = 12;
const RATIO_MAX: usize = 64;
const HOP_MAX: usize = 1 << 20;
const WINDOW_MAX: usize = 1 << 20;
const SAMPLE_RATE_MAX: usize = 1 << 20;

/// What these are where they are not said.
const SAMPLE_RATE: usize = 24_000;
const NORM_EPS: f64 = 1e-5;
const ROPE_THETA: f64 = 1e4;
const WINDOW: usize = 72;

const RATIOS: &str = "upsampling_ratios";
const RATES: &str = "upsample_rates";
const HOP: &str = "decode_upsample_rate";

impl CodecDecoderConfig {
    pub(super) fn read(file: &str, json: &[u8]) -> Result<Self, Error> {
        let map = parse_object(file, json)?;
        let root = Fields {
            file,
            prefix: "",
            map: &map,
        };
        must_be(&root, "model_type", CODEC)?;
        const DECODER: &str = "decoder_config";
        let fields = Fields {
            file,
            prefix: "decoder_config.",
            map: root.object(DECODER)?.ok_or_else(|| root.missing(DECODER))?,
        };
        refuse_what_we_cannot_compute(&fields)?;
        let sample_rate = root.count("output_sample_rate", SAMPLE_RATE_MAX)?;
        let codec = sizes(&fields, sample_rate.unwrap_or(SAMPLE_RATE))?;
        let hop = codec.hop();
        match root.count(HOP, usize::MAX)?.filter(|said| *said != hop) {
            Some(said) => Err(contradiction(
                &root,
                (HOP, &said),
                (
                    "decoder_config.upsample_rates",
                    &format!("of {hop} samples a frame"),
                ),
            )),
            None => Ok(codec),
        }
    }
}

fn sizes(fields: &Fields<'_>, sample_rate: usize) -> Result<CodecDecoderConfig, Error> {
    let count = |name, max| {
        let said = fields.count(name, max)?;
        said.ok_or_else(|| fields.missing(name))
    };
    let codebook_dim = count("codebook_dim", DIM_MAX)?;
    if !codebook_dim.is_multiple_of(2) {
        return Err(fields.wrong("codebook_dim", codebook_dim, "an even number"));
    }
    let (upsampling_ratios, upsample_rates) = (strides(fields, RATIOS)?, strides(fields, RATES)?);
    let product = (upsampling_ratios.iter().chain(&upsample_rates))
        .try_fold(1_usize, |hop, ratio| hop.checked_mul(*ratio));
    if product.is_none_or(|hop| hop > HOP_MAX) {
        let found = format!("{upsample_rates:?}");
        let expected = format!("strides whose product is at most {HOP_MAX}");
        return Err(fields.wrong(RATES, found, &expected));
    }
    let decoder_dim = count("decoder_dim", DIM_MAX)?;
    let least = 1 << upsample_rates.len();
    if !decoder_dim.is_multiple_of(least) {
        let expected = format!("a multiple of {least}: each stride of {RATES} halves it");
        return Err(fields.wrong("decoder_dim", decoder_dim, &expected));
    }
    let hidden = count("hidden_size", DIM_MAX)?;
    let heads = count("num_attention_heads", limits::HEADS)?;
    let kv_heads = count("num_key_value_heads", limits::HEADS)?;
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({heads})");
        return Err(fields.wrong("num_key_value_heads", kv_heads, &expected));
    }
    let head_dim_max = limits::HEADS_TIMES_DIM / heads;
    let head_dim = fields.count("head_dim", head_dim_max)?;
    let head_dim = head_dim.unwrap_or(hidden / heads);
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(fields.wrong("head_dim", head_dim, "an even number"));
    }
    let window = fields.count("sliding_window", WINDOW_MAX)?;
    let norm_eps = fields.within("rms_norm_eps", ranges::NORM_EPS)?;
    let rope_theta = fields.within("rope_theta", ranges::ROPE_THETA)?;
    let quantizers = count("num_quantizers", GROUPS_MAX)?;
    if quantizers < 2 {
        return Err(fields.wrong("num_quantizers", quantizers, "at least 2"));
    }
    Ok(CodecDecoderConfig {
        quantizers,
        codebook_size: count("codebook_size", CODEBOOK_MAX)?,
        entry: codebook_dim / 2,
        codebook_dim,
        latent: count("latent_dim", DIM_MAX)?,
        layers: count("num_hidden_layers", LAYERS_MAX)?,
        hidden,
        ffn: count("intermediate_size", limits::INTERMEDIATE)?,
        heads,
        kv_heads,
        head_dim,
        window: window.unwrap_or(WINDOW),
        norm_eps: norm_eps.unwrap_or(NORM_EPS),
        rope_theta: rope_theta.unwrap_or(ROPE_THETA),
        upsampling_ratios,
        decoder_dim,
        upsample_rates,
        sample_rate,
    })
}

fn strides(fields: &Fields<'_>, name: &str) -> Result<Vec<usize>, Error> {
    let list = fields.list(name)?.ok_or_else(|| fields.missing(name))?;
    if !(1..=STRIDES_MAX).contains(&list.len()) {
        let found = format!("a list of {}", list.len());
        return Err(fields.wrong(name, found, &format!("1 to {STRIDES_MAX} strides")));
    }
    let stride = |value: &Value| {
        let stride = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let stride = stride.filter(|stride| (1..=RATIO_MAX).contains(stride));
        stride.ok_or_else(|| {
            let expected = format!("a list of whole numbers from 1 to {RATIO_MAX}");
            fields.wrong(name, value, &expected)
        })
    };
    list.iter().map(stride).collect()
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
    must_be_if_said(fields, "hidden_act", "silu")?;
    if fields.bool("attention_bias")? == Some(true) {
        return Err(unsupported(fields, "attention_bias", "true", "false"));
    }
    let first = fields.count("num_semantic_quantizers", usize::MAX)?;
    if let Some(first) = first.filter(|first| *first != 1) {
        let found = first.to_string();
        return Err(unsupported(fields, "num_semantic_quantizers", &found, "1"));
    }
    let Some(map) = fields.object("rope_scaling")? else {
        return Ok(());
    };
    let scaling = Fields {
        file: fields.file,
        prefix: "decoder_config.rope_scaling.",
        map,
    };
    must_be_if_said(&scaling, "rope_type", "default")?;
    must_be_if_said(&scaling, "type", "default")
}

fn must_be_if_said(fields: &Fields<'_>, name: &str, wanted: &str) -> Result<(), Error> {
    match fields.str(name)?.filter(|said| *said != wanted) {
        Some(other) => Err(unsupported(fields, name, other, wanted)),
        None => Ok(()),
    }
}

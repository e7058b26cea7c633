//! A codec, which turns sound into latents and latents into sound, as config.json describes it. The
//! original lists the factors of its strides from the decoder's side, transformers from the
//! encoder's. Everything that would change what is computed and is not computed here is refused.

use serde_json::Value;

use crate::Error;
use crate::config::{agreed, contradiction, ranges, unsupported};
use crate::json::{Fields, shorten};

/// The sizes of a codec.
#[derive(Debug, Clone, PartialEq)]
pub struct CodecConfig {
    /// Of sound: 1.
    pub channels: usize,
    /// Numbers of one latent.
    pub latent: usize,
    /// Channels at full rate; each stride doubles them.
    pub filters: usize,
    /// The strides, in the order of the encoder.
    pub ratios: Vec<usize>,
    /// Blocks before the first stride and after each, in the order of the encoder.
    pub encoder_depths: Vec<usize>,
    /// The same of the decoder, in its order. Empty where there is none.
    pub decoder_depths: Vec<usize>,
    /// Of all convolutions without a stride.
    pub kernel: usize,
    /// How many times wider the inner layer of a block is.
    pub ffn_expansion: usize,
    pub norm_eps: f64,
    /// A voice's latents are drawn around what the encoder gives: this, times a number drawn for
    /// the voice, is how far. 0 where nothing is drawn.
    pub noise_std: f64,
}

impl CodecConfig {
    /// Samples of one latent.
    pub fn hop(&self) -> usize {
        self.ratios.iter().product()
    }
}

/// Which of the two codecs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Acoustic,
    /// Has no decoder, and draws nothing: its latents are what the encoder gives.
    Semantic,
}

/// No product of these overflows, and the tensors of a component can be numbered.
pub(super) const LATENT_MAX: usize = 1 << 16;
const FILTERS_MAX: usize = 1 << 12;
const STAGES_MAX: usize = 12;
const RATIO_MAX: usize = 64;
const HOP_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 256;
const KERNEL_MAX: usize = 64;
const EXPANSION_MAX: usize = 64;

/// What the original divides a deviation by.
const STD_DIVISOR: f64 = 0.8;

/// What these are where they are not said.
const LATENT: usize = 64;
const FILTERS: usize = 32;
const RATIOS: [usize; 6] = [2, 2, 4, 5, 5, 8];
const DEPTHS: [usize; 7] = [3, 3, 3, 3, 3, 3, 8];
const KERNEL: usize = 7;
const EXPANSION: usize = 4;
const NORM_EPS: f64 = 1e-5;
const NOISE_STD: f64 = 0.625;

const LATENTS: [&str; 2] = ["vae_dim", "hidden_size"];
const ENCODER_RATIOS: &str = "encoder_ratios";
const DOWNSAMPLING: &str = "downsampling_ratios";

/// Switches, and what they must be.
const SWITCHES: [(&str, bool); 5] = [
    ("causal", true),
    ("disable_last_norm", true),
    ("layernorm_elementwise_affine", true),
    ("conv_bias", true),
    ("bias", true),
];

/// Kinds, and the one that is computed.
const KINDS: [(&str, &str); 5] = [
    ("mixer_layer", "depthwise_conv"),
    ("conv_norm", "none"),
    ("pad_mode", "constant"),
    ("layernorm", "RMSNorm"),
    ("hidden_act", "gelu"),
];

/// Numbers, and the one that is computed.
const NUMBERS: [(&str, f64); 2] = [("corpus_normalize", 0.0), ("trim_right_ratio", 1.0)];

pub(super) fn read(fields: &Fields<'_>, side: Side) -> Result<CodecConfig, Error> {
    refuse_what_we_cannot_compute(fields)?;
    let filters = first_count(
        fields,
        &["encoder_n_filters", "num_filters", "n_filters"],
        FILTERS_MAX,
    )?;
    let filters = filters.unwrap_or(FILTERS);
    let ratios = encoder_ratios(fields)?;
    let depths = read_depths(fields, ratios.len())?;
    let mut codec = CodecConfig {
        channels: channels(fields)?,
        latent: first_count(fields, &LATENTS, LATENT_MAX)?.unwrap_or(LATENT),
        filters,
        ratios,
        encoder_depths: depths,
        decoder_depths: Vec::new(),
        kernel: first_count(fields, &["kernel_size", "last_kernel_size"], KERNEL_MAX)?
            .unwrap_or(KERNEL),
        ffn_expansion: fields
            .count("ffn_expansion", EXPANSION_MAX)?
            .unwrap_or(EXPANSION),
        norm_eps: norm_eps(fields)?,
        noise_std: 0.0,
    };
    let hop = codec
        .ratios
        .iter()
        .try_fold(1_usize, |hop, ratio| hop.checked_mul(*ratio));
    if hop.is_none_or(|hop| hop > HOP_MAX) {
        let found = list_text(&codec.ratios);
        let expected = format!("strides whose product is at most {HOP_MAX}");
        return Err(fields.wrong(ratios_name(fields), found, &expected));
    }
    if side == Side::Acoustic {
        codec.decoder_depths = decoder_depths(fields, &codec)?;
        codec.noise_std = noise_std(fields)?;
    }
    Ok(codec)
}

/// What the field for the strides is called here.
pub(super) fn ratios(fields: &Fields<'_>) -> &'static str {
    ratios_name(fields)
}

fn ratios_name(fields: &Fields<'_>) -> &'static str {
    match fields.get(DOWNSAMPLING) {
        Some(_) => DOWNSAMPLING,
        None => ENCODER_RATIOS,
    }
}

/// What the field for the size of a latent is called here.
pub(super) fn latent(fields: &Fields<'_>) -> &'static str {
    let [original, converted] = LATENTS;
    match fields.get(converted) {
        Some(_) => converted,
        None => original,
    }
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
    for (name, wanted) in SWITCHES {
        if let Some(other) = fields.bool(name)?.filter(|said| *said != wanted) {
            return Err(unsupported(
                fields,
                name,
                &other.to_string(),
                wanted.to_string(),
            ));
        }
    }
    for (name, wanted) in KINDS {
        if let Some(other) = fields.str(name)?.filter(|said| *said != wanted) {
            return Err(unsupported(fields, name, other, wanted));
        }
    }
    for (name, wanted) in NUMBERS {
        if let Some(other) = fields.f64(name)?.filter(|said| *said != wanted) {
            return Err(unsupported(
                fields,
                name,
                &other.to_string(),
                wanted.to_string(),
            ));
        }
    }
    // Without a positive one the original makes blocks that have no scales.
    const SCALE: &str = "layer_scale_init_value";
    match fields.f64(SCALE)?.filter(|scale| *scale <= 0.0) {
        Some(scale) => Err(unsupported(
            fields,
            SCALE,
            &scale.to_string(),
            "a positive number",
        )),
        None => Ok(()),
    }
}

fn channels(fields: &Fields<'_>) -> Result<usize, Error> {
    const FIELD: &str = "channels";
    match fields.count(FIELD, usize::MAX)? {
        None | Some(1) => Ok(1),
        Some(other) => Err(unsupported(fields, FIELD, &other.to_string(), "1")),
    }
}

fn norm_eps(fields: &Fields<'_>) -> Result<f64, Error> {
    const NAMES: [&str; 2] = ["layernorm_eps", "rms_norm_eps"];
    let [original, converted] = NAMES;
    let said = agreed(
        fields,
        &[
            (original, fields.within(original, ranges::NORM_EPS)?),
            (converted, fields.within(converted, ranges::NORM_EPS)?),
        ],
    )?;
    Ok(said.unwrap_or(NORM_EPS))
}

fn noise_std(fields: &Fields<'_>) -> Result<f64, Error> {
    const DIST: &str = "std_dist_type";
    if let Some(other) = fields.str(DIST)?.filter(|said| *said != "gaussian") {
        return Err(unsupported(fields, DIST, other, "gaussian"));
    }
    let original = fields.within("fix_std", 0.0..=1e3)?;
    let said = agreed(
        fields,
        &[
            ("fix_std", original.map(|std| std / STD_DIVISOR)),
            ("vae_std", fields.within("vae_std", 0.0..=1e3)?),
        ],
    )?;
    Ok(said.unwrap_or(NOISE_STD))
}

/// In the order of the encoder.
fn encoder_ratios(fields: &Fields<'_>) -> Result<Vec<usize>, Error> {
    let original = counts(fields, ENCODER_RATIOS, RATIO_MAX)?.map(reversed);
    let converted = counts(fields, DOWNSAMPLING, RATIO_MAX)?;
    let ratios = match (original, converted) {
        (Some(original), Some(converted)) if original != converted => {
            return Err(lists_differ(
                fields,
                (ENCODER_RATIOS, &reversed(original)),
                (DOWNSAMPLING, &converted),
            ));
        }
        (Some(ratios), _) | (None, Some(ratios)) => ratios,
        (None, None) => RATIOS.to_vec(),
    };
    if ratios.len() > STAGES_MAX {
        let found = format!("a list of {}", ratios.len());
        let expected = format!("1 to {STAGES_MAX} strides");
        return Err(fields.wrong(ratios_name(fields), found, &expected));
    }
    // Both list them as the decoder runs them.
    for name in ["decoder_ratios", "upsampling_ratios"] {
        let decoder = counts(fields, name, RATIO_MAX)?;
        if let Some(decoder) = decoder.filter(|decoder| !decoder.iter().eq(ratios.iter().rev())) {
            let (encoder_name, encoder) = match ratios_name(fields) {
                ENCODER_RATIOS => (ENCODER_RATIOS, reversed(ratios)),
                name => (name, ratios),
            };
            return Err(lists_differ(
                fields,
                (encoder_name, &encoder),
                (name, &decoder),
            ));
        }
    }
    Ok(ratios)
}

/// In the order of the encoder: one more than there are strides.
fn read_depths(fields: &Fields<'_>, strides: usize) -> Result<Vec<usize>, Error> {
    const NAMES: [&str; 2] = ["encoder_depths", "depths"];
    let [original, converted] = NAMES;
    let depths = match (depths(fields, original)?, depths(fields, converted)?) {
        (Some(first), Some(second)) if first != second => {
            return Err(lists_differ(
                fields,
                (original, &first),
                (converted, &second),
            ));
        }
        (Some(depths), _) | (None, Some(depths)) => depths,
        (None, None) => DEPTHS.to_vec(),
    };
    let name = match fields.get(converted) {
        Some(_) => converted,
        None => original,
    };
    check_depths(fields, name, &depths, strides)?;
    Ok(depths)
}

/// In the order of the decoder, which is the encoder's turned round where nothing is said.
fn decoder_depths(fields: &Fields<'_>, codec: &CodecConfig) -> Result<Vec<usize>, Error> {
    const FILTERS: &str = "decoder_n_filters";
    agreed(
        fields,
        &[
            ("encoder_n_filters", Some(codec.filters)),
            (FILTERS, fields.count(FILTERS, FILTERS_MAX)?),
        ],
    )?;
    const FIELD: &str = "decoder_depths";
    match depths(fields, FIELD)? {
        None => Ok(reversed(codec.encoder_depths.clone())),
        Some(depths) => {
            check_depths(fields, FIELD, &depths, codec.ratios.len())?;
            Ok(depths)
        }
    }
}

fn check_depths(
    fields: &Fields<'_>,
    name: &str,
    depths: &[usize],
    strides: usize,
) -> Result<(), Error> {
    if depths.len() == strides + 1 {
        return Ok(());
    }
    let found = format!("a list of {}", depths.len());
    let expected = format!("{} numbers, one more than there are strides", strides + 1);
    Err(fields.wrong(name, found, &expected))
}

/// "3-3-8" or `[3, 3, 8]`.
fn depths(fields: &Fields<'_>, name: &str) -> Result<Option<Vec<usize>>, Error> {
    let Some(Value::String(text)) = fields.get(name) else {
        return counts(fields, name, DEPTH_MAX);
    };
    let numbers = text.split('-').map(|number| {
        let depth = number.trim().parse().ok();
        depth.filter(|depth| (1..=DEPTH_MAX).contains(depth))
    });
    let Some(depths) = numbers.collect() else {
        let expected = format!("whole numbers from 1 to {DEPTH_MAX} with hyphens between them");
        return Err(fields.wrong(name, format!("{text:?}"), &expected));
    };
    Ok(Some(depths))
}

fn counts(fields: &Fields<'_>, name: &str, max: usize) -> Result<Option<Vec<usize>>, Error> {
    let Some(list) = fields.list(name)? else {
        return Ok(None);
    };
    let count = |value: &Value| {
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count
            .filter(|count| (1..=max).contains(count))
            .ok_or_else(|| {
                let expected = format!("a list of whole numbers from 1 to {max}");
                fields.wrong(name, value, &expected)
            })
    };
    let counts = list.iter().map(count).collect::<Result<Vec<_>, _>>()?;
    match counts.is_empty() {
        true => Err(fields.wrong(name, "an empty list", "at least one number")),
        false => Ok(Some(counts)),
    }
}

/// What one or several of these fields say, which is the same.
fn first_count(
    fields: &Fields<'_>,
    names: &[&'static str],
    max: usize,
) -> Result<Option<usize>, Error> {
    let said = names
        .iter()
        .map(|name| Ok((*name, fields.count(name, max)?)));
    agreed(fields, &said.collect::<Result<Vec<_>, Error>>()?)
}

fn lists_differ(fields: &Fields<'_>, first: (&str, &[usize]), second: (&str, &[usize])) -> Error {
    let [one, other] = [first.1, second.1].map(list_text);
    contradiction(fields, (first.0, &one), (second.0, &other))
}

fn list_text(numbers: &[usize]) -> String {
    shorten(format!("{numbers:?}"))
}

fn reversed(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.reverse();
    numbers
}

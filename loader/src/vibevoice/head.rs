//! The diffusion head, as config.json describes it: in an object of its own, or at the top level as
//! the first conversions do. Knows no tensor.

use crate::Error;
use crate::config::{agreed, limits, ranges, unsupported};
use crate::json::Fields;

/// The sizes of the diffusion head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadConfig {
    pub layers: usize,
    /// That of the language model.
    pub hidden: usize,
    pub ffn: usize,
    /// That of the acoustic codec.
    pub latent: usize,
    /// Numbers that a timestep becomes: cosines and sines, half of each.
    pub frequency: usize,
    pub norm_eps: f64,
    /// Steps that noise was added in, in training.
    pub train_steps: usize,
    /// Steps to take it away in, as the file suggests; front ends have a number of their own.
    pub inference_steps: usize,
}

const LAYERS_MAX: usize = 1024;
const LATENT_MAX: usize = super::codec::LATENT_MAX;
const FREQUENCY_MAX: usize = 1 << 16;
const STEPS_MAX: usize = 100_000;

/// What these are where they are not said.
const LAYERS: usize = 4;
const FFN_RATIO: f64 = 3.0;
const FREQUENCY: usize = 256;
const NORM_EPS: f64 = 1e-5;
const TRAIN_STEPS: usize = 1000;
const INFERENCE_STEPS: usize = 20;

const NESTED: &str = "diffusion_head_config";
const FLAT_LAYERS: &str = "num_head_layers";
const FFN: &str = "intermediate_size";

/// How the noise in training is called: one schedule under the two names of two libraries.
pub(super) const SCHEDULES: [&str; 2] = ["cosine", "squaredcos_cap_v2"];
pub(super) const PREDICTION: &str = "v_prediction";

/// `hidden` and `latent` are the language model's and the codec's, and must be the head's.
pub(super) fn read(root: &Fields<'_>, hidden: usize, latent: usize) -> Result<HeadConfig, Error> {
    let nested = root.object(NESTED)?.map(|map| Fields {
        file: root.file,
        prefix: "diffusion_head_config.",
        map,
    });
    let flat_layers = root.count(FLAT_LAYERS, LAYERS_MAX)?;
    let (fields, layers) = match nested {
        Some(fields) => (fields, nested_layers(root, &fields, flat_layers)?),
        None if flat_layers.is_some() => (*root, flat_layers),
        None => return Err(root.missing(NESTED)),
    };
    refuse_what_we_cannot_compute(&fields)?;
    must_be(
        &fields,
        "hidden_size",
        hidden,
        "the language model has",
        limits::HIDDEN,
    )?;
    for name in ["latent_size", "speech_vae_dim"] {
        must_be(&fields, name, latent, "the acoustic codec has", LATENT_MAX)?;
    }
    let frequency = fields.count("frequency_embedding_size", FREQUENCY_MAX)?;
    let frequency = frequency.unwrap_or(FREQUENCY);
    if !frequency.is_multiple_of(2) {
        return Err(fields.wrong("frequency_embedding_size", frequency, "an even number"));
    }
    let steps = |name| fields.count(name, STEPS_MAX);
    Ok(HeadConfig {
        layers: layers.unwrap_or(LAYERS),
        hidden,
        ffn: ffn(&fields, hidden)?,
        latent,
        frequency,
        norm_eps: fields
            .within("rms_norm_eps", ranges::NORM_EPS)?
            .unwrap_or(NORM_EPS),
        train_steps: steps("ddpm_num_steps")?.unwrap_or(TRAIN_STEPS),
        inference_steps: steps("ddpm_num_inference_steps")?.unwrap_or(INFERENCE_STEPS),
    })
}

fn nested_layers(
    root: &Fields<'_>,
    fields: &Fields<'_>,
    flat: Option<usize>,
) -> Result<Option<usize>, Error> {
    const NAMES: [&str; 3] = ["head_layers", "num_hidden_layers", FLAT_LAYERS];
    let places = NAMES.map(|name| format!("{}{name}", fields.prefix));
    let mut said = vec![(FLAT_LAYERS, flat)];
    for (name, place) in NAMES.into_iter().zip(&places) {
        said.push((place, fields.count(name, LAYERS_MAX)?));
    }
    agreed(root, &said)
}

fn ffn(fields: &Fields<'_>, hidden: usize) -> Result<usize, Error> {
    const RATIO: &str = "head_ffn_ratio";
    let wide = |ratio: f64| (hidden as f64 * ratio) as usize;
    let ratio = fields.within(RATIO, 1e-3..=1e3)?;
    let ffn = match (ratio, fields.count(FFN, limits::INTERMEDIATE)?) {
        (None, Some(ffn)) => return Ok(ffn),
        (None, None) => wide(FFN_RATIO),
        (Some(ratio), said) => {
            let place = format!("{RATIO} times the hidden size");
            let both = [(place.as_str(), Some(wide(ratio))), (FFN, said)];
            agreed(fields, &both)?.unwrap_or(wide(ratio))
        }
    };
    if !(1..=limits::INTERMEDIATE).contains(&ffn) {
        let expected = format!("a ratio that gives 1 to {}", limits::INTERMEDIATE);
        return Err(fields.wrong(RATIO, ratio.unwrap_or(FFN_RATIO), &expected));
    }
    Ok(ffn)
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
    for (name, wanted) in [
        ("prediction_type", PREDICTION),
        ("diffusion_type", "ddpm"),
        ("hidden_act", "silu"),
    ] {
        if let Some(other) = fields.str(name)?.filter(|said| *said != wanted) {
            return Err(unsupported(fields, name, other, wanted));
        }
    }
    const SCHEDULE: &str = "ddpm_beta_schedule";
    if let Some(other) = fields
        .str(SCHEDULE)?
        .filter(|said| !SCHEDULES.contains(said))
    {
        return Err(unsupported(fields, SCHEDULE, other, "cosine"));
    }
    if fields.bool("mlp_bias")? == Some(true) {
        return Err(unsupported(fields, "mlp_bias", "true", "false"));
    }
    const PERIOD: &str = "diffusion_max_period";
    match fields.f64(PERIOD)?.filter(|period| *period != 10_000.0) {
        Some(period) => Err(unsupported(fields, PERIOD, &period.to_string(), "10000")),
        None => Ok(()),
    }
}

/// What the field says, if it says something, is what another part has.
fn must_be(
    fields: &Fields<'_>,
    name: &str,
    wanted: usize,
    whose: &str,
    max: usize,
) -> Result<(), Error> {
    match fields.count(name, max)?.filter(|said| *said != wanted) {
        Some(said) => Err(fields.wrong(name, said, &format!("{wanted}, which {whose}"))),
        None => Ok(()),
    }
}

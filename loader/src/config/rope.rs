//! How positions turn into rotations: `rope_theta` may stand at the top or with the scaling, and
//! the scaling is `rope_scaling` or `rope_parameters`; some files have all of them.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::limits;
use super::said::{agreed, contradiction, one_of, unsupported};
use crate::Error;
use crate::json::Fields;

/// Base of the rotation's wavelengths; published ones are from 1e4 to 5e10.
const THETA: RangeInclusive<f64> = 1.0..=1e16;
const THETA_DEFAULT: f64 = 10_000.0;
/// How many times more positions, and where between wavelengths that begins.
const FACTOR: RangeInclusive<f64> = 1.0..=1e6;
const FREQ_FACTOR: RangeInclusive<f64> = 1e-6..=1e6;

/// How positions turn into rotations.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

/// How a model was stretched to more positions than it was first trained with.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_positions: usize,
    },
}

impl RopeScaling {
    /// As a file spells it. The kind comes first.
    pub(crate) fn parts(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::None => vec![("rope_type", json!("default"))],
            Self::Linear { factor } => {
                vec![("rope_type", json!("linear")), ("factor", json!(factor))]
            }
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => vec![
                ("rope_type", json!("llama3")),
                ("factor", json!(factor)),
                ("low_freq_factor", json!(low_freq_factor)),
                ("high_freq_factor", json!(high_freq_factor)),
                (ORIGINAL, json!(original_max_positions)),
            ],
        }
    }
}

/// What the files of a family may say about rotation.
pub(crate) struct Rotations {
    pub kinds: &'static [Kind],
}

/// One way to stretch a model's positions.
pub(crate) struct Kind {
    pub name: &'static str,
    read: fn(&Said<'_>) -> Result<RopeScaling, Error>,
}

pub(crate) const DEFAULT: Kind = Kind {
    name: "default",
    read: |_| Ok(RopeScaling::None),
};

pub(crate) const LINEAR: Kind = Kind {
    name: "linear",
    read: |said| {
        Ok(RopeScaling::Linear {
            factor: said.required("factor", FACTOR)?,
        })
    },
};

pub(crate) const LLAMA3: Kind = Kind {
    name: "llama3",
    read: llama3,
};

/// What one of the two objects says.
struct Said<'a> {
    /// The whole file.
    top: &'a Fields<'a>,
    /// The object.
    fields: Fields<'a>,
}

pub(super) fn rope(fields: &Fields<'_>, rotations: &Rotations) -> Result<Rope, Error> {
    refuse_partial(fields)?;
    let older = Said::of(fields, "rope_scaling", "rope_scaling.")?;
    let newer = Said::of(fields, "rope_parameters", "rope_parameters.")?;
    let theta = |said: &Option<Said<'_>>| match said {
        Some(said) => said.fields.within("rope_theta", THETA),
        None => Ok(None),
    };
    let theta = agreed(
        fields,
        &[
            ("rope_theta", fields.within("rope_theta", THETA)?),
            ("rope_scaling.rope_theta", theta(&older)?),
            ("rope_parameters.rope_theta", theta(&newer)?),
        ],
    )?;
    let scaling = |said: Option<Said<'_>>| match said {
        Some(said) => said.scaling(rotations).map(Some),
        None => Ok(None),
    };
    let scaling = match (scaling(older)?, scaling(newer)?) {
        (Some(older), Some(newer)) => {
            refuse_other_scaling(fields, &older, &newer)?;
            newer
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => RopeScaling::None,
    };
    Ok(Rope {
        theta: theta.unwrap_or(THETA_DEFAULT),
        scaling,
    })
}

impl<'a> Said<'a> {
    /// `None` where it is absent, null or empty, which is the same to the reference.
    fn of(
        top: &'a Fields<'a>,
        field: &'static str,
        prefix: &'static str,
    ) -> Result<Option<Self>, Error> {
        let Some(map) = top.object(field)?.filter(|map| !map.is_empty()) else {
            return Ok(None);
        };
        let fields = Fields {
            file: top.file,
            prefix,
            map,
        };
        refuse_partial(&fields)?;
        Ok(Some(Self { top, fields }))
    }

    fn named(&self, field: &str) -> String {
        format!("{}{field}", self.fields.prefix)
    }

    fn required(&self, name: &str, range: RangeInclusive<f64>) -> Result<f64, Error> {
        self.fields
            .within(name, range)?
            .ok_or_else(|| self.fields.missing(name))
    }

    fn scaling(&self, rotations: &Rotations) -> Result<RopeScaling, Error> {
        let fields = &self.fields;
        // A map of maps gives every kind of layer its own rotation: none of our families do.
        if let Some((kind, _)) = fields.map.iter().find(|(_, value)| value.is_object()) {
            return Err(unsupported(
                fields,
                kind,
                "of its own",
                "one for all layers",
            ));
        }
        let name = agreed(
            self.top,
            &[
                (&self.named("rope_type"), fields.str("rope_type")?),
                (&self.named("type"), fields.str("type")?),
            ],
        )?;
        let name = match name {
            // What to do with it is not said.
            None if fields.get("factor").is_some() => return Err(fields.missing("rope_type")),
            None => return Ok(RopeScaling::None),
            Some(name) => name,
        };
        match rotations.kinds.iter().find(|kind| kind.name == name) {
            Some(kind) => (kind.read)(self),
            None => {
                let field = match fields.get("rope_type") {
                    Some(_) => "rope_type",
                    None => "type",
                };
                let known = one_of(rotations.kinds.iter().map(|kind| kind.name));
                Err(unsupported(fields, field, name, known))
            }
        }
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";

fn llama3(said: &Said<'_>) -> Result<RopeScaling, Error> {
    let (top, fields) = (said.top, &said.fields);
    let low = said.required("low_freq_factor", FREQ_FACTOR)?;
    let high = said.required("high_freq_factor", FREQ_FACTOR)?;
    if high <= low {
        let expected = format!("more than low_freq_factor ({low})");
        return Err(fields.wrong("high_freq_factor", high, &expected));
    }
    let original = agreed(
        top,
        &[
            (ORIGINAL, top.count(ORIGINAL, limits::POSITIONS)?),
            (
                &said.named(ORIGINAL),
                fields.count(ORIGINAL, limits::POSITIONS)?,
            ),
        ],
    )?;
    Ok(RopeScaling::Llama3 {
        factor: said.required("factor", FACTOR)?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_positions: original.ok_or_else(|| fields.missing(ORIGINAL))?,
    })
}

fn refuse_other_scaling(
    fields: &Fields<'_>,
    older: &RopeScaling,
    newer: &RopeScaling,
) -> Result<(), Error> {
    let (older, newer) = (older.parts(), newer.parts());
    // The kinds come first: where they are the same, so are the names of all others.
    let differs = older.iter().zip(&newer).find(|(a, b)| a != b);
    match differs {
        None => Ok(()),
        Some(((name, older), (_, newer))) => Err(contradiction(
            fields,
            (&format!("rope_scaling.{name}"), &plain(older)),
            (&format!("rope_parameters.{name}"), &plain(newer)),
        )),
    }
}

/// A value as a message has it: text without quotes, and 4 for 4.0.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn refuse_partial(fields: &Fields<'_>) -> Result<(), Error> {
    match fields.f64("partial_rotary_factor")? {
        Some(factor) if factor != 1.0 => Err(unsupported(
            fields,
            "partial_rotary_factor",
            &factor.to_string(),
            "1 (all of each head rotates)",
        )),
        _ => Ok(()),
    }
}

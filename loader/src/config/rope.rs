//! How positions turn into rotations: `rope_theta` may stand at the top or with the scaling, and
//! the scaling is `rope_scaling` or `rope_parameters`; some files have all of them.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::ranges::ROPE_THETA;
use super::said::{agreed, contradiction, one_of, unsupported};
use super::scaling::{DEFAULT, Kind, LINEAR, LLAMA3, ORIGINAL};
use super::{RopeScaling, limits};
use crate::Error;
use crate::json::{Fields, shorten};

const THETA_DEFAULT: f64 = 10_000.0;

/// How positions turn into rotations.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pub theta: f64,
    /// Dimensions of each head that turn, from the first on; an even number. The others stay as
    /// they are.
    pub dims: usize,
    pub scaling: RopeScaling,
    pub pairing: RopePairing,
    /// What frequencies are divided by, one for each pair of a head's dimensions, where a file says
    /// so.
    pub divisors: Option<Vec<f32>>,
}

/// Which two dimensions of a head turn together. The rows of queries and keys are stored in the
/// order that one of them calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// One of the first half with one of the second.
    Halves,
    /// Each with the next.
    Neighbours,
}

/// What the files of a family may say about rotation.
pub(crate) struct Rotations {
    pub kinds: &'static [Kind],
    /// Whether a part of each head's dimensions may turn, and the others stay as they are.
    pub partial: bool,
    /// What the reference takes for `original_max_position_embeddings` where the top level does not
    /// say it, if that is not what the object says.
    pub original_default: Option<usize>,
}

impl Rotations {
    /// What the reference does for most families.
    pub const USUAL: Self = Self {
        kinds: &[DEFAULT, LINEAR, LLAMA3],
        partial: false,
        original_default: None,
    };
}

/// One of the two objects, and what is known beside it.
pub(crate) struct RopeFields<'a> {
    /// The whole file.
    pub(super) top: &'a Fields<'a>,
    /// The object.
    pub(super) fields: Fields<'a>,
    pub(super) rotations: &'static Rotations,
    pub(super) max_positions: usize,
    /// The dimensions of each head that turn.
    pub(super) dims: usize,
}

pub(super) fn rope(
    fields: &Fields<'_>,
    rotations: &'static Rotations,
    head_dim: usize,
    max_positions: usize,
) -> Result<Rope, Error> {
    let older = object(fields, "rope_scaling", "rope_scaling.")?;
    let newer = object(fields, "rope_parameters", "rope_parameters.")?;
    let dims = dims(fields, [older, newer], rotations, head_dim)?;
    let theta = |object: Option<Fields<'_>>| match object {
        Some(object) => object.within("rope_theta", ROPE_THETA),
        None => Ok(None),
    };
    let theta = agreed(
        fields,
        &[
            ("rope_theta", fields.within("rope_theta", ROPE_THETA)?),
            ("rope_scaling.rope_theta", theta(older)?),
            ("rope_parameters.rope_theta", theta(newer)?),
        ],
    )?;
    let scaling = |object: Option<Fields<'_>>| match object {
        Some(object) => {
            let said = RopeFields {
                top: fields,
                fields: object,
                rotations,
                max_positions,
                dims,
            };
            said.scaling().map(Some)
        }
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
        dims,
        scaling,
        pairing: RopePairing::Halves,
        divisors: None,
    })
}

/// `None` where it is absent, null or empty, which is the same to the reference.
fn object<'a>(
    top: &Fields<'a>,
    field: &'static str,
    prefix: &'static str,
) -> Result<Option<Fields<'a>>, Error> {
    let map = top.object(field)?.filter(|map| !map.is_empty());
    Ok(map.map(|map| Fields {
        file: top.file,
        prefix,
        map,
    }))
}

/// How many of a head's dimensions turn.
fn dims(
    top: &Fields<'_>,
    objects: [Option<Fields<'_>>; 2],
    rotations: &Rotations,
    head_dim: usize,
) -> Result<usize, Error> {
    const FIELD: &str = "partial_rotary_factor";
    let mut said = Vec::new();
    for fields in [Some(*top)].into_iter().chain(objects).flatten() {
        let factor = match rotations.partial {
            true => fields.within(FIELD, 0.0..=1.0)?,
            false => fields.f64(FIELD)?,
        };
        if let Some(factor) = factor.filter(|factor| !rotations.partial && *factor != 1.0) {
            let all = "1 (all of each head rotates)";
            return Err(unsupported(&fields, FIELD, &factor.to_string(), all));
        }
        said.push((format!("{}{FIELD}", fields.prefix), factor));
    }
    let said: Vec<_> = said
        .iter()
        .map(|(place, factor)| (&**place, *factor))
        .collect();
    let Some(factor) = agreed(top, &said)? else {
        return Ok(head_dim);
    };
    let dims = (head_dim as f64 * factor) as usize;
    if dims == 0 || !dims.is_multiple_of(2) {
        let expected = format!("a share of {head_dim} dimensions that is an even number of them");
        return Err(top.wrong(FIELD, factor, &expected));
    }
    Ok(dims)
}

impl RopeFields<'_> {
    pub fn named(&self, field: &str) -> String {
        format!("{}{field}", self.fields.prefix)
    }

    pub fn required(&self, name: &str, range: RangeInclusive<f64>) -> Result<f64, Error> {
        self.fields
            .within(name, range)?
            .ok_or_else(|| self.fields.missing(name))
    }

    /// The original context, which may stand at the top, in the object, or in both.
    pub fn original(&self) -> Result<Option<usize>, Error> {
        let [top, inner] = [self.top, &self.fields];
        agreed(
            self.top,
            &[
                (ORIGINAL, top.count(ORIGINAL, limits::POSITIONS)?),
                (
                    &self.named(ORIGINAL),
                    inner.count(ORIGINAL, limits::POSITIONS)?,
                ),
            ],
        )
    }

    /// A kind by its first name.
    fn kind(&self, field: &str) -> Result<Option<&str>, Error> {
        let name = self.fields.str(field)?;
        let kinds = self.rotations.kinds.iter();
        let first = |name| {
            kinds
                .clone()
                .find(|kind| kind.is_called(name))
                .map_or(name, |kind| kind.name)
        };
        Ok(name.map(first))
    }

    fn scaling(&self) -> Result<RopeScaling, Error> {
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
                (&self.named("rope_type"), self.kind("rope_type")?),
                (&self.named("type"), self.kind("type")?),
            ],
        )?;
        let name = match name {
            // What to do with it is not said.
            None if fields.get("factor").is_some() => return Err(fields.missing("rope_type")),
            None => return Ok(RopeScaling::None),
            Some(name) => name,
        };
        match self.rotations.kinds.iter().find(|kind| kind.name == name) {
            Some(kind) => (kind.read)(self),
            None => {
                let field = match fields.get("rope_type") {
                    Some(_) => "rope_type",
                    None => "type",
                };
                let known = one_of(self.rotations.kinds.iter().map(|kind| kind.name));
                Err(unsupported(fields, field, name, known))
            }
        }
    }
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

/// A value as a message has it: text without quotes, 4 for 4.0, and not all of a list.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        other => shorten(other.to_string()),
    }
}

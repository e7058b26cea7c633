//! The ways to stretch a model to more positions than it was first trained with: their fields, and
//! the bounds of these. What they do to a rotation's frequencies is the engine's.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::limits;
use super::ranges::{ROPE_ATTENTION, ROPE_SLOWER};
use super::rope::RopeFields;
use crate::Error;

/// How many times more positions, and where between wavelengths that begins.
const FACTOR: RangeInclusive<f64> = 1.0..=1e6;
const FREQ_FACTOR: RangeInclusive<f64> = 1e-6..=1e6;

pub(super) const ORIGINAL: &str = "original_max_position_embeddings";

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
    /// Each pair of dimensions is slowed by a factor of its own: a short one where the sequence is
    /// no longer than the original context, a long one where it is.
    LongRope {
        /// One for each pair.
        short_factors: Vec<f64>,
        long_factors: Vec<f64>,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
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
            Self::LongRope {
                short_factors,
                long_factors,
                attention_factor,
                original_max_positions,
            } => vec![
                ("rope_type", json!("longrope")),
                ("short_factor", json!(short_factors)),
                ("long_factor", json!(long_factors)),
                ("attention_factor", json!(attention_factor)),
                (ORIGINAL, json!(original_max_positions)),
            ],
        }
    }
}

/// One way to stretch a model's positions.
pub(crate) struct Kind {
    pub name: &'static str,
    /// Other names of it.
    pub also: &'static [&'static str],
    pub read: fn(&RopeFields<'_>) -> Result<RopeScaling, Error>,
}

pub(crate) const DEFAULT: Kind = Kind {
    name: "default",
    also: &[],
    read: |_| Ok(RopeScaling::None),
};

pub(crate) const LINEAR: Kind = Kind {
    name: "linear",
    also: &[],
    read: |said| {
        Ok(RopeScaling::Linear {
            factor: said.required("factor", FACTOR)?,
        })
    },
};

pub(crate) const LLAMA3: Kind = Kind {
    name: "llama3",
    also: &[],
    read: llama3,
};

pub(crate) const LONGROPE: Kind = Kind {
    name: "longrope",
    also: &[],
    read: longrope,
};

impl Kind {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.also.contains(&name)
    }
}

fn llama3(said: &RopeFields<'_>) -> Result<RopeScaling, Error> {
    let fields = &said.fields;
    let low = said.required("low_freq_factor", FREQ_FACTOR)?;
    let high = said.required("high_freq_factor", FREQ_FACTOR)?;
    if high <= low {
        let expected = format!("more than low_freq_factor ({low})");
        return Err(fields.wrong("high_freq_factor", high, &expected));
    }
    let original = said.original()?;
    Ok(RopeScaling::Llama3 {
        factor: said.required("factor", FACTOR)?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_positions: original.ok_or_else(|| fields.missing(ORIGINAL))?,
    })
}

fn longrope(said: &RopeFields<'_>) -> Result<RopeScaling, Error> {
    let fields = &said.fields;
    let factors = |name: &str| -> Result<Vec<f64>, Error> {
        let list = fields.list(name)?.ok_or_else(|| fields.missing(name))?;
        let pairs = said.dims / 2;
        if list.len() != pairs {
            let found = format!("a list of {}", list.len());
            let expected = format!("a number for each of {pairs} pairs of dimensions that turn");
            return Err(fields.wrong(name, found, &expected));
        }
        let factor = |value: &Value| {
            let factor = value.as_f64().filter(|factor| ROPE_SLOWER.contains(factor));
            factor.ok_or_else(|| fields.wrong(name, value, "numbers from 0.001 to 1000000"))
        };
        list.iter().map(factor).collect()
    };
    let original_max_positions = longrope_original(said)?;
    let attention_factor = match fields.within("attention_factor", ROPE_ATTENTION)? {
        Some(factor) => factor,
        None => {
            let stretched = said.max_positions as f64 / original_max_positions as f64;
            let factor = fields.within("factor", ROPE_SLOWER)?.unwrap_or(stretched);
            match factor {
                ..=1.0 => 1.0,
                _ => (1.0 + factor.ln() / (original_max_positions as f64).ln()).sqrt(),
            }
        }
    };
    if !ROPE_ATTENTION.contains(&attention_factor) {
        let expected = "a number of positions that an attention factor follows from";
        return Err(fields.wrong(ORIGINAL, original_max_positions, expected));
    }
    Ok(RopeScaling::LongRope {
        short_factors: factors("short_factor")?,
        long_factors: factors("long_factor")?,
        attention_factor,
        original_max_positions,
    })
}

/// The reference takes what stands at the top, and where nothing does a default of the family's,
/// whatever the object says.
fn longrope_original(said: &RopeFields<'_>) -> Result<usize, Error> {
    let top = said.top.count(ORIGINAL, limits::POSITIONS)?;
    let inner = said.fields.count(ORIGINAL, limits::POSITIONS)?;
    match (top, inner, said.rotations.original_default) {
        (None, Some(inner), Some(default)) if inner != default => {
            let expected = format!("{default}, or the same number at the top level");
            Err(said.fields.wrong(ORIGINAL, inner, &expected))
        }
        (None, None, default) => Ok(default.unwrap_or(said.max_positions)),
        _ => said
            .original()?
            .ok_or_else(|| said.fields.missing(ORIGINAL)),
    }
}

//! `generation_config.json`: how the makers of a model suggest to sample from it. Absent fields
//! stay absent, because what the user asks for is merged over them elsewhere.

use crate::Error;
use crate::json::{Fields, parse_object};

/// Suggestions, all optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    pub eos_token_ids: Vec<u32>,
    pub bos_token_id: Option<u32>,
    pub do_sample: Option<bool>,
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
}

impl GenerationConfig {
    /// Reads a `generation_config.json`.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        Self::parse_named("generation_config.json", json)
    }

    pub(crate) fn parse_named(file: &str, json: &[u8]) -> Result<Self, Error> {
        let map = parse_object(file, json)?;
        let fields = Fields {
            file,
            prefix: "",
            map: &map,
        };
        let share = |field| match fields.f64(field)? {
            Some(share) if !(0.0..=1.0).contains(&share) => {
                Err(fields.wrong(field, share, "a number from 0 to 1"))
            }
            share => Ok(share),
        };
        let temperature = fields.f64("temperature")?;
        if let Some(temperature) = temperature.filter(|t| !t.is_finite() || *t < 0.0) {
            return Err(fields.wrong("temperature", temperature, "a number from 0 on"));
        }
        Ok(Self {
            eos_token_ids: fields.tokens("eos_token_id")?,
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            do_sample: fields.bool("do_sample")?,
            temperature,
            top_k: fields.index("top_k", usize::MAX)?,
            top_p: share("top_p")?,
            min_p: share("min_p")?,
            repetition_penalty: fields.positive("repetition_penalty")?,
        })
    }
}

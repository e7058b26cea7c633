//! How the makers of a checkpoint draw codes from it: `generation_config.json`, for the talker and
//! for the predictor. Knows no logits.

use crate::Error;
use crate::checkpoint::GENERATION_CONFIG;
use crate::folder::Folder;
use crate::json::{Fields, parse_object};

/// How one code is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodeSampling {
    /// The likeliest code is taken where this is false.
    pub draws: bool,
    pub temperature: f64,
    /// So many of the likeliest are left to draw from; 0: all.
    pub top_k: usize,
    /// Of those, the likeliest that have this share of the probability together.
    pub top_p: f64,
}

/// How frames are drawn. At most `max_new_tokens` first codes are, so that there is a frame less.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Of the first code of a frame.
    pub talker: CodeSampling,
    /// Of the others.
    pub predictor: CodeSampling,
    /// Of first codes that were drawn before.
    pub repetition_penalty: f64,
    pub max_new_tokens: usize,
}

const CODE: CodeSampling = CodeSampling {
    draws: true,
    temperature: 0.9,
    top_k: 50,
    top_p: 1.0,
};

impl Sampling {
    /// What the reference does where nothing is said.
    pub const REFERENCE: Self = Self {
        talker: CODE,
        predictor: CODE,
        repetition_penalty: 1.05,
        max_new_tokens: 2048,
    };
}

const DEFAULT: Sampling = Sampling::REFERENCE;

pub(super) fn read(folder: &Folder) -> Result<Sampling, Error> {
    let Some(json) = folder.read(GENERATION_CONFIG)? else {
        return Ok(DEFAULT);
    };
    let file = folder.display(GENERATION_CONFIG);
    let map = parse_object(&file, &json)?;
    let fields = Fields {
        file: &file,
        prefix: "",
        map: &map,
    };
    let penalty = fields.positive("repetition_penalty")?;
    let max_new_tokens = fields.count("max_new_tokens", usize::MAX)?;
    Ok(Sampling {
        talker: code(&fields, ["do_sample", "temperature", "top_k", "top_p"])?,
        predictor: code(
            &fields,
            [
                "subtalker_dosample",
                "subtalker_temperature",
                "subtalker_top_k",
                "subtalker_top_p",
            ],
        )?,
        repetition_penalty: penalty.unwrap_or(DEFAULT.repetition_penalty),
        max_new_tokens: max_new_tokens.unwrap_or(DEFAULT.max_new_tokens),
    })
}

fn code(fields: &Fields<'_>, names: [&str; 4]) -> Result<CodeSampling, Error> {
    let [draws, temperature, top_k, top_p] = names;
    Ok(CodeSampling {
        draws: fields.bool(draws)?.unwrap_or(CODE.draws),
        temperature: fields.positive(temperature)?.unwrap_or(CODE.temperature),
        top_k: fields.index(top_k, usize::MAX)?.unwrap_or(CODE.top_k),
        top_p: fields.within(top_p, 0.0..=1.0)?.unwrap_or(CODE.top_p),
    })
}

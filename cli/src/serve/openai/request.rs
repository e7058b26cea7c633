//! What requests of both kinds have in common: how to draw, where to stop, how much, how to stream,
//! and which fields have no effect.

use serde_json::Value;

use super::StreamOptions;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::{form, refuse, sampling};
use crate::serve::ask::{Ask, Input, Refusal};

/// What clients send that changes no answer here: for billing, caching or storing elsewhere.
pub const HINTS: [&str; 17] = [
    "client_metadata",
    "include",
    "metadata",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "truncation",
    "user",
    "verbosity",
];

/// As many answers as one request may ask for; places are fewer, as a rule.
const ANSWERS_MOST: u64 = 128;

/// Fields that would change the answer, but for the values of them that do not.
pub fn refuse(fields: &mut Fields, unsupported: &[(&str, &[&str])]) -> Result<(), Refusal> {
    for (name, fine) in unsupported {
        if !fields.take_if(name, fine) {
            fields.refuse(&[(name, "leave it out")])?;
        }
    }
    Ok(())
}

/// An ask for this input, but for `logprobs` and the length.
pub fn ask(fields: &mut Fields, input: Input) -> Result<Ask, Refusal> {
    Ok(Ask {
        model: fields.text("model")?,
        input,
        sampling: sampling::read(fields, f32::MAX)?,
        bias: bias(fields)?,
        stop: sampling::stops(fields, "stop")?,
        form: form::read(fields.take("response_format").as_ref(), "response_format")?,
        max_tokens: None,
        logprobs: None,
        token_ids: false,
        answers: fields.count("n", 1..=ANSWERS_MOST)?.unwrap_or(1),
    })
}

fn bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Refusal> {
    const FIELD: &str = "logit_bias";
    let given = fields.object(FIELD)?.unwrap_or_default();
    let one = |(token, bias): (&String, &Value)| {
        let token = token.parse::<u32>().ok();
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        match (token, bias) {
            (Some(token), Some(bias)) => Ok((token, bias as f32)),
            _ => {
                let must_be = "an object of token ids and numbers from -100 to 100";
                Err(refuse::invalid(
                    FIELD,
                    format!("`{FIELD}` must be {must_be}"),
                ))
            }
        }
    };
    given.iter().map(one).collect()
}

/// Whether to stream, and how.
pub fn stream(
    fields: &mut Fields,
    strict: bool,
    notes: &mut Notes,
) -> Result<Option<StreamOptions>, Refusal> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let options = fields.take("stream_options");
    if !streams {
        return Ok(None);
    }
    let mut options = match options {
        None => return Ok(Some(StreamOptions::default())),
        Some(Value::Object(options)) => Fields::of(options),
        Some(other) => return Err(refuse::not_a("stream_options", "an object", &other)),
    };
    let found = StreamOptions {
        usage: options.flag("include_usage")?.unwrap_or(false),
        progress: options.flag("include_progress")?.unwrap_or(false),
    };
    let mut left = Notes::default();
    options.finish(&["include_obfuscation"], strict, &mut left)?;
    for name in left.ignored {
        notes.ignore(&format!("stream_options.{name}"));
    }
    Ok(Some(found))
}

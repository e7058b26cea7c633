//! What requests of both kinds have in common: how to draw, where to stop, how much, how to stream.

use serde_json::{Map, Value};

use super::StreamOptions;
use super::fields::{Fields, Known, invalid, wrong};
use crate::serve::ask::{Ask, Asked, Input, Refusal};

/// Every byte of an answer is held against each of them.
const STOPS_MOST: usize = 64;

/// As many answers as one request may ask for; places are fewer, as a rule.
const ANSWERS_MOST: u64 = 128;

const STREAM_OPTIONS: Known = Known {
    fields: &["include_usage", "include_progress", "include_obfuscation"],
    unsupported: &[],
};

/// An ask for this input, but for `logprobs` and the length.
pub fn ask(fields: Fields<'_>, input: Input) -> Result<Ask, Refusal> {
    Ok(Ask {
        model: fields.text("model")?.map(str::to_owned),
        input,
        sampling: sampling(fields)?,
        bias: bias(fields)?,
        stop: stop(fields)?,
        max_tokens: None,
        logprobs: None,
        answers: fields.count("n", 1..=ANSWERS_MOST)?.unwrap_or(1),
    })
}

fn sampling(fields: Fields<'_>) -> Result<Asked, Refusal> {
    let any = 0.0..=f64::MAX;
    Ok(Asked {
        temperature: fields.number("temperature", any.clone())?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: top_k(fields)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", any)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        seed: seed(fields)?,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
    })
}

/// -1 is off in other servers.
fn top_k(fields: Fields<'_>) -> Result<Option<usize>, Refusal> {
    match fields.get("top_k").and_then(Value::as_i64) {
        Some(-1) => Ok(Some(0)),
        _ => fields.count("top_k", 0..=u64::MAX),
    }
}

fn seed(fields: Fields<'_>) -> Result<Option<u64>, Refusal> {
    let Some(value) = fields.get("seed") else {
        return Ok(None);
    };
    let seed = value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
    seed.map(Some)
        .ok_or_else(|| wrong("seed", "a whole number of 64 bits"))
}

fn bias(fields: Fields<'_>) -> Result<Vec<(u32, f32)>, Refusal> {
    const FIELD: &str = "logit_bias";
    let Some(given) = fields.object(FIELD)? else {
        return Ok(Vec::new());
    };
    let one = |(token, bias): (&String, &Value)| {
        let token = token.parse::<u32>().ok();
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        match (token, bias) {
            (Some(token), Some(bias)) => Ok((token, bias as f32)),
            _ => Err(wrong(
                FIELD,
                "an object of token ids and numbers from -100 to 100",
            )),
        }
    };
    given.iter().map(one).collect()
}

fn stop(fields: Fields<'_>) -> Result<Vec<String>, Refusal> {
    const FIELD: &str = "stop";
    let must_be = || wrong(FIELD, "a text or a list of texts");
    let stops = match fields.get(FIELD) {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(texts)) => {
            let text = |text: &Value| text.as_str().map(str::to_owned).ok_or_else(must_be);
            texts.iter().map(text).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err(must_be()),
    };
    if stops.len() > STOPS_MOST {
        let count = stops.len();
        return Err(invalid(
            FIELD,
            format!("`stop` has {count} texts, and {STOPS_MOST} are the most"),
        ));
    }
    Ok(stops)
}

/// Whether to stream, and how.
pub fn stream(
    object: &Map<String, Value>,
    strict: bool,
    ignored: &mut Vec<String>,
) -> Result<Option<StreamOptions>, Refusal> {
    let fields = Fields(object);
    let Some(true) = fields.flag("stream")? else {
        return Ok(None);
    };
    let Some(options) = fields.object("stream_options")? else {
        return Ok(Some(StreamOptions::default()));
    };
    for name in STREAM_OPTIONS.check(options, strict)? {
        ignored.push(format!("stream_options.{name}"));
    }
    let options = Fields(options);
    Ok(Some(StreamOptions {
        usage: options.flag("include_usage")?.unwrap_or(false),
        progress: options.flag("include_progress")?.unwrap_or(false),
    }))
}

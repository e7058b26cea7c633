//! What a request asks of the sampler. The fields that an API doesn't have are read all the same:
//! they are the extensions that the chat API of this server has as well.

use super::fields::Fields;
use super::refuse;
use crate::args::DrawArgs;
use crate::serve::ask::{Asked, Refusal};

/// The hottest that the APIs with answers in named events allow.
pub const TEMPERATURE_MAX: f32 = 2.0;

/// Every byte of an answer is held against each of them.
const STOPS_MOST: usize = 64;

/// `hottest`: what the API allows.
pub fn read(fields: &mut Fields, hottest: f32) -> Result<Asked, Refusal> {
    let draw = DrawArgs {
        temperature: fields.number("temperature", 0.0..=hottest)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: top_k(fields)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.0..=f32::MAX)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
    };
    Ok(Asked {
        draw,
        seed: seed(fields)?,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
    })
}

/// -1 is off in other servers.
fn top_k(fields: &mut Fields) -> Result<Option<usize>, Refusal> {
    if fields.take_if("top_k", &["-1"]) {
        return Ok(Some(0));
    }
    fields.count("top_k", 0..=u64::MAX)
}

fn seed(fields: &mut Fields) -> Result<Option<u64>, Refusal> {
    let Some(value) = fields.take("seed") else {
        return Ok(None);
    };
    let seed = value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
    let refusal = || refuse::not_within("seed", "a whole number of 64 bits", &value);
    seed.map(Some).ok_or_else(refusal)
}

/// The texts that end an answer.
pub fn stops(fields: &mut Fields, name: &str) -> Result<Vec<String>, Refusal> {
    let stops = fields.texts(name)?;
    match stops.len() {
        0..=STOPS_MOST => Ok(stops),
        count => {
            let message = format!("`{name}` has {count} texts, and {STOPS_MOST} are the most");
            Err(refuse::invalid(name, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Result<Asked, Refusal> {
        read(&mut Fields::of_body(body.as_bytes()).unwrap(), 2.0)
    }

    #[test]
    fn all_settings_are_read() {
        let body = r#"{"temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "seed": 7,
            "repetition_penalty": 1.5, "presence_penalty": -2, "frequency_penalty": 2,
            "ignore_eos": true}"#;
        let found = asked(body).unwrap();
        let draw = DrawArgs {
            temperature: Some(0.5),
            top_p: Some(0.25),
            top_k: Some(40),
            min_p: Some(0.125),
            repetition_penalty: Some(1.5),
            presence_penalty: Some(-2.0),
            frequency_penalty: Some(2.0),
        };
        let wanted = Asked {
            draw,
            seed: Some(7),
            ignore_eos: true,
        };
        assert_eq!(found, wanted);
        let off = asked(r#"{"top_k": -1, "seed": -1}"#).unwrap();
        assert_eq!((off.draw.top_k, off.seed), (Some(0), Some(u64::MAX)));
    }

    #[test]
    fn texts_that_end_an_answer_are_not_without_number() {
        let read = |count: usize| {
            let texts = vec!["\"a\""; count].join(",");
            let body = format!("{{\"stop\": [{texts}]}}");
            stops(&mut Fields::of_body(body.as_bytes()).unwrap(), "stop")
        };
        assert_eq!(read(64).unwrap().len(), 64);
        assert!(read(65).unwrap_err().message.contains("64 are the most"));
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (body, field) in [
            (r#"{"temperature": 2.5}"#, "temperature"),
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": 1.5}"#, "top_p"),
            (r#"{"top_k": -2}"#, "top_k"),
            (r#"{"min_p": "0"}"#, "min_p"),
            (r#"{"repetition_penalty": -1}"#, "repetition_penalty"),
            (r#"{"presence_penalty": 3}"#, "presence_penalty"),
            (r#"{"frequency_penalty": -3}"#, "frequency_penalty"),
            (r#"{"seed": 1.5}"#, "seed"),
        ] {
            let refusal = asked(body).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field));
        }
    }
}

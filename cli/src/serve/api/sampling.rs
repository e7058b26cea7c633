//! What a request asks of the sampler. The fields that an API doesn't have are read all the same:
//! they are the extensions that the chat API of this server has as well.

use super::fields::Fields;
use crate::serve::ask::{Asked, Refusal};

/// The hottest that any of the APIs allows.
const TEMPERATURE_MAX: f32 = 2.0;
const PENALTY_MAX: f32 = 2.0;
/// What is more than this makes any text the same as no text.
const REPETITION_MAX: f32 = 10.0;

pub fn read(fields: &mut Fields) -> Result<Asked, Refusal> {
    Ok(Asked {
        temperature: fields.number("temperature", 0.0, TEMPERATURE_MAX)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        top_k: fields.count("top_k", 0)?,
        min_p: fields.number("min_p", 0.0, 1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.1, REPETITION_MAX)?,
        presence_penalty: fields.number("presence_penalty", -PENALTY_MAX, PENALTY_MAX)?,
        frequency_penalty: fields.number("frequency_penalty", -PENALTY_MAX, PENALTY_MAX)?,
        seed: fields.whole("seed", 0)?,
        ignore_eos: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_settings_are_read() {
        let body = br#"{"temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "seed": 7,
            "repetition_penalty": 1.5, "presence_penalty": -2, "frequency_penalty": 2}"#;
        let asked = read(&mut Fields::of_body(body).unwrap()).unwrap();
        let wanted = Asked {
            temperature: Some(0.5),
            top_p: Some(0.25),
            top_k: Some(40),
            min_p: Some(0.125),
            repetition_penalty: Some(1.5),
            presence_penalty: Some(-2.0),
            frequency_penalty: Some(2.0),
            seed: Some(7),
            ignore_eos: false,
        };
        assert_eq!(asked, wanted);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (body, field) in [
            (r#"{"temperature": 2.5}"#, "temperature"),
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": 1.5}"#, "top_p"),
            (r#"{"top_k": -1}"#, "top_k"),
            (r#"{"min_p": "0"}"#, "min_p"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"presence_penalty": 3}"#, "presence_penalty"),
            (r#"{"frequency_penalty": -3}"#, "frequency_penalty"),
            (r#"{"seed": 1.5}"#, "seed"),
        ] {
            let refusal = read(&mut Fields::of_body(body.as_bytes()).unwrap()).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field));
        }
    }
}

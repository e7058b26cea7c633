//! `/v1/responses/input_tokens`: the prompt of a request that is not answered. It is the same
//! conversation as if it were.

use serde_json::{Value, json};

use super::request::{HINTS, UNSUPPORTED, conversation};
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::ask::{Conversation, Refusal};

/// What a request to be answered may have beside what is counted.
const NOT_COUNTED: &[&str] = &[
    "max_output_tokens",
    "model",
    "personality",
    "stop",
    "stream",
    "temperature",
    "top_logprobs",
    "top_p",
];

pub fn read_fields(mut fields: Fields, strict: bool) -> Result<(Conversation, Notes), Refusal> {
    let mut notes = Notes::default();
    fields.refuse(UNSUPPORTED)?;
    let (conversation, _) = conversation(&mut fields, &mut notes)?;
    let hints: Vec<&str> = [HINTS, NOT_COUNTED].concat();
    fields.finish(&hints, strict, &mut notes)?;
    Ok((conversation, notes))
}

/// The answer.
pub fn body(tokens: usize) -> Value {
    json!({"object": "response.input_tokens", "input_tokens": tokens})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::api::responses::read;

    #[test]
    fn what_is_counted_is_what_would_be_asked() {
        let body = json!({
            "model": "m",
            "instructions": "Be brief.",
            "input": [{"role": "user", "content": "Hello"}],
            "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
            "temperature": 0.5,
            "store": false,
        })
        .to_string();
        let fields = Fields::of_body(body.as_bytes()).unwrap();
        let (counted, notes) = read_fields(fields, true).unwrap();
        let (ask, _, _) = read(body.as_bytes(), true).unwrap();
        assert_eq!(ask.input, crate::serve::ask::Input::Chat(counted));
        assert_eq!(notes.withheld_tools, ["web_search"]);
    }

    #[test]
    fn what_is_stored_nowhere_is_refused_by_name() {
        let body = br#"{"input": "Hello", "previous_response_id": "resp_1"}"#;
        let refusal = read_fields(Fields::of_body(body).unwrap(), false).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("previous_response_id"));
    }
}

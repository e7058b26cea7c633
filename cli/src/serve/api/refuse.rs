//! Refusals of requests that no one could answer: what is wrong, and in which field. How an API
//! writes them to its clients is not known here.

use serde_json::Value;

use crate::serve::ask::{Refusal, RefusalKind};

/// A client's own words are repeated up to this many characters.
const QUOTED_MAX: usize = 80;

pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    refusal(RefusalKind::Invalid, Some(field.into()), message.into())
}

/// A field or value that would change the answer and that nothing here can honour.
pub fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    refusal(RefusalKind::Unsupported, Some(field.into()), message.into())
}

/// A value of another type than the API has there.
pub fn not_a(field: &str, wanted: &str, value: &Value) -> Refusal {
    let message = format!("`{field}` must be {wanted}, and it is {}.", kind(value));
    invalid(field, message)
}

/// A value that is out of its range.
pub fn not_within(field: &str, wanted: &str, value: &Value) -> Refusal {
    let value = quoted(&value.to_string());
    invalid(
        field,
        format!("`{field}` must be {wanted}, and it is {value}."),
    )
}

/// A prompt that the context can't hold. The words are those by which clients tell that they should
/// shorten the conversation: of one of them the first half, of others the second.
pub fn too_long(tokens: usize, maximum: usize, field: &str) -> Refusal {
    Refusal {
        status: 400,
        kind: RefusalKind::ContextLengthExceeded,
        message: format!(
            "prompt is too long: {tokens} tokens > {maximum} maximum. This model's maximum context \
             length is {maximum} tokens here (--context of the server). Shorten the conversation."
        ),
        field: Some(field.to_owned()),
    }
}

pub fn missing(field: &str) -> Refusal {
    invalid(field, format!("`{field}` is missing."))
}

/// The body is no JSON, or no object.
pub fn body(message: String) -> Refusal {
    refusal(RefusalKind::Invalid, None, message)
}

/// What a client wrote, short enough for a message.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn refusal(kind: RefusalKind, field: Option<String>, message: String) -> Refusal {
    Refusal {
        status: 400,
        kind,
        message,
        field,
    }
}

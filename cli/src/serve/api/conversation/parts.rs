//! The texts in a message: its content, its parts, its fields. What is no text is refused by name.

use serde_json::{Map, Value};

use crate::serve::api::refuse;
use crate::serve::ask::Refusal;

/// The text of a message, whose content is a text or a list of parts. Parts that are no texts are
/// refused by their type, not left out: the answer would be to another question.
pub fn text(content: Option<&Value>, field: &str) -> Result<String, Refusal> {
    let parts = match content {
        None | Some(Value::Null) => return Ok(String::new()),
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(refuse::not_a(field, "a text or a list of parts", other)),
    };
    let mut whole = String::new();
    for (at, part) in parts.iter().enumerate() {
        super::append(
            &mut whole,
            super::PARTS,
            part_text(part, &format!("{field}[{at}]"))?,
        );
    }
    Ok(whole)
}

/// The text of one part.
pub fn part_text<'v>(part: &'v Value, field: &str) -> Result<&'v str, Refusal> {
    let fields = match part {
        Value::Object(fields) => fields,
        Value::String(text) => return Ok(text),
        other => return Err(refuse::not_a(field, "an object with a `type`", other)),
    };
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(refuse::not_a(&format!("{field}.type"), "a text", other)),
        None => return Err(refuse::missing(&format!("{field}.type"))),
    };
    let name = match kind {
        "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => "text",
        "refusal" => "refusal",
        other => return Err(not_a_text(other, field)),
    };
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(refuse::not_a(&format!("{field}.{name}"), "a text", other)),
        None => Err(refuse::missing(&format!("{field}.{name}"))),
    }
}

/// The refusal of a part that is an image, a sound, a file, or something that is not known.
pub fn not_a_text(kind: &str, field: &str) -> Refusal {
    let message = format!(
        "`{field}` is of the type `{}`, and the model reads texts alone. Leave it out, or say in \
         words what is in it.",
        refuse::quoted(kind)
    );
    refuse::unsupported(field, message)
}

/// A text that may be missing or null.
pub fn optional_text<'v>(
    fields: &'v Map<String, Value>,
    name: &str,
    field: &str,
) -> Result<Option<&'v str>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(refuse::not_a(&format!("{field}.{name}"), "a text", other)),
    }
}

/// A text that must be there.
pub fn required_text<'v>(
    fields: &'v Map<String, Value>,
    name: &str,
    field: &str,
) -> Result<&'v str, Refusal> {
    optional_text(fields, name, field)?.ok_or_else(|| refuse::missing(&format!("{field}.{name}")))
}

pub fn unknown_role(role: &str, field: &str) -> Refusal {
    let message = format!(
        "`{field}.role` is `{}`, which is no role of this API.",
        refuse::quoted(role)
    );
    refuse::invalid(format!("{field}.role"), message)
}

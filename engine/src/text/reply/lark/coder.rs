//! Calls in Qwen3-Coder's XML: parameters are texts between tags, in the order of the schema. A
//! parameter that is a text is held to its choices, where it has such, and else to nothing; others
//! are JSON of their schemas.

use serde_json::Value;

use super::super::style::Marks;
use super::writer::{Writer, quoted};
use super::{TextWish, ToolWish, Wish, fields_of, part_of};

const FUNCTION: &str = "<function=";
/// A longer chain is a circle.
const REFERENCES_MAX: usize = 8;
const ENDS: &str = "\n</parameter>\n";

pub(super) fn write(marks: &Marks, wish: &Wish, writer: &mut Writer<'_>) -> Result<String, String> {
    let (open, close) = (writer.mark(marks.open), writer.mark(marks.close));
    let mut bodies = Vec::with_capacity(wish.tools.len());
    for tool in &wish.tools {
        let parameters = parameters(tool, writer)
            .map_err(|reason| format!("the parameters of `{}`: {reason}", tool.name))?;
        bodies.push(format!(
            "{} {parameters} \"</function>\"",
            quoted(&format!("{}>\n", tool.name))
        ));
    }
    let bodies = writer.rule("", &bodies.join(" | "));
    let whole = format!("{open} \"\\n\" \"{FUNCTION}\" {bodies} \"\\n\" {close}");
    let whole = writer.rule("", &whole);
    let first = match wish.text {
        // The outer tags may be missing.
        TextWish::Anything => {
            let lead = match writer.is_special(marks.open) {
                true => format!("TEXT ({open} GAP? \"{FUNCTION}\")"),
                false => writer.until(FUNCTION),
            };
            format!("{lead} {bodies} (GAP? {close})?")
        }
        TextWish::Nothing | TextWish::Json(_) => whole.clone(),
    };
    Ok(match wish.several {
        true => format!("{first} (GAP? {whole})*"),
        false => first,
    })
}

fn parameters(tool: &ToolWish, writer: &mut Writer<'_>) -> Result<String, String> {
    let known = tool.parameters.as_ref();
    let Some((schema, fields)) = known.and_then(|schema| Some((schema, fields_of(schema)?))) else {
        let value = writer.until(ENDS);
        return Ok(format!(
            "(/<parameter=[a-zA-Z_][a-zA-Z0-9_\\-]*>\\n/ {value})*"
        ));
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |key: &str| required.is_some_and(|keys| keys.iter().any(|it| it == key));
    let mut written = Vec::with_capacity(fields.len());
    for (key, field) in fields {
        let value = value(schema, field, writer)?;
        let tag = quoted(&format!("<parameter={key}>\n"));
        written.push(match is_required(key) {
            true => format!("{tag} {value}"),
            false => format!("({tag} {value})?"),
        });
    }
    Ok(written.join(" "))
}

/// What a parameter's schema refers to, where it does nothing else.
fn meant<'a>(schema: &'a Value, field: &'a Value) -> &'a Value {
    let mut found = field;
    for _ in 0..REFERENCES_MAX {
        let place = found.get("$ref").and_then(Value::as_str);
        let place = place.and_then(|place| place.strip_prefix('#'));
        match place.and_then(|place| schema.pointer(place)) {
            Some(next) => found = next,
            None => break,
        }
    }
    found
}

/// A parameter's value, and the tag behind it.
fn value(schema: &Value, field: &Value, writer: &mut Writer<'_>) -> Result<String, String> {
    let kind = meant(schema, field);
    if let Some(choices) = kind.get("enum").and_then(Value::as_array)
        && choices.iter().all(Value::is_string)
    {
        let words = choices.iter().filter_map(Value::as_str).map(quoted);
        let words = words.collect::<Vec<_>>().join(" | ");
        return Ok(format!("({words}) {}", quoted(ENDS)));
    }
    const NO_TEXT: [&str; 6] = ["integer", "number", "boolean", "object", "array", "null"];
    match kind.get("type").and_then(Value::as_str) {
        Some(kind) if NO_TEXT.contains(&kind) => {
            let json = writer.json(&part_of(schema, field))?;
            Ok(format!("{json} {}", quoted(ENDS)))
        }
        _ => Ok(writer.until(ENDS)),
    }
}

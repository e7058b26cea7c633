//! Messages and their content blocks. One message of this API may be several of a template: what
//! tools gave, and then what the user says to it.

use serde_json::{Map, Value};

use crate::serve::api::conversation::parts::{
    not_a_text, part_text, required_text, text, unknown_role,
};
use crate::serve::api::conversation::{Assistant, Draft};
use crate::serve::api::{refuse, tools};
use crate::serve::ask::Refusal;

pub fn message(draft: &mut Draft, message: &Value, field: &str) -> Result<(), Refusal> {
    let Value::Object(fields) = message else {
        return Err(refuse::not_a(field, "an object", message));
    };
    let inside = format!("{field}.content");
    let content = match fields.get("content") {
        None | Some(Value::Null) => return Err(refuse::missing(&inside)),
        Some(content) => content,
    };
    match required_text(fields, "role", field)? {
        "user" => user(draft, content, &inside)?,
        "assistant" => draft.assistant_going_on(assistant(content, &inside)?),
        "system" => draft.system(text(Some(content), &inside)?),
        other => return Err(unknown_role(other, field)),
    }
    Ok(())
}

/// What tools gave comes first, wherever it stands: templates want it right after the calls.
fn user(draft: &mut Draft, content: &Value, field: &str) -> Result<(), Refusal> {
    let Value::Array(blocks) = content else {
        draft.user_going_on(text(Some(content), field)?);
        return Ok(());
    };
    let mut said = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let field = format!("{field}[{at}]");
        match kind(block, &field)? {
            "tool_result" => tool_result(draft, block, &field)?,
            _ => said.push(part_text(block, &field)?),
        }
    }
    if !said.is_empty() || blocks.is_empty() {
        draft.user_going_on(said.join("\n"));
    }
    Ok(())
}

fn tool_result(draft: &mut Draft, block: &Value, field: &str) -> Result<(), Refusal> {
    let Value::Object(fields) = block else {
        return Err(refuse::not_a(field, "an object", block));
    };
    let id = required_text(fields, "tool_use_id", field)?.to_owned();
    let mut content = text(fields.get("content"), &format!("{field}.content"))?;
    let failed = fields.get("is_error").is_some_and(|is| is == true);
    // Templates have no other way to say so.
    if failed
        && !content
            .get(..5)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("error"))
    {
        content.insert_str(0, "Error: ");
    }
    draft.tool(id, None, content);
    Ok(())
}

fn assistant(content: &Value, field: &str) -> Result<Assistant, Refusal> {
    let mut said = Assistant::default();
    let Value::Array(blocks) = content else {
        said.say(&text(Some(content), field)?);
        return Ok(said);
    };
    for (at, block) in blocks.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let kind = kind(block, &field)?;
        match (kind, block) {
            // It is encrypted for another server.
            ("redacted_thinking", _) => {}
            ("thinking", Value::Object(fields)) => {
                said.think(required_text(fields, "thinking", &field)?);
            }
            ("tool_use", Value::Object(fields)) => tool_use(&mut said, fields, &field)?,
            _ => said.say(part_text(block, &field)?),
        }
    }
    Ok(said)
}

fn tool_use(said: &mut Assistant, fields: &Map<String, Value>, field: &str) -> Result<(), Refusal> {
    let id = required_text(fields, "id", field)?;
    let name = required_text(fields, "name", field)?;
    said.call(id, name, tools::arguments(fields.get("input")));
    Ok(())
}

/// A block's type; texts that are no objects are refused here, since this API has none.
fn kind<'v>(block: &'v Value, field: &str) -> Result<&'v str, Refusal> {
    let Value::Object(fields) = block else {
        return Err(refuse::not_a(field, "an object with a `type`", block));
    };
    match required_text(fields, "type", field)? {
        kind @ ("text" | "tool_result" | "tool_use" | "thinking" | "redacted_thinking") => Ok(kind),
        other => Err(not_a_text(other, field)),
    }
}

//! The items of `input`, which is a text or a list: messages, calls and what they gave, reasoning.
//! Ids and states of items are of no use to a server that stores nothing, and are not read.

use serde_json::{Map, Value, json};

use crate::serve::api::conversation::parts::{
    not_a_text, optional_text, required_text, text, unknown_role,
};
use crate::serve::api::conversation::{Assistant, Draft};
use crate::serve::api::notes::Notes;
use crate::serve::api::{refuse, tools};
use crate::serve::ask::Refusal;

/// Begins a text of reasoning that this server gave out for clients to send back. It is not
/// encrypted: it is the client's own answer.
pub const SEAL: &str = "engine:reasoning:1:";

pub fn read(
    instructions: Option<&str>,
    input: Option<Value>,
    notes: &mut Notes,
) -> Result<Draft, Refusal> {
    let mut draft = Draft::default();
    if let Some(text) = instructions {
        draft.system(text.to_owned());
    }
    let items = match input {
        None => return Err(refuse::missing("input")),
        Some(Value::String(text)) => {
            draft.user(text, None);
            return Ok(draft);
        }
        Some(Value::Array(items)) if items.is_empty() => {
            let message = "`input` has no items: there is nothing to answer.";
            return Err(refuse::invalid("input", message));
        }
        Some(Value::Array(items)) => items,
        Some(other) => return Err(refuse::not_a("input", "a text or a list of items", &other)),
    };
    for (at, item) in items.iter().enumerate() {
        add(&mut draft, item, &format!("input[{at}]"), notes)?;
    }
    Ok(draft)
}

fn add(draft: &mut Draft, item: &Value, field: &str, notes: &mut Notes) -> Result<(), Refusal> {
    let Value::Object(fields) = item else {
        return Err(refuse::not_a(field, "an object", item));
    };
    // A message may do without its type.
    let kind = optional_text(fields, "type", field)?.unwrap_or("message");
    match kind {
        "message" => message(draft, fields, field),
        "function_call" => {
            let arguments = tools::arguments(fields.get("arguments"));
            call(draft, fields, arguments, field)
        }
        // Calls whose argument is one text come from other servers.
        "custom_tool_call" => {
            let text = required_text(fields, "input", field)?;
            call(draft, fields, json!({"input": text}), field)
        }
        "function_call_output" | "custom_tool_call_output" => {
            let id = required_text(fields, "call_id", field)?.to_owned();
            let name = optional_text(fields, "name", field)?.map(str::to_owned);
            let output = text(fields.get("output"), &format!("{field}.output"))?;
            draft.tool(id, name, output);
            Ok(())
        }
        "reasoning" => reasoning(draft, fields, field, notes),
        "item_reference" => {
            let message = format!(
                "`{field}` refers to an item that was stored, and nothing is stored. Send the item."
            );
            Err(refuse::unsupported(field, message))
        }
        other => Err(unknown(other, field)),
    }
}

fn message(draft: &mut Draft, fields: &Map<String, Value>, field: &str) -> Result<(), Refusal> {
    let content = text(fields.get("content"), &format!("{field}.content"))?;
    match required_text(fields, "role", field)? {
        "user" => draft.user_going_on(content),
        "system" | "developer" => draft.system(content),
        "assistant" => {
            let mut said = Assistant::default();
            said.say(&content);
            draft.assistant_going_on(said);
        }
        other => return Err(unknown_role(other, field)),
    }
    Ok(())
}

fn call(
    draft: &mut Draft,
    fields: &Map<String, Value>,
    arguments: Value,
    field: &str,
) -> Result<(), Refusal> {
    let id = required_text(fields, "call_id", field)?;
    let name = required_text(fields, "name", field)?;
    let mut said = Assistant::default();
    said.call(id, name, arguments);
    draft.assistant_going_on(said);
    Ok(())
}

/// The reasoning itself, or what was sealed for the client, or a summary.
fn reasoning(
    draft: &mut Draft,
    fields: &Map<String, Value>,
    field: &str,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    let content = text(fields.get("content"), &format!("{field}.content"))?;
    let summary = text(fields.get("summary"), &format!("{field}.summary"))?;
    let sealed = optional_text(fields, "encrypted_content", field)?;
    let opened = sealed.and_then(|text| text.strip_prefix(SEAL));
    if sealed.is_some() && opened.is_none() {
        notes.ignore("input.encrypted_content");
    }
    let known = [content.as_str(), opened.unwrap_or(""), summary.as_str()];
    if let Some(text) = known.into_iter().find(|text| !text.is_empty()) {
        let mut said = Assistant::default();
        said.think(text);
        draft.assistant_going_on(said);
    }
    Ok(())
}

fn unknown(kind: &str, field: &str) -> Refusal {
    if kind.starts_with("input_") {
        return not_a_text(kind, field);
    }
    let message = format!(
        "`{field}` is of the type `{}`, which this server does not read: it knows message, \
         function_call, function_call_output, custom_tool_call, custom_tool_call_output and \
         reasoning.",
        refuse::quoted(kind)
    );
    refuse::unsupported(field, message)
}

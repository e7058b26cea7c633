//! Messages of OpenAI's chat API, which has nearly the form that templates read: contents may be
//! lists of parts, arguments are texts, and roles have more names.

use serde_json::{Map, Value};

use super::parts::{optional_text, required_text, text, unknown_role};
use super::{Assistant, Draft};
use crate::serve::api::notes::Notes;
use crate::serve::api::{refuse, tools};
use crate::serve::ask::{Conversation, Refusal};

/// Names under which clients send an assistant's reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// The messages and tools of OpenAI's chat API. The choice of a tool, parallel calls and template
/// arguments are for the caller to add.
pub fn from_chat(
    messages: &[Value],
    tools: &[Value],
    notes: &mut Notes,
) -> Result<Conversation, Refusal> {
    let mut draft = Draft::default();
    for (at, message) in messages.iter().enumerate() {
        add_message(&mut draft, message, &format!("messages[{at}]"))?;
    }
    let tools = tools::from_openai(tools, notes)?;
    draft.finish(tools, "messages")
}

fn add_message(draft: &mut Draft, message: &Value, field: &str) -> Result<(), Refusal> {
    let Value::Object(fields) = message else {
        return Err(refuse::not_a(field, "an object", message));
    };
    let content = text(fields.get("content"), &format!("{field}.content"))?;
    let name = optional_text(fields, "name", field)?.map(str::to_owned);
    let role = required_text(fields, "role", field)?;
    match role {
        "system" | "developer" => draft.system(content),
        "user" => draft.user(content, name),
        "tool" => {
            let call = required_text(fields, "tool_call_id", field)?.to_owned();
            draft.tool(call, name, content);
        }
        "assistant" => draft.assistant(assistant(fields, content, name, field)?),
        other => return Err(unknown_role(other, field)),
    }
    Ok(())
}

fn assistant(
    fields: &Map<String, Value>,
    content: String,
    name: Option<String>,
    field: &str,
) -> Result<Assistant, Refusal> {
    let mut said = Assistant::default();
    said.named(name);
    if !content.is_empty() {
        said.say(&content);
    }
    for name in ["audio", "function_call"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) {
            let message = format!("`{field}.{name}` is not supported; calls are in `tool_calls`.");
            return Err(refuse::unsupported(format!("{field}.{name}"), message));
        }
    }
    for name in REASONING {
        if let Some(text) = optional_text(fields, name, field)?.filter(|text| !text.is_empty()) {
            said.think(text);
            break;
        }
    }
    if said.says_nothing()
        && let Some(refused) = optional_text(fields, "refusal", field)?
    {
        said.say(refused);
    }
    let calls = match fields.get("tool_calls") {
        None | Some(Value::Null) => return Ok(said),
        Some(Value::Array(calls)) => calls,
        Some(other) => {
            return Err(refuse::not_a(
                &format!("{field}.tool_calls"),
                "a list",
                other,
            ));
        }
    };
    for (at, call) in calls.iter().enumerate() {
        let field = format!("{field}.tool_calls[{at}]");
        let Some(function) = call.get("function").and_then(Value::as_object) else {
            return Err(refuse::missing(&format!("{field}.function")));
        };
        let id = match call.get("id") {
            Some(Value::String(id)) => id,
            _ => return Err(refuse::missing(&format!("{field}.id"))),
        };
        let field = format!("{field}.function");
        let name = required_text(function, "name", &field)?;
        said.call(id, name, tools::arguments(function.get("arguments")));
    }
    Ok(said)
}

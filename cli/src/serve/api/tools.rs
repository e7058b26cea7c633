//! Tools as chat templates read them, from the forms that the APIs have for them; the choice among
//! them; arguments of calls. It doesn't know how a model writes a call.

use serde_json::{Map, Value, json};

use super::notes::Notes;
use super::refuse;
use crate::serve::ask::{Refusal, ToolChoice};

/// The function of a tool, in the order in which templates print it, and whether it is `strict`:
/// whether its arguments are held to their schema.
pub fn function(
    name: &str,
    description: Option<&Value>,
    parameters: Option<&Value>,
    strict: bool,
    field: &str,
) -> Result<Value, Refusal> {
    if name.trim().is_empty() {
        return Err(refuse::invalid(
            format!("{field}.name"),
            format!("`{field}.name` is empty: the model needs a name to call the tool by."),
        ));
    }
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(name));
    match description {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            function.insert("description".to_owned(), json!(text));
        }
        Some(other) => {
            let field = format!("{field}.description");
            return Err(refuse::not_a(&field, "a text", other));
        }
    }
    let parameters = match parameters {
        // Templates go through the parameters without asking whether there are any.
        None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(other) => {
            let field = format!("{field}.parameters");
            return Err(refuse::not_a(&field, "a JSON schema (an object)", other));
        }
    };
    function.insert("parameters".to_owned(), parameters);
    if strict {
        function.insert("strict".to_owned(), true.into());
    }
    Ok(json!({"type": "function", "function": function}))
}

/// The tools of OpenAI's APIs: the chat API has a function's fields under `function`, the responses
/// API beside `type`. Other kinds are kept from the model, and noted.
pub fn from_openai(tools: &[Value], notes: &mut Notes) -> Result<Vec<Value>, Refusal> {
    let mut found = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let field = format!("tools[{at}]");
        let Value::Object(fields) = tool else {
            return Err(refuse::not_a(&field, "an object", tool));
        };
        match fields.get("type").and_then(Value::as_str) {
            Some("function") => {}
            Some(kind) => {
                notes.withhold_tool(kind);
                continue;
            }
            None => return Err(refuse::missing(&format!("{field}.type"))),
        }
        let (fields, field) = match fields.get("function") {
            Some(Value::Object(function)) => (function, format!("{field}.function")),
            Some(other) => {
                let field = format!("{field}.function");
                return Err(refuse::not_a(&field, "an object", other));
            }
            None => (fields, field),
        };
        let Some(name) = fields.get("name").and_then(Value::as_str) else {
            return Err(refuse::missing(&format!("{field}.name")));
        };
        let strict = fields.get("strict").is_some_and(|strict| strict == true);
        let (description, parameters) = (fields.get("description"), fields.get("parameters"));
        found.push(function(name, description, parameters, strict, &field)?);
    }
    Ok(found)
}

/// `tool_choice` of OpenAI's APIs, held against the tools that the model gets.
pub fn choice_from_openai(given: Option<&Value>, tools: &[Value]) -> Result<ToolChoice, Refusal> {
    const FIELD: &str = "tool_choice";
    let choice = match given {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            other => {
                let message = format!(
                    "`tool_choice` is `{}`, which is none of auto, none, required and an object \
                     with the name of a function.",
                    refuse::quoted(other)
                );
                return Err(refuse::invalid(FIELD, message));
            }
        },
        Some(Value::Object(object)) => {
            let kind = object.get("type").and_then(Value::as_str);
            let name = object
                .get("name")
                .or_else(|| object.get("function")?.get("name"));
            match (kind, name.and_then(Value::as_str)) {
                (Some("function"), Some(name)) => ToolChoice::Named(name.to_owned()),
                (Some("function"), None) => {
                    return Err(refuse::missing("tool_choice.function.name"));
                }
                (kind, _) => {
                    let message = format!(
                        "`tool_choice` of the type `{}` is not supported: it may be auto, none, \
                         required, or a function by its name.",
                        refuse::quoted(kind.unwrap_or("(none)"))
                    );
                    return Err(refuse::unsupported(FIELD, message));
                }
            }
        }
        Some(other) => return Err(refuse::not_a(FIELD, "a text or an object", other)),
    };
    check(choice, tools)
}

/// A choice that no tool could serve is refused.
pub fn check(choice: ToolChoice, tools: &[Value]) -> Result<ToolChoice, Refusal> {
    const FIELD: &str = "tool_choice";
    match &choice {
        ToolChoice::Auto | ToolChoice::None => {}
        ToolChoice::Required if tools.is_empty() => {
            let message = "`tool_choice` asks for a call, and there is no tool that can be called. \
                           Give one in `tools`.";
            return Err(refuse::invalid(FIELD, message));
        }
        ToolChoice::Required => {}
        ToolChoice::Named(name) => {
            let known = |tool: &Value| tool["function"]["name"] == name.as_str();
            if !tools.iter().any(known) {
                let message = format!(
                    "`tool_choice` names `{}`, which is none of the {} tools that can be called.",
                    refuse::quoted(name),
                    tools.len()
                );
                return Err(refuse::invalid(FIELD, message));
            }
        }
    }
    Ok(choice)
}

/// The arguments of a call, from the JSON that a client keeps of them: an object, or, where they are
/// the JSON of none, the text as it is. A call that was cut off, or that a model wrote badly, has such
/// arguments, and the conversation goes on. No arguments are an empty object.
pub fn arguments(given: Option<&Value>) -> Value {
    match given {
        None | Some(Value::Null) => json!({}),
        Some(Value::Object(object)) => json!(object),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(object @ Value::Object(_)) => object,
            Ok(Value::Null) => json!({}),
            _ => json!(text),
        },
        Some(other) => json!(other.to_string()),
    }
}

/// A call in an assistant's message.
pub fn call(id: &str, name: &str, arguments: Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[cfg(test)]
mod tests;

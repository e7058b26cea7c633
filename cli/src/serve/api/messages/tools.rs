//! Tools of the messages API and the choice among them.

use serde_json::{Map, Value};

use crate::serve::api::conversation::parts::{optional_text, required_text};
use crate::serve::api::notes::Notes;
use crate::serve::api::{refuse, tools};
use crate::serve::ask::{Refusal, ToolChoice};

/// The client's own tools. Those that a server would run, or that a model must have been taught,
/// are kept from the model.
pub fn read(given: &[Value], notes: &mut Notes) -> Result<Vec<Value>, Refusal> {
    let mut found = Vec::new();
    for (at, tool) in given.iter().enumerate() {
        let field = format!("tools[{at}]");
        let Value::Object(fields) = tool else {
            return Err(refuse::not_a(&field, "an object", tool));
        };
        match optional_text(fields, "type", &field)? {
            None | Some("custom") => {}
            Some(kind) => {
                notes.withhold_tool(kind);
                continue;
            }
        }
        let is_on = |name: &str| fields.get(name).is_some_and(|value| value == true);
        if is_on("defer_loading") {
            notes.ignore("tools.defer_loading");
        }
        let name = required_text(fields, "name", &field)?;
        let description = fields.get("description");
        let schema = match fields.get("input_schema") {
            None | Some(Value::Null) => None,
            schema @ Some(Value::Object(_)) => schema,
            Some(other) => {
                let field = format!("{field}.input_schema");
                return Err(refuse::not_a(&field, "a JSON schema (an object)", other));
            }
        };
        found.push(tools::function(
            name,
            description,
            schema,
            is_on("strict"),
            &field,
        )?);
    }
    Ok(found)
}

/// The choice, and whether it may call several in one answer.
pub fn choice(
    given: Option<Map<String, Value>>,
    functions: &[Value],
) -> Result<(ToolChoice, bool), Refusal> {
    const FIELD: &str = "tool_choice";
    let Some(given) = given else {
        return Ok((ToolChoice::Auto, true));
    };
    let choice = match required_text(&given, "type", FIELD)? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(required_text(&given, "name", FIELD)?.to_owned()),
        other => {
            let message = format!(
                "`tool_choice.type` is `{}`, which is none of auto, any, tool and none.",
                refuse::quoted(other)
            );
            return Err(refuse::invalid("tool_choice.type", message));
        }
    };
    let alone = match given.get("disable_parallel_tool_use") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(alone)) => *alone,
        Some(other) => {
            let field = "tool_choice.disable_parallel_tool_use";
            return Err(refuse::not_a(field, "true or false", other));
        }
    };
    Ok((tools::check(choice, functions)?, !alone))
}

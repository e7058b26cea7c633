//! Messages as clients send them to messages as templates read them: texts instead of lists of parts,
//! one system message at the front, arguments of calls as objects. It knows no template.

use serde_json::{Map, Value, json};

use super::fields::{Fields, invalid, unsupported_field, wrong};
use crate::serve::ask::{Conversation, Refusal, ToolChoice};

/// Between parts of one message, and between messages that become one.
const PARTS: &str = "\n";
const MESSAGES: &str = "\n\n";

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Reads `messages`, `tools` and what belongs to them.
pub fn read(fields: Fields<'_>) -> Result<Conversation, Refusal> {
    let given = fields.list("messages")?;
    let given = given.ok_or_else(|| wrong("messages", "a list of messages"))?;
    if given.is_empty() {
        return Err(wrong("messages", "a list of at least one message"));
    }
    let mut system: Option<String> = None;
    let mut messages = Vec::with_capacity(given.len());
    for (index, message) in given.iter().enumerate() {
        let place = format!("messages[{index}]");
        let object = message
            .as_object()
            .ok_or_else(|| wrong(&place, "an object"))?;
        let role = object.get("role").and_then(Value::as_str).unwrap_or("");
        if !ROLES.contains(&role) {
            let roles = ROLES.join(", ");
            return Err(wrong(&format!("{place}.role"), &format!("one of {roles}")));
        }
        let content = content(object.get("content"), &place)?;
        if role == "system" || role == "developer" {
            let text = content.unwrap_or_default();
            match &mut system {
                None => system = Some(text),
                Some(before) => {
                    before.push_str(MESSAGES);
                    before.push_str(&text);
                }
            }
            continue;
        }
        messages.push(one(object, role, content, &place)?);
    }
    if let Some(text) = system {
        messages.insert(0, json!({"role": "system", "content": text}));
    }
    Ok(Conversation {
        messages,
        tools: tools(fields)?,
        choice: choice(fields)?,
        parallel_calls: fields.flag("parallel_tool_calls")?.unwrap_or(true),
        template_arguments: arguments(fields)?,
        continues: fields.flag("continue_final_message")?.unwrap_or(false),
    })
}

/// A message without what is null in it.
fn one(
    given: &Map<String, Value>,
    role: &str,
    content: Option<String>,
    place: &str,
) -> Result<Value, Refusal> {
    if given
        .get("function_call")
        .is_some_and(|call| !call.is_null())
    {
        let field = format!("{place}.function_call");
        return Err(unsupported_field(
            &field,
            "is not supported: use tool_calls",
        ));
    }
    for kind in ["audio", "images"] {
        if given.get(kind).is_some_and(|value| !value.is_null()) {
            let field = format!("{place}.{kind}");
            return Err(unsupported_field(
                &field,
                "is not supported: this model reads texts",
            ));
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), role.into());
    let calls = calls(given.get("tool_calls"), place)?;
    match content {
        Some(text) => {
            message.insert("content".to_owned(), text.into());
        }
        // Templates that print it without a look would print `None`.
        None if calls.is_none() => {
            message.insert("content".to_owned(), "".into());
        }
        None => {}
    }
    if let Some(calls) = calls {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    for name in ["name", "tool_call_id", "reasoning_content", "reasoning"] {
        match given.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                message.insert(name.to_owned(), text.as_str().into());
            }
            Some(_) => return Err(wrong(&format!("{place}.{name}"), "a text")),
        }
    }
    Ok(message.into())
}

/// A text, or the texts of its parts.
fn content(given: Option<&Value>, place: &str) -> Result<Option<String>, Refusal> {
    let field = format!("{place}.content");
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate();
            let texts = texts.map(|(index, part)| part_text(part, &format!("{field}[{index}]")));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            Ok(Some(texts.join(PARTS)))
        }
        Some(_) => Err(wrong(&field, "a text or a list of parts")),
    }
}

fn part_text<'a>(part: &'a Value, place: &str) -> Result<&'a str, Refusal> {
    if let Value::String(text) = part {
        return Ok(text);
    }
    let kind = part["type"].as_str().unwrap_or("");
    let text = match kind {
        "text" | "input_text" | "output_text" => &part["text"],
        "refusal" => &part["refusal"],
        "" => return Err(wrong(place, "an object with a type and a text")),
        kind => {
            let kind: String = kind.chars().take(40).collect();
            let why = format!("is of the type `{kind}`, and this model reads texts alone");
            return Err(unsupported_field(place, &why));
        }
    };
    text.as_str()
        .ok_or_else(|| wrong(&format!("{place}.text"), "a text"))
}

/// Calls with their arguments as objects. What is no object stays the text that it is.
fn calls(given: Option<&Value>, place: &str) -> Result<Option<Vec<Value>>, Refusal> {
    let place = format!("{place}.tool_calls");
    let given = match given {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(calls)) if calls.is_empty() => return Ok(None),
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err(wrong(&place, "a list")),
    };
    let one = |(index, call): (usize, &Value)| {
        let function = call["function"].as_object();
        let named = function.filter(|function| function.get("name").is_some_and(Value::is_string));
        let mut function = named.cloned().ok_or_else(|| {
            wrong(
                &format!("{place}[{index}]"),
                "an object with a function that has a name",
            )
        })?;
        if let Some(Value::String(text)) = function.get("arguments") {
            let object = match text.trim() {
                "" => Some(Value::Object(Map::new())),
                text => serde_json::from_str(text).ok().filter(Value::is_object),
            };
            if let Some(object) = object {
                function.insert("arguments".to_owned(), object);
            }
        }
        let mut made = Map::new();
        if let Some(id) = call["id"].as_str() {
            made.insert("id".to_owned(), id.into());
        }
        made.insert("type".to_owned(), "function".into());
        made.insert("function".to_owned(), function.into());
        Ok(Value::from(made))
    };
    given
        .iter()
        .enumerate()
        .map(one)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn tools(fields: Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let Some(given) = fields.list("tools")? else {
        return Ok(Vec::new());
    };
    for (index, tool) in given.iter().enumerate() {
        let place = format!("tools[{index}]");
        let kind = tool["type"].as_str().unwrap_or("");
        if kind != "function" {
            let kind: String = kind.chars().take(40).collect();
            let why = format!("is of the type `{kind}`, and only functions can be called");
            return Err(unsupported_field(&place, &why));
        }
        if !tool["function"]["name"].is_string() {
            return Err(wrong(&place, "an object with a function that has a name"));
        }
    }
    Ok(given.clone())
}

fn choice(fields: Fields<'_>) -> Result<ToolChoice, Refusal> {
    const FIELD: &str = "tool_choice";
    let must_be = || {
        wrong(
            FIELD,
            "auto, none, required, or an object that names a function",
        )
    };
    match fields.get(FIELD) {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(must_be()),
        },
        Some(choice) => {
            let name = choice["function"]["name"]
                .as_str()
                .filter(|_| choice["type"] == "function");
            name.map(|name| ToolChoice::Named(name.to_owned()))
                .ok_or_else(must_be)
        }
    }
}

/// `chat_template_kwargs`, and what clients say outside of them that templates read.
fn arguments(fields: Fields<'_>) -> Result<Map<String, Value>, Refusal> {
    const FIELD: &str = "chat_template_kwargs";
    let mut arguments = fields.object(FIELD)?.cloned().unwrap_or_default();
    for name in ["messages", "tools"] {
        if arguments.contains_key(name) {
            return Err(invalid(
                FIELD,
                format!("`{FIELD}` has `{name}`: send it beside it"),
            ));
        }
    }
    if let Some(add) = fields.flag("add_generation_prompt")? {
        arguments
            .entry("add_generation_prompt")
            .or_insert(add.into());
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn of(body: Value) -> Result<Conversation, Refusal> {
        read(Fields(body.as_object().unwrap()))
    }

    #[test]
    fn messages_become_what_templates_read() {
        let conversation = of(json!({"messages": [
            {"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {"role": "system", "content": "d"},
            {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": "1", "type": "function", "index": 0,
                 "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [2]}"}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": "[1]"}},
            ]},
            {"role": "tool", "tool_call_id": "1", "content": "e"},
            {"role": "assistant", "content": null},
        ]}));
        let made = Value::from(conversation.unwrap().messages).to_string();
        let wanted = concat!(
            r#"[{"role":"system","content":"a\n\nd"},{"role":"user","content":"b\nc"},"#,
            r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","#,
            r#""arguments":{"z":1,"a":[2]}}},{"id":"2","type":"function","function":{"name":"g","#,
            r#""arguments":"[1]"}}]},{"role":"tool","content":"e","tool_call_id":"1"},"#,
            r#"{"role":"assistant","content":""}]"#,
        );
        assert_eq!(made, wanted);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let image = json!({"type": "image_url", "image_url": {"url": "x"}});
        for (body, field) in [
            (json!({}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [1]}), "messages[0]"),
            (json!({"messages": [{"role": "x"}]}), "messages[0].role"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, image]}]}),
                "messages[0].content[1]",
            ),
            (
                json!({"messages": [{"role": "user", "content": 1}]}),
                "messages[0].content",
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "web_search"}]}),
                "tools[0]",
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"}], "tool_choice": "f"}),
                "tool_choice",
            ),
            (
                json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
                "messages[0].tool_calls[0]",
            ),
        ] {
            let refusal = of(body).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field));
            assert_eq!(refusal.status, 400);
        }
    }
}

//! Calls in a conversation whose arguments are the JSON of no object: a call that was cut off, say. A
//! template gets them as a text, which most print as it is or as a JSON string. Those that go through
//! the arguments one by one fail at a text, or print its letters: they get an object that holds it.

use engine::text::{Chat, ChatTemplate};
use serde_json::{Value, json};

use super::of_text;
use crate::serve::ask::Refusal;

/// `given`: the messages as they are. `again` makes the same of others.
pub fn render(
    template: &ChatTemplate,
    given: &Chat,
    messages: &[Value],
    again: impl FnOnce(&[Value]) -> Result<Chat, Refusal>,
) -> Result<String, Refusal> {
    let rendered = template.render(given);
    let texts: Vec<&str> = messages.iter().flat_map(texts).collect();
    let is_there = |text: &str| rendered.as_ref().is_ok_and(|whole| holds(whole, text));
    if texts.into_iter().all(is_there) {
        return rendered.map_err(of_text);
    }
    let held: Vec<Value> = messages.iter().map(in_objects).collect();
    let of_objects = template.render(&again(&held)?);
    of_objects.or(rendered).map_err(of_text)
}

fn arguments(call: &Value) -> Option<&str> {
    call["function"]["arguments"].as_str()
}

fn texts(message: &Value) -> impl Iterator<Item = &str> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    calls.filter_map(arguments)
}

/// As it is, or within the quotes of a JSON string.
fn holds(whole: &str, text: &str) -> bool {
    let json = Value::from(text).to_string();
    whole.contains(text) || whole.contains(&json[1..json.len() - 1])
}

/// Under the name that the one argument of a custom tool has.
fn in_objects(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for call in calls {
            if let Some(text) = arguments(call) {
                call["function"]["arguments"] = json!({"input": text});
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(template: &str, arguments: Value) -> Result<String, Refusal> {
        let chat = |messages: &[Value]| {
            let given = json!({"messages": messages}).to_string();
            Ok(Chat::from_json(given.as_bytes()).unwrap())
        };
        let call = json!({"id": "c", "type": "function",
            "function": {"name": "f", "arguments": arguments}});
        let messages = [json!({"role": "assistant", "content": "", "tool_calls": [call]})];
        let source = format!(
            "{{% for call in messages[0].tool_calls %}}{{% set given = call.function.arguments %}}\
             {template}{{% endfor %}}"
        );
        let template = ChatTemplate::new(source, Vec::new()).unwrap();
        render(&template, &chat(&messages)?, &messages, chat)
    }

    #[test]
    fn a_text_reaches_a_template_in_one_way_or_another() {
        let text = "{\"a\": \"b";
        for (template, wanted) in [
            (
                "{% if given is string %}{{ given }}{% else %}{{ given|tojson }}{% endif %}",
                text,
            ),
            ("{{ '<' + given + '>' }}", "<{\"a\": \"b>"),
            ("{{ given|tojson }}", r#""{\"a\": \"b""#),
            (
                "{% for name, value in given|items %}{{ name }}={{ value }}{% endfor %}",
                "input={\"a\": \"b",
            ),
            (
                "{% for name, value in given.items() %}{{ name }}={{ value }}{% endfor %}",
                "input={\"a\": \"b",
            ),
            (
                "{% for name in given %}{{ name }}={{ given[name] }}{% endfor %}",
                "input={\"a\": \"b",
            ),
            ("{{ call.function.name }}", "f"),
        ] {
            assert_eq!(prints(template, json!(text)).unwrap(), wanted, "{template}");
        }
    }

    #[test]
    fn an_object_is_given_as_it_is() {
        let printed = prints("{{ given|tojson }}", json!({"z": 1, "a": "2"}));
        assert_eq!(printed.unwrap(), r#"{"z": 1, "a": "2"}"#);
    }

    #[test]
    fn what_a_template_refuses_in_either_way_is_told() {
        let refusal = prints("{{ raise_exception('no calls') }}", json!("x")).unwrap_err();
        assert!(refusal.message.contains("no calls"), "{}", refusal.message);
    }
}

//! What the parameters of tools may be, and a parameter's text as JSON of such a kind. Only kinds are
//! looked at: whether a value is right is for the tool to say. It must not know tags.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json;

/// The kinds that schemas name, by tool and parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Types {
    tools: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Types {
    /// Of a list of tools, each as `{"type": "function", "function": {..}}` or the function alone;
    /// its parameters are in `parameters` or `input_schema`. What is otherwise is passed over.
    pub(super) fn of(tools: &Value) -> Self {
        let tools = tools.as_array().into_iter().flatten();
        let functions = tools.map(|tool| tool.get("function").unwrap_or(tool));
        Self {
            tools: functions.filter_map(parameters).collect(),
        }
    }

    /// A parameter's text as JSON. A kind other than a string's is preferred where both are allowed:
    /// `null` is then none and no word. Without a schema, what reads as a number, a boolean, an
    /// object or an array is that.
    pub(super) fn json(&self, tool: &str, parameter: &str, text: &str) -> String {
        let kinds = self.tools.get(tool).and_then(|tool| tool.get(parameter));
        let bare = text.trim();
        let value = json::value(bare);
        let fits = match (kinds, &value) {
            (None, Some(value)) => !value.is_string() && !value.is_null(),
            (Some(kinds), Some(value)) => kinds.iter().any(|kind| is_of(value, kind)),
            (_, None) => false,
        };
        if fits {
            return bare.to_owned();
        }
        // Templates print these as Python does.
        let python = match bare {
            "True" => Some(("boolean", "true")),
            "False" => Some(("boolean", "false")),
            "None" => Some(("null", "null")),
            _ => None,
        };
        let allowed = |kind: &str| kinds.is_some_and(|kinds| kinds.iter().any(|one| one == kind));
        match python {
            Some((kind, json)) if allowed(kind) => json.to_owned(),
            _ => Value::from(text).to_string(),
        }
    }
}

/// A string stays the text that it is: `"` in it is no quote.
fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn parameters(function: &Value) -> Option<(String, BTreeMap<String, Vec<String>>)> {
    let name = function.get("name")?.as_str()?;
    let schema = (function.get("parameters")).or_else(|| function.get("input_schema"))?;
    let properties = schema.get("properties")?.as_object()?;
    let kinds = properties.iter().map(|(key, schema)| {
        let kinds = kinds(schema);
        (key.clone(), kinds)
    });
    let known = kinds.filter(|(_, kinds)| !kinds.is_empty());
    Some((name.to_owned(), known.collect()))
}

/// The kinds that a schema or its alternatives name.
fn kinds(schema: &Value) -> Vec<String> {
    let mut kinds = named(schema);
    for choice in ["anyOf", "oneOf"] {
        let choices = schema.get(choice).and_then(Value::as_array);
        kinds.extend(choices.into_iter().flatten().flat_map(named));
    }
    let has_words = |values: &Vec<Value>| values.iter().any(Value::is_string);
    let choices = schema.get("enum").and_then(Value::as_array);
    if kinds.is_empty() && choices.is_some_and(has_words) {
        kinds.push("string".to_owned());
    }
    kinds
}

fn named(schema: &Value) -> Vec<String> {
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.as_slice(),
        Some(kind) => std::slice::from_ref(kind),
        None => &[],
    };
    (kinds.iter().filter_map(Value::as_str))
        .map(str::to_owned)
        .collect()
}

//! `/openapi.json`: every path, what it takes and what it gives. A test holds it to the routes.

use serde_json::{Map, Value, json};

/// An operation, as the document has it.
#[derive(Debug, Clone, Copy)]
struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    /// The schema of its body; `None`: it takes none.
    takes: Option<&'static str>,
    gives: Gives,
    /// Needs no key, and answers while the model loads.
    open: bool,
}

#[derive(Debug, Clone, Copy)]
enum Gives {
    Json(&'static str),
    /// The same, or events.
    JsonOrEvents(&'static str),
    Events,
    Text,
}

const fn get(path: &'static str, summary: &'static str, gives: Gives, open: bool) -> Operation {
    Operation {
        path,
        method: "get",
        summary,
        takes: None,
        gives,
        open,
    }
}

const fn post(
    path: &'static str,
    summary: &'static str,
    takes: &'static str,
    gives: Gives,
) -> Operation {
    Operation {
        path,
        method: "post",
        summary,
        takes: Some(takes),
        gives,
        open: false,
    }
}

const OPERATIONS: &[Operation] = &[
    get(
        "/health",
        "Whether the model is there, or how much of it",
        Gives::Json("Health"),
        true,
    ),
    get("/readyz", "The same", Gives::Json("Health"), true),
    get(
        "/livez",
        "Whether the server is there",
        Gives::Json("Health"),
        true,
    ),
    get("/metrics", "Figures for Prometheus", Gives::Text, false),
    get("/openapi.json", "This document", Gives::Json("Any"), false),
    get(
        "/panel",
        "How the model is doing, twice a second",
        Gives::Events,
        false,
    ),
    get(
        "/v1/models",
        "The model that there is",
        Gives::Json("Models"),
        false,
    ),
    post(
        "/v1/chat/completions",
        "The next message of a conversation",
        "ChatRequest",
        Gives::JsonOrEvents("ChatCompletion"),
    ),
    post(
        "/v1/completions",
        "How a text goes on",
        "CompletionRequest",
        Gives::JsonOrEvents("Completion"),
    ),
    post(
        "/tokenize",
        "The tokens of a text or of a conversation",
        "TokenizeRequest",
        Gives::Json("Tokens"),
    ),
    post(
        "/detokenize",
        "The text of tokens",
        "DetokenizeRequest",
        Gives::Json("Text"),
    ),
];

pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "engine",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs a language model larger than the memory that it computes in.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut told = json!({
        "summary": operation.summary,
        "responses": responses(operation),
    });
    if let Some(schema) = operation.takes {
        told["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": reference(schema)}},
        });
    }
    told["security"] = match operation.open {
        true => json!([]),
        // None, where the server was started without a key.
        false => json!([{"bearer": []}, {"key": []}, {}]),
    };
    told
}

fn responses(operation: &Operation) -> Value {
    let text = json!({"schema": {"type": "string"}});
    let content = match operation.gives {
        Gives::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        Gives::JsonOrEvents(schema) => json!({
            "application/json": {"schema": reference(schema)},
            "text/event-stream": text,
        }),
        Gives::Events => json!({"text/event-stream": text}),
        Gives::Text => json!({"text/plain": text}),
    };
    let mut responses = json!({"200": {"description": "It is done.", "content": content}});
    let mut refused = |status: &str, why: &str| {
        responses[status] = json!({
            "description": why,
            "content": {"application/json": {"schema": reference("Error")}},
        });
    };
    refused(
        "400",
        "The request is not understood; the message says what is wrong with it.",
    );
    refused("403", "The Host or the Origin is not one that may come.");
    if operation.takes.is_some() {
        refused("408", "The body did not come in time.");
        refused("413", "The body is larger than --body-limit.");
        refused("415", "The body is not said to be JSON.");
        refused("429", "All places are taken, those of the queue too.");
        refused("500", "The model could not go on.");
    }
    if !operation.open {
        refused("401", "The key is missing or wrong.");
        refused(
            "503",
            "The model is loading, or the server was told to stop.",
        );
    } else {
        responses["503"] = json!({"description": "The model is loading.", "content": content});
    }
    responses
}

fn reference(schema: &str) -> Value {
    match schema {
        "Any" => json!({"type": "object"}),
        schema => json!({"$ref": format!("#/components/schemas/{schema}")}),
    }
}

fn schemas() -> Value {
    let common = common();
    let with = |own: Value, required: &[&str]| {
        let mut properties = common.clone();
        properties.extend(own.as_object().cloned().unwrap_or_default());
        json!({"type": "object", "required": required, "properties": properties})
    };
    let chat = with(chat_fields(), &["messages"]);
    let completion = with(completion_fields(), &["prompt"]);
    json!({
        "ChatRequest": chat,
        "CompletionRequest": completion,
        "Message": message(),
        "TokenizeRequest": {"type": "object", "properties": {
            "content": {"type": "string"},
            "messages": {"type": "array", "minItems": 1, "items": reference("Message")},
            "add_special": {"type": "boolean"},
            "with_pieces": {"type": "boolean"},
        }},
        "DetokenizeRequest": {"type": "object", "required": ["tokens"], "properties": {
            "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        }},
        "Tokens": object(&[("tokens", "array"), ("count", "integer"), ("max_model_len", "integer")]),
        "Text": object(&[("content", "string")]),
        "Health": object(&[("status", "string")]),
        "Models": object(&[("object", "string"), ("data", "array")]),
        "ChatCompletion": answer(),
        "Completion": answer(),
        "Error": {"type": "object", "required": ["error"], "properties": {
            "error": object(&[("message", "string"), ("type", "string")]),
        }},
    })
}

fn object(fields: &[(&str, &str)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties = fields.iter().map(|(name, kind)| {
        let kind = json!({"type": kind});
        ((*name).to_owned(), kind)
    });
    let properties: Map<String, Value> = properties.collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn answer() -> Value {
    object(&[
        ("id", "string"),
        ("object", "string"),
        ("created", "integer"),
        ("model", "string"),
        ("choices", "array"),
        ("usage", "object"),
    ])
}

fn number(least: f64, most: f64) -> Value {
    json!({"type": ["number", "null"], "minimum": least, "maximum": most})
}

fn count(least: u64, most: u64) -> Value {
    json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
}

/// What both kinds of requests take.
fn common() -> Map<String, Value> {
    let fields = json!({
        "model": {"type": ["string", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"], "properties": {
            "include_usage": {"type": "boolean"},
            "include_progress": {"type": "boolean"},
        }},
        "n": count(1, 128),
        "seed": {"type": ["integer", "null"], "minimum": i64::MIN, "maximum": i64::MAX},
        "stop": {"oneOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "maxItems": 64, "items": {"type": "string", "minLength": 1}},
            {"type": "null"},
        ]},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 1e6},
        "top_p": number(0.0, 1.0),
        "top_k": {"type": ["integer", "null"], "minimum": -1, "maximum": 1_000_000},
        "min_p": number(0.0, 1.0),
        "repetition_penalty": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e6},
        "presence_penalty": number(-2.0, 2.0),
        "frequency_penalty": number(-2.0, 2.0),
        "logit_bias": {
            "type": ["object", "null"],
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        "max_tokens": count(1, 1_000_000_000),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn chat_fields() -> Value {
    json!({
        "messages": {"type": "array", "minItems": 1, "items": reference("Message")},
        "max_completion_tokens": count(1, 1_000_000_000),
        "logprobs": {"type": ["boolean", "null"]},
        "top_logprobs": count(0, 20),
        "tools": {"type": ["array", "null"], "items": {
            "type": "object",
            "required": ["type", "function"],
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": ["string", "null"]},
                        "parameters": {"type": ["object", "null"]},
                    },
                },
            },
        }},
        "tool_choice": {"oneOf": [
            {"enum": ["auto", "none", "required", null]},
            {
                "type": "object",
                "required": ["type", "function"],
                "properties": {
                    "type": {"const": "function"},
                    "function": object(&[("name", "string")]),
                },
            },
        ]},
        "parallel_tool_calls": {"type": ["boolean", "null"]},
        "chat_template_kwargs": {"type": ["object", "null"]},
        "response_format": {"oneOf": [
            {"type": "null"},
            {"type": "object", "required": ["type"], "properties": {"type": {"const": "text"}},
             "additionalProperties": false},
        ]},
    })
}

fn completion_fields() -> Value {
    let ids = json!({"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}});
    json!({
        "prompt": {"oneOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "maxItems": 128,
             "items": {"type": "string", "minLength": 1}},
            ids,
            {"type": "array", "minItems": 1, "maxItems": 128, "items": ids},
        ]},
        "logprobs": count(0, 20),
    })
}

fn message() -> Value {
    let part = json!({
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    });
    json!({
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"oneOf": [
                {"type": "string"},
                {"type": "array", "items": part},
                {"type": "null"},
            ]},
            "name": {"type": ["string", "null"]},
            "tool_call_id": {"type": ["string", "null"]},
            "reasoning_content": {"type": ["string", "null"]},
        },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::serve::routes::routes;

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let mut told: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let mut there: Vec<String> = routes()
            .into_iter()
            .map(|(path, _)| path.to_owned())
            .collect();
        told.sort();
        there.sort();
        assert_eq!(told, there.iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let text = document.to_string();
        let references = text.split("#/components/schemas/").skip(1);
        let names: Vec<&str> = references
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(schemas[name].is_object(), "{name}");
        }
    }
}

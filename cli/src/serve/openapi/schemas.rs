//! What requests and responses of `/openapi.json` look like: the fields that every client may rely on,
//! and their ranges. It knows no path.

use serde_json::{Map, Value, json};

pub fn reference(schema: &str) -> Value {
    match schema {
        "Any" => json!({"type": "object"}),
        schema => json!({"$ref": format!("#/components/schemas/{schema}")}),
    }
}

pub fn schemas() -> Value {
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
        "ResponsesRequest": {"type": "object", "required": ["input"], "properties": {
            "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
            "instructions": {"type": ["string", "null"]},
            "max_output_tokens": count(1, 1_000_000_000),
            "stream": {"type": ["boolean", "null"]},
            "temperature": number(0.0, 1e6),
            "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        }},
        "MessagesRequest": {
            "type": "object",
            "required": ["messages", "max_tokens"],
            "properties": messages_fields(),
        },
        "CountRequest": {
            "type": "object",
            "required": ["messages"],
            "properties": messages_fields(),
        },
        "Count": object(&[("input_tokens", "integer")]),
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
        "Completion": completion_answer(),
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
        "ignore_eos": {"type": ["boolean", "null"]},
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
                        "strict": {"type": ["boolean", "null"]},
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
            {"type": "object", "required": ["type"], "properties": {
                "type": {"enum": ["text", "json_object", "json_schema"]},
                "json_schema": {"type": "object", "properties": {
                    "name": {"type": "string"},
                    "schema": {"type": "object"},
                    "strict": {"type": ["boolean", "null"]},
                }},
            }},
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
        "return_token_ids": {"type": ["boolean", "null"]},
    })
}

/// The ids are there where `return_token_ids` asked for them.
fn completion_answer() -> Value {
    let ids = json!({"type": "array", "items": {"type": "integer", "minimum": 0}});
    let mut answer = answer();
    answer["properties"]["choices"]["items"] = json!({
        "type": "object",
        "required": ["index", "text", "finish_reason"],
        "properties": {
            "index": {"type": "integer"},
            "text": {"type": "string"},
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": {"type": ["string", "null"]},
            "prompt_token_ids": ids,
            "token_ids": ids,
        },
    });
    answer
}

/// Of the messages API.
fn messages_fields() -> Value {
    let blocks = json!({"oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "object"}},
    ]});
    json!({
        "model": {"type": "string"},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
        "messages": {"type": "array", "minItems": 1, "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"enum": ["user", "assistant"]}, "content": blocks},
        }},
        "system": blocks,
        "stop_sequences": {"type": "array", "items": {"type": "string"}},
        "stream": {"type": "boolean"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "tools": {"type": "array", "items": {"type": "object"}},
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

//! An item of an answer while it grows: reasoning, a message, a call. What it looks like when it
//! begins, in each of its events, and when it is done.

use serde_json::{Value, json};

use super::input::SEAL;

/// What an item is about, with what there is of it.
#[derive(Debug, Clone)]
pub enum Item {
    Reasoning {
        text: String,
        sealed: bool,
    },
    Message {
        text: String,
        logprobs: Vec<Value>,
    },
    Call {
        index: usize,
        call: String,
        name: String,
        arguments: String,
    },
}

/// Names of the events in which an item grows and ends.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    pub delta: &'static str,
    pub done: &'static str,
}

impl Item {
    pub fn prefix(&self) -> &'static str {
        match self {
            Self::Reasoning { .. } => "rs",
            Self::Message { .. } => "msg",
            Self::Call { .. } => "fc",
        }
    }

    pub fn names(&self) -> Names {
        let (delta, done) = match self {
            Self::Reasoning { .. } => (
                "response.reasoning_text.delta",
                "response.reasoning_text.done",
            ),
            Self::Message { .. } => ("response.output_text.delta", "response.output_text.done"),
            Self::Call { .. } => (
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
            ),
        };
        Names { delta, done }
    }

    /// Whether its text is a part of a list, with events of its own.
    pub fn has_parts(&self) -> bool {
        !matches!(self, Self::Call { .. })
    }

    /// As it is before anything is in it.
    pub fn begun(&self, id: &str) -> Value {
        match self {
            Self::Reasoning { .. } => json!({
                "id": id, "type": "reasoning", "status": "in_progress", "summary": [],
                "content": [],
            }),
            Self::Message { .. } => json!({
                "id": id, "type": "message", "status": "in_progress", "role": "assistant",
                "content": [],
            }),
            Self::Call { call, name, .. } => json!({
                "id": id, "type": "function_call", "status": "in_progress", "call_id": call,
                "name": name, "arguments": "",
            }),
        }
    }

    /// Its part, empty or with all of its text.
    pub fn part(&self, empty: bool) -> Value {
        let own = |text: &String| if empty { String::new() } else { text.clone() };
        match self {
            Self::Reasoning { text, .. } => json!({"type": "reasoning_text", "text": own(text)}),
            Self::Message { text, logprobs } => {
                let logprobs = if empty { &[][..] } else { logprobs };
                json!({
                    "type": "output_text", "text": own(text), "annotations": [],
                    "logprobs": logprobs,
                })
            }
            Self::Call { .. } => Value::Null,
        }
    }

    /// The fields of the event that ends its text.
    pub fn done_fields(&self) -> Value {
        match self {
            Self::Reasoning { text, .. } => json!({"text": text}),
            Self::Message { text, logprobs } => {
                json!({"text": text, "logprobs": without_bytes(logprobs)})
            }
            Self::Call {
                name, arguments, ..
            } => json!({"name": name, "arguments": arguments}),
        }
    }

    /// As it is at its end, whole or not.
    pub fn done(&self, id: &str, status: &str) -> Value {
        match self {
            Self::Reasoning { text, sealed } => {
                let mut item = json!({
                    "id": id, "type": "reasoning", "status": status, "summary": [],
                    "content": [self.part(false)],
                });
                if *sealed {
                    item["encrypted_content"] = json!(format!("{SEAL}{text}"));
                }
                item
            }
            Self::Message { .. } => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": [self.part(false)],
            }),
            Self::Call {
                call,
                name,
                arguments,
                ..
            } => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call,
                "name": name, "arguments": arguments,
            }),
        }
    }
}

/// Likelihoods as events have them: the bytes are in the item alone.
pub fn without_bytes(logprobs: &[Value]) -> Value {
    let bare = |entry: &Value| json!({"token": entry["token"], "logprob": entry["logprob"]});
    let whole = |entry: &Value| {
        let tops = entry["top_logprobs"].as_array().into_iter().flatten();
        let mut told = bare(entry);
        told["top_logprobs"] = tops.map(bare).collect();
        told
    };
    logprobs.iter().map(whole).collect()
}

//! Conversations in the one form that chat templates read: texts joined, system messages at the
//! front, calls with their arguments as objects, nothing that is null. Each API brings its messages
//! here, and what it calls things is its own matter.

pub mod chat;
pub mod parts;

use serde_json::{Map, Value, json};

use super::{refuse, tools};
use crate::serve::ask::{Conversation, Refusal};

/// Between the texts of one message.
const PARTS: &str = "\n";
/// Between messages that become one.
const MESSAGES: &str = "\n\n";

/// A conversation while its messages are read.
#[derive(Debug, Default)]
pub struct Draft {
    system: Vec<String>,
    turns: Vec<Turn>,
}

#[derive(Debug)]
enum Turn {
    User {
        text: String,
        name: Option<String>,
    },
    Assistant(Assistant),
    Tool {
        call: String,
        name: Option<String>,
        text: String,
    },
}

/// What an assistant said in one turn.
#[derive(Debug, Default)]
pub struct Assistant {
    text: Option<String>,
    reasoning: Option<String>,
    calls: Vec<Value>,
    name: Option<String>,
}

impl Draft {
    /// Instructions, wherever they stood: templates take one system message, and at the front.
    pub fn system(&mut self, text: String) {
        if !text.is_empty() {
            self.system.push(text);
        }
    }

    pub fn user(&mut self, text: String, name: Option<String>) {
        self.turns.push(Turn::User { text, name });
    }

    /// The same, as a part of the message before it if that is a user's too: many templates refuse
    /// two in a row.
    pub fn user_going_on(&mut self, more: String) {
        match self.turns.last_mut() {
            Some(Turn::User { text, .. }) => append(text, MESSAGES, &more),
            _ => self.user(more, None),
        }
    }

    pub fn assistant(&mut self, said: Assistant) {
        self.turns.push(Turn::Assistant(said));
    }

    /// The same, as a part of the message before it if that is the assistant's too.
    pub fn assistant_going_on(&mut self, more: Assistant) {
        match self.turns.last_mut() {
            Some(Turn::Assistant(said)) => said.go_on(more),
            _ => self.assistant(more),
        }
    }

    /// What a call gave. Its function's name is looked up: many templates print it.
    pub fn tool(&mut self, call: String, name: Option<String>, text: String) {
        let name = name.or_else(|| self.name_of(&call));
        self.turns.push(Turn::Tool { call, name, text });
    }

    fn name_of(&self, id: &str) -> Option<String> {
        let calls = self.turns.iter().rev().filter_map(|turn| match turn {
            Turn::Assistant(assistant) => Some(&assistant.calls),
            _ => None,
        });
        let call = calls.flatten().find(|call| call["id"] == id)?;
        call["function"]["name"].as_str().map(str::to_owned)
    }

    /// Whether the assistant's words are the last, and no call is.
    pub fn ends_with_assistants_text(&self) -> bool {
        match self.turns.last() {
            Some(Turn::Assistant(said)) => said.calls.is_empty() && said.text.is_some(),
            _ => false,
        }
    }

    /// Whether calls are the last, with nothing that they gave.
    pub fn ends_with_calls(&self) -> bool {
        match self.turns.last() {
            Some(Turn::Assistant(said)) => !said.calls.is_empty(),
            _ => false,
        }
    }

    /// `field`: where the messages were.
    pub fn finish(self, tools: Vec<Value>, field: &str) -> Result<Conversation, Refusal> {
        let mut messages = Vec::with_capacity(self.turns.len() + 1);
        if !self.system.is_empty() {
            let text = self.system.join(MESSAGES);
            messages.push(json!({"role": "system", "content": text}));
        }
        messages.extend(self.turns.into_iter().map(Turn::message));
        if messages.is_empty() {
            let message = format!("`{field}` has no message: there is nothing to answer.");
            return Err(refuse::invalid(field, message));
        }
        Ok(Conversation {
            messages,
            tools,
            parallel_calls: true,
            ..Conversation::default()
        })
    }
}

impl Assistant {
    pub fn say(&mut self, text: &str) {
        add(&mut self.text, text);
    }

    pub fn think(&mut self, text: &str) {
        if !text.is_empty() {
            add(&mut self.reasoning, text);
        }
    }

    pub fn named(&mut self, name: Option<String>) {
        self.name = name;
    }

    pub fn call(&mut self, id: &str, name: &str, arguments: Value) {
        self.calls.push(tools::call(id, name, arguments));
    }

    pub fn says_nothing(&self) -> bool {
        self.text.is_none()
    }

    fn go_on(&mut self, more: Self) {
        if let Some(text) = more.text {
            self.say(&text);
        }
        if let Some(text) = more.reasoning {
            self.think(&text);
        }
        self.calls.extend(more.calls);
    }
}

impl Turn {
    fn message(self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        match self {
            Self::User { text, name } => {
                put("role", json!("user"));
                put("content", json!(text));
                if let Some(name) = name {
                    put("name", json!(name));
                }
            }
            Self::Assistant(said) => {
                put("role", json!("assistant"));
                put("content", json!(said.text.unwrap_or_default()));
                if let Some(reasoning) = said.reasoning {
                    put("reasoning_content", json!(reasoning));
                }
                if !said.calls.is_empty() {
                    put("tool_calls", json!(said.calls));
                }
                if let Some(name) = said.name {
                    put("name", json!(name));
                }
            }
            Self::Tool { call, name, text } => {
                put("role", json!("tool"));
                put("content", json!(text));
                put("tool_call_id", json!(call));
                if let Some(name) = name {
                    put("name", json!(name));
                }
            }
        }
        Value::Object(fields)
    }
}

fn add(place: &mut Option<String>, text: &str) {
    match place {
        Some(before) => append(before, PARTS, text),
        None => *place = Some(text.to_owned()),
    }
}

fn append(text: &mut String, between: &str, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str(between);
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests;

//! An answer of the messages API, as it comes: every piece becomes events, and all of them together
//! the message. The same value serves both, so that a stream says what a client gets that waits.

use serde_json::{Value, json};

use super::request::Shape;
use crate::serve::api::events::Event;
use crate::serve::api::{errors, usage};
use crate::serve::ask::{Finish, Piece, Refusal};

/// Clients want a signature with what was thought, and send it back. Nothing is signed here.
const SIGNATURE: &str = "unsigned";

#[derive(Debug, Clone)]
pub struct Answer {
    shape: Shape,
    id: String,
    peak_gbps: Option<f64>,
    started: bool,
    ended: bool,
    /// Blocks that are done.
    content: Vec<Value>,
    open: Option<Block>,
    called: bool,
    stop_reason: Value,
    stop_sequence: Value,
    usage: Value,
}

#[derive(Debug, Clone)]
enum Block {
    Thinking(String),
    Text(String),
    Call {
        index: usize,
        id: String,
        name: String,
        input: String,
    },
}

impl Answer {
    /// `peak_gbps`: what the link reaches alone.
    pub fn new(shape: Shape, id: impl Into<String>, peak_gbps: Option<f64>) -> Self {
        Self {
            shape,
            id: id.into(),
            peak_gbps,
            started: false,
            ended: false,
            content: Vec::new(),
            open: None,
            called: false,
            stop_reason: Value::Null,
            stop_sequence: Value::Null,
            usage: usage_so_far(0, 0),
        }
    }

    /// Tells that it has begun, as the first piece does otherwise. What the prompt has of tokens is
    /// told here if it is known, and at the end in any case.
    pub fn start(&mut self, events: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            let message = self.message();
            tell("message_start", json!({"message": message}), events);
        }
    }

    pub fn piece(&mut self, piece: Piece, events: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        // The first that is told of the prompt is what was there already.
        if let (false, Piece::Prompt { read, of }) = (self.started, &piece) {
            let cached = if read < of { *read } else { 0 };
            self.usage = usage_so_far(of.saturating_sub(cached), cached);
        }
        self.start(events);
        match piece {
            Piece::Prompt { read, of } => {
                let progress = json!({"prompt": {"read": read, "of": of}});
                tell("ping", json!({"engine": progress}), events);
            }
            Piece::Reasoning(more) => self.thinking(&more, events),
            Piece::Text(more) => self.text(&more, events),
            Piece::Call { index, id, name } => {
                self.called = true;
                let input = String::new();
                self.open(
                    Block::Call {
                        index,
                        id,
                        name,
                        input,
                    },
                    events,
                );
            }
            Piece::Arguments { index, json } => self.input(index, &json, events),
            // This API has no place for it.
            Piece::Likely(_) | Piece::Tokens(_) => {}
            Piece::End(finish, account) => {
                self.close(events);
                self.usage = usage::of_messages(&account, self.peak_gbps);
                self.end(finish, events);
            }
        }
    }

    /// It ends without being whole.
    pub fn fail(&mut self, refusal: &Refusal, events: &mut Vec<Event>) {
        if !self.ended {
            self.ended = true;
            let data = errors::of_anthropic(refusal);
            events.push(Event {
                name: Some("error"),
                data,
            });
        }
    }

    /// All of it, for a client that waits.
    pub fn whole(self) -> Value {
        self.message()
    }

    fn thinking(&mut self, more: &str, events: &mut Vec<Event>) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Block::Thinking(_))) {
            self.open(Block::Thinking(String::new()), events);
        }
        if let Some(Block::Thinking(text)) = &mut self.open {
            text.push_str(more);
            self.delta(json!({"type": "thinking_delta", "thinking": more}), events);
        }
    }

    fn text(&mut self, more: &str, events: &mut Vec<Event>) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Block::Text(_))) {
            self.open(Block::Text(String::new()), events);
        }
        if let Some(Block::Text(text)) = &mut self.open {
            text.push_str(more);
            self.delta(json!({"type": "text_delta", "text": more}), events);
        }
    }

    /// Arguments come while their call is the last thing that came.
    fn input(&mut self, of: usize, more: &str, events: &mut Vec<Event>) {
        if let Some(Block::Call { index, input, .. }) = &mut self.open
            && *index == of
            && !more.is_empty()
        {
            input.push_str(more);
            self.delta(
                json!({"type": "input_json_delta", "partial_json": more}),
                events,
            );
        }
    }

    fn end(&mut self, finish: Finish, events: &mut Vec<Event>) {
        self.ended = true;
        let reason = match finish {
            Finish::Calls => "tool_use",
            Finish::Done if self.called => "tool_use",
            Finish::Done => "end_turn",
            Finish::Stopped(which) => {
                self.stop_sequence = json!(self.shape.stops.get(which));
                "stop_sequence"
            }
            Finish::Length => "max_tokens",
            Finish::ContextFull => "model_context_window_exceeded",
        };
        self.stop_reason = json!(reason);
        let delta = json!({"stop_reason": reason, "stop_sequence": self.stop_sequence});
        let fields = json!({"delta": delta, "usage": self.usage});
        tell("message_delta", fields, events);
        tell("message_stop", json!({}), events);
    }

    fn open(&mut self, block: Block, events: &mut Vec<Event>) {
        self.close(events);
        let begun = match &block {
            Block::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text(_) => json!({"type": "text", "text": ""}),
            Block::Call { id, name, .. } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        };
        let fields = json!({"index": self.content.len(), "content_block": begun});
        tell("content_block_start", fields, events);
        self.open = Some(block);
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        let Some(block) = self.open.take() else {
            return;
        };
        if let Block::Thinking(_) = block {
            self.delta(
                json!({"type": "signature_delta", "signature": SIGNATURE}),
                events,
            );
        }
        tell(
            "content_block_stop",
            json!({"index": self.content.len()}),
            events,
        );
        self.content.push(block.done());
    }

    /// Of the block that is open, or was a moment ago.
    fn delta(&self, delta: Value, events: &mut Vec<Event>) {
        let fields = json!({"index": self.content.len(), "delta": delta});
        tell("content_block_delta", fields, events);
    }

    fn message(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.shape.model.as_deref().unwrap_or_default(),
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage,
        })
    }
}

impl Block {
    fn done(self) -> Value {
        match self {
            Self::Thinking(text) => {
                json!({"type": "thinking", "thinking": text, "signature": SIGNATURE})
            }
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::Call {
                id, name, input, ..
            } => match serde_json::from_str(&input) {
                Ok(Value::Object(input)) => {
                    json!({"type": "tool_use", "id": id, "name": name, "input": input})
                }
                _ if input.trim().is_empty() => {
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}})
                }
                // Cut off: no object can hold it, and it is not lost.
                _ => json!({"type": "text", "text": input}),
            },
        }
    }
}

fn usage_so_far(input: usize, cached: usize) -> Value {
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": 0,
    })
}

fn tell(kind: &'static str, fields: Value, events: &mut Vec<Event>) {
    let mut data = json!({"type": kind});
    if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
        data.extend(fields);
    }
    events.push(Event {
        name: Some(kind),
        data,
    });
}

//! An answer of the responses API, as it comes: every piece becomes events, and all of them
//! together the response. The same value serves both, so that a stream ends with what a client gets
//! that waits.

use serde_json::{Map, Value, json};

use super::items::{Item, without_bytes};
use super::request::Shape;
use crate::serve::api::errors::openai_code;
use crate::serve::api::events::{Event, likely};
use crate::serve::api::usage;
use crate::serve::ask::{Finish, Piece, Refusal, RefusalKind};

/// Progress of a prompt is told about so often: each time repeats the request's tools.
const PROGRESS_STEPS: usize = 20;

#[derive(Debug, Clone)]
pub struct Answer {
    shape: Shape,
    id: String,
    created: u64,
    peak_gbps: Option<f64>,
    sequence: u64,
    /// Tokens of the prompt from which on its progress is told again.
    tell_progress: usize,
    started: bool,
    /// Items that are done.
    output: Vec<Value>,
    open: Option<Item>,
    /// Likelihoods of tokens whose text comes next.
    likely: Vec<Value>,
    status: &'static str,
    /// Known at the end.
    usage: Value,
    error: Value,
}

impl Answer {
    /// `created`: seconds since 1970. `peak_gbps`: what the link reaches alone.
    pub fn new(shape: Shape, id: impl Into<String>, created: u64, peak_gbps: Option<f64>) -> Self {
        Self {
            shape,
            id: id.into(),
            created,
            peak_gbps,
            sequence: 0,
            tell_progress: 0,
            started: false,
            output: Vec::new(),
            open: None,
            likely: Vec::new(),
            status: "in_progress",
            usage: Value::Null,
            error: Value::Null,
        }
    }

    /// Tells that it has begun, as the first piece does otherwise.
    pub fn start(&mut self, events: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            for kind in ["response.created", "response.in_progress"] {
                self.tell_response(kind, events);
            }
        }
    }

    pub fn piece(&mut self, piece: Piece, events: &mut Vec<Event>) {
        self.start(events);
        if self.status != "in_progress" {
            return;
        }
        match piece {
            Piece::Prompt { read, of } => self.prompt(read, of, events),
            Piece::Reasoning(text) => self.reasoning(&text, events),
            Piece::Text(text) => self.text(&text, events),
            Piece::Call { index, id, name } => {
                self.close("completed", events);
                let (call, arguments) = (id, String::new());
                self.open(
                    Item::Call {
                        index,
                        call,
                        name,
                        arguments,
                    },
                    events,
                );
            }
            Piece::Arguments { index, json } => self.arguments(index, &json, events),
            Piece::Tokens(_) => {}
            Piece::Likely(tokens) => {
                if self.shape.logprobs {
                    self.likely.extend(tokens.iter().map(likely));
                }
            }
            Piece::End(finish, account) => {
                self.usage = usage::of_responses(&account, self.peak_gbps);
                self.end(finish, events);
            }
        }
    }

    /// It ends without being whole: what there is of it stays.
    pub fn fail(&mut self, refusal: &Refusal, events: &mut Vec<Event>) {
        self.start(events);
        if self.status != "in_progress" {
            return;
        }
        if let Some(item) = self.open.take() {
            let id = self.item_id(&item);
            self.output.push(item.done(&id, "incomplete"));
        }
        let code = match refusal.kind {
            RefusalKind::Invalid | RefusalKind::Unsupported => "invalid_prompt",
            kind => openai_code(kind).unwrap_or("server_error"),
        };
        self.status = "failed";
        self.error = json!({"code": code, "message": refusal.message});
        self.tell_response("response.failed", events);
    }

    /// All of it, for a client that waits.
    pub fn whole(self) -> Value {
        self.response()
    }

    /// How far the prompt is read, beside an event that changes nothing.
    fn prompt(&mut self, read: usize, of: usize, events: &mut Vec<Event>) {
        if read < of && read >= self.tell_progress {
            self.tell_progress = read + (of / PROGRESS_STEPS).max(1);
            let progress = json!({"prompt": {"read": read, "of": of}});
            let fields = json!({"response": self.response(), "engine": progress});
            self.tell("response.in_progress", fields, events);
        }
    }

    fn reasoning(&mut self, more: &str, events: &mut Vec<Event>) {
        self.likely.clear();
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Item::Reasoning { .. })) {
            self.close("completed", events);
            let sealed = self.shape.sealed;
            self.open(
                Item::Reasoning {
                    text: String::new(),
                    sealed,
                },
                events,
            );
        }
        if let Some(Item::Reasoning { text, .. }) = &mut self.open {
            text.push_str(more);
        }
        self.delta(more, Map::new(), events);
    }

    fn text(&mut self, more: &str, events: &mut Vec<Event>) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Item::Message { .. })) {
            // They belong to this text, not to the item before it.
            let likely = std::mem::take(&mut self.likely);
            self.close("completed", events);
            let logprobs = Vec::new();
            self.open(
                Item::Message {
                    text: String::new(),
                    logprobs,
                },
                events,
            );
            self.likely = likely;
        }
        let likely = std::mem::take(&mut self.likely);
        if let Some(Item::Message { text, logprobs }) = &mut self.open {
            text.push_str(more);
            logprobs.extend(likely.iter().cloned());
        }
        let fields = Map::from_iter([("logprobs".to_owned(), without_bytes(&likely))]);
        self.delta(more, fields, events);
    }

    /// Arguments come while their call is the last thing that came.
    fn arguments(&mut self, of: usize, more: &str, events: &mut Vec<Event>) {
        self.likely.clear();
        let mut is_open = false;
        if let Some(Item::Call {
            index, arguments, ..
        }) = &mut self.open
            && *index == of
            && !more.is_empty()
        {
            is_open = true;
            arguments.push_str(more);
        }
        if is_open {
            self.delta(more, Map::new(), events);
        }
    }

    fn end(&mut self, finish: Finish, events: &mut Vec<Event>) {
        let (status, kind) = match finish {
            Finish::Done | Finish::Stopped(_) | Finish::Calls => {
                ("completed", "response.completed")
            }
            Finish::Length | Finish::ContextFull => ("incomplete", "response.incomplete"),
        };
        self.close(status, events);
        self.status = status;
        self.tell_response(kind, events);
    }

    fn open(&mut self, item: Item, events: &mut Vec<Event>) {
        let id = self.item_id(&item);
        let at = self.output.len();
        let fields = json!({"output_index": at, "item": item.begun(&id)});
        self.tell("response.output_item.added", fields, events);
        if item.has_parts() {
            let part = item.part(true);
            let fields =
                json!({"item_id": id, "output_index": at, "content_index": 0, "part": part});
            self.tell("response.content_part.added", fields, events);
        }
        self.open = Some(item);
    }

    /// Ends the item that is open, if one is.
    fn close(&mut self, status: &str, events: &mut Vec<Event>) {
        self.no_arguments(status, events);
        let likely = std::mem::take(&mut self.likely);
        let Some(mut item) = self.open.take() else {
            return;
        };
        if let Item::Message { logprobs, .. } = &mut item {
            logprobs.extend(likely);
        }
        let id = self.item_id(&item);
        let at = self.output.len();
        let mut fields = self.place(&item);
        if let Value::Object(own) = item.done_fields() {
            fields.extend(own);
        }
        self.tell(item.names().done, fields.into(), events);
        if item.has_parts() {
            let mut fields = self.place(&item);
            fields.insert("part".to_owned(), item.part(false));
            self.tell("response.content_part.done", fields.into(), events);
        }
        let done = item.done(&id, status);
        let fields = json!({"output_index": at, "item": done});
        self.tell("response.output_item.done", fields, events);
        self.output.push(done);
    }

    /// A call without a word of arguments has none: that is JSON as well.
    fn no_arguments(&mut self, status: &str, events: &mut Vec<Event>) {
        if let Some(Item::Call {
            index, arguments, ..
        }) = &self.open
            && arguments.trim().is_empty()
            && status == "completed"
        {
            let index = *index;
            self.arguments(index, "{}", events);
        }
    }

    fn delta(&mut self, text: &str, more: Map<String, Value>, events: &mut Vec<Event>) {
        let Some(item) = &self.open else {
            return;
        };
        let name = item.names().delta;
        let mut fields = self.place(item);
        fields.insert("delta".to_owned(), json!(text));
        fields.extend(more);
        self.tell(name, fields.into(), events);
    }

    /// Where the item stands that is open.
    fn place(&self, item: &Item) -> Map<String, Value> {
        let mut place = Map::new();
        place.insert("item_id".to_owned(), json!(self.item_id(item)));
        place.insert("output_index".to_owned(), json!(self.output.len()));
        if item.has_parts() {
            place.insert("content_index".to_owned(), json!(0));
        }
        place
    }

    fn item_id(&self, item: &Item) -> String {
        let own = self.id.strip_prefix("resp_").unwrap_or(&self.id);
        format!("{}_{own}_{}", item.prefix(), self.output.len())
    }

    fn tell_response(&mut self, kind: &'static str, events: &mut Vec<Event>) {
        let response = self.response();
        self.tell(kind, json!({"response": response}), events);
    }

    fn tell(&mut self, kind: &'static str, fields: Value, events: &mut Vec<Event>) {
        let mut data = json!({"type": kind, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
            data.extend(fields);
        }
        events.push(Event {
            name: Some(kind),
            data,
        });
    }

    fn response(&self) -> Value {
        let incomplete = match self.status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status,
            "background": false,
            "error": self.error,
            "incomplete_details": incomplete,
            "model": self.shape.model.as_deref().unwrap_or_default(),
            "output": self.output,
            "previous_response_id": null,
            "truncation": "disabled",
            "metadata": {},
        });
        if let Value::Object(fields) = &mut response {
            fields.extend(self.shape.repeated.clone());
            fields.insert("usage".to_owned(), self.usage.clone());
        }
        response
    }
}

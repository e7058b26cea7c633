//! `/v1/chat/completions`.

use engine::Account;
use serde_json::{Value, json};

use super::usage::usage;
use super::{Asked, Envelope, StreamOptions, conversation, finish_reason, logprob, request};
use crate::serve::answer::{Called, Whole};
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::refuse;
use crate::serve::ask::{Input, Likely, Piece, Refusal};
use crate::serve::failure::{self, Form};
use crate::serve::sse::{Events, Writer};

/// What is told of a token's rivals at the most.
const TOP_MOST: u64 = 20;

/// What would change an answer, and the values of it that do not.
const UNSUPPORTED: [(&str, &[&str]); 9] = [
    ("audio", &[]),
    ("function_call", &[r#""none""#, r#""auto""#]),
    ("functions", &[]),
    ("modalities", &[r#"["text"]"#]),
    ("prediction", &[]),
    ("web_search_options", &[]),
    ("grammar", &[]),
    ("guided_json", &[]),
    ("json_schema", &[]),
];

pub fn read(mut fields: Fields, strict: bool) -> Result<Asked, Refusal> {
    request::refuse(&mut fields, &UNSUPPORTED)?;
    let mut notes = Notes::default();
    let stream = request::stream(&mut fields, strict, &mut notes)?;
    let conversation = conversation::read(&mut fields, &mut notes)?;
    let mut ask = request::ask(&mut fields, Input::Chat(conversation))?;
    let older = fields.count("max_tokens", 1..=u64::MAX)?;
    let newer = fields.count("max_completion_tokens", 1..=u64::MAX)?;
    ask.max_tokens = newer.or(older);
    ask.logprobs = logprobs(&mut fields)?;
    fields.finish(&request::HINTS, strict, &mut notes)?;
    Ok(Asked {
        asks: vec![ask],
        stream,
        notes,
    })
}

fn logprobs(fields: &mut Fields) -> Result<Option<usize>, Refusal> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match (wanted, fields.count("top_logprobs", 0..=TOP_MOST)?) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            let message = "`top_logprobs` needs `logprobs` to be true";
            Err(refuse::invalid("top_logprobs", message))
        }
    }
}

/// The response to one that is not streamed.
pub fn whole(envelope: &Envelope, wholes: Vec<Whole>) -> Value {
    let ends = wholes.iter().filter_map(|whole| whole.end);
    let accounts: Vec<Account> = ends.map(|(_, account)| account).collect();
    let choices = wholes.into_iter().enumerate().map(|(index, whole)| {
        let finish = whole.end.map(|(finish, _)| finish_reason(finish));
        let logprobs = (!whole.likely.is_empty()).then(|| logprobs_of(&whole.likely));
        json!({
            "index": index,
            "message": message(whole),
            "logprobs": logprobs,
            "finish_reason": finish,
        })
    });
    let mut response = envelope.of("chat.completion", choices.collect());
    response["usage"] = usage(envelope, &accounts);
    response
}

fn message(whole: Whole) -> Value {
    let only_calls = whole.text.is_empty() && !whole.calls.is_empty();
    let mut message = json!({
        "role": "assistant",
        "content": (!only_calls).then_some(whole.text),
        "refusal": null,
    });
    if !whole.reasoning.is_empty() {
        message["reasoning_content"] = whole.reasoning.into();
    }
    if !whole.calls.is_empty() {
        let call = |call: Called| {
            json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        };
        message["tool_calls"] = whole.calls.into_iter().map(call).collect();
    }
    message
}

fn logprobs_of(likely: &[Likely]) -> Value {
    let one = |bytes: &[u8], found: f32| {
        json!({
            "token": String::from_utf8_lossy(bytes),
            "logprob": logprob(found),
            "bytes": bytes,
        })
    };
    let token = |likely: &Likely| {
        let mut told = one(&likely.bytes, likely.logprobs.chosen.logprob);
        let top = likely.logprobs.top.iter().zip(&likely.top_bytes);
        told["top_logprobs"] = top
            .map(|(found, bytes)| one(bytes, found.logprob))
            .collect();
        told
    };
    let content: Vec<Value> = likely.iter().map(token).collect();
    json!({"content": content, "refusal": null})
}

/// The events of one that is streamed.
#[derive(Debug)]
pub struct Chunks {
    envelope: Envelope,
    options: StreamOptions,
    accounts: Vec<Account>,
}

impl Chunks {
    pub fn new(envelope: Envelope, options: StreamOptions, answers: usize) -> Self {
        Self {
            envelope,
            options,
            accounts: vec![Account::default(); answers],
        }
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = self.envelope.of("chat.completion.chunk", choices);
        if self.options.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn choice(&self, index: usize, delta: Value, likely: Option<Vec<Likely>>) -> Value {
        self.chunk(vec![json!({
            "index": index,
            "delta": delta,
            "logprobs": likely.map(|likely| logprobs_of(&likely)),
            "finish_reason": null,
        })])
    }

    fn progress(&self, read: usize, of: usize) -> Value {
        let mut chunk = self.chunk(Vec::new());
        chunk["engine"] = json!({"prompt": {"read": read, "of": of}});
        chunk
    }
}

impl Writer for Chunks {
    fn begin(&mut self, out: &mut Events) {
        for index in 0..self.accounts.len() {
            let delta = json!({"role": "assistant", "content": ""});
            out.data(self.choice(index, delta, None));
        }
    }

    fn pieces(&mut self, index: usize, pieces: Vec<Piece>, out: &mut Events) {
        let mut likely: Option<Vec<Likely>> = None;
        for piece in pieces {
            let delta = match piece {
                Piece::Prompt { read, of } => {
                    if self.options.progress {
                        out.data(self.progress(read, of));
                    }
                    continue;
                }
                Piece::Tokens(_) => continue,
                Piece::Likely(more) => {
                    likely.get_or_insert_default().extend(more);
                    continue;
                }
                Piece::Reasoning(text) => json!({"reasoning_content": text}),
                Piece::Text(text) => json!({"content": text}),
                Piece::Call { index, id, name } => json!({"tool_calls": [{
                    "index": index,
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]}),
                Piece::Arguments { index, json } => json!({"tool_calls": [{
                    "index": index,
                    "function": {"arguments": json},
                }]}),
                Piece::End(finish, account) => {
                    self.accounts[index] = account;
                    out.data(self.chunk(vec![json!({
                        "index": index,
                        "delta": {},
                        "logprobs": likely.take().map(|likely| logprobs_of(&likely)),
                        "finish_reason": finish_reason(finish),
                    })]));
                    continue;
                }
            };
            out.data(self.choice(index, delta, likely.take()));
        }
        // Of a token whose text is held back.
        if let Some(likely) = likely {
            out.data(self.choice(index, json!({}), Some(likely)));
        }
    }

    fn end(&mut self, out: &mut Events) {
        if self.options.usage {
            let mut chunk = self.chunk(Vec::new());
            chunk["usage"] = usage(&self.envelope, &self.accounts);
            out.data(chunk);
        }
        out.data("[DONE]");
    }

    fn refusal(&mut self, refusal: &Refusal, out: &mut Events) {
        out.data(failure::body(refusal, Form::OpenAi));
    }
}

//! `/v1/chat/completions`.

use engine::Account;
use serde_json::{Map, Value, json};

use super::fields::{Fields, Known, Unsupported, invalid};
use super::usage::usage;
use super::{Asked, Envelope, StreamOptions, conversation, finish_reason, logprob, request};
use crate::serve::answer::{Called, Whole};
use crate::serve::api::notes::Notes;
use crate::serve::ask::{Input, Likely, Piece, Refusal};
use crate::serve::failure::{self, Form};
use crate::serve::sse::{Events, Writer};

/// What is told of a token's rivals at the most.
const TOP_MOST: u64 = 20;

pub const KNOWN: Known = Known {
    fields: &[
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "frequency_penalty",
        "ignore_eos",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "min_p",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
    ],
    unsupported: &[
        fine("audio", &[]),
        fine("function_call", &[r#""none""#, r#""auto""#]),
        fine("functions", &[]),
        fine("modalities", &[r#"["text"]"#]),
        fine("prediction", &[]),
        fine("response_format", &[r#"{"type":"text"}"#]),
        fine("web_search_options", &[]),
        fine("grammar", &[]),
        fine("guided_json", &[]),
        fine("json_schema", &[]),
    ],
};

const fn fine(name: &'static str, fine: &'static [&'static str]) -> Unsupported {
    Unsupported { name, fine }
}

pub fn read(object: &Map<String, Value>, strict: bool) -> Result<Asked, Refusal> {
    let mut ignored = KNOWN.check(object, strict)?;
    let fields = Fields(object);
    let stream = request::stream(object, strict, &mut ignored)?;
    let mut notes = Notes::default();
    let conversation = conversation::read(fields, &mut notes)?;
    ignored.append(&mut notes.ignored);
    let mut ask = request::ask(fields, Input::Chat(conversation))?;
    ask.max_tokens = match fields.count("max_completion_tokens", 1..=u64::MAX)? {
        Some(most) => Some(most),
        None => fields.count("max_tokens", 1..=u64::MAX)?,
    };
    ask.logprobs = logprobs(fields)?;
    Ok(Asked {
        asks: vec![ask],
        stream,
        ignored,
        withheld: notes.withheld_header(),
    })
}

fn logprobs(fields: Fields<'_>) -> Result<Option<usize>, Refusal> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match (wanted, fields.count("top_logprobs", 0..=TOP_MOST)?) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(invalid(
            "top_logprobs",
            "`top_logprobs` needs `logprobs` to be true".to_owned(),
        )),
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

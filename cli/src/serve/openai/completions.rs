//! `/v1/completions`.

use engine::Account;
use serde_json::{Value, json};

use super::usage::usage;
use super::{Asked, Envelope, StreamOptions, finish_reason, logprob, request};
use crate::serve::answer::Whole;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::refuse;
use crate::serve::ask::{Ask, Input, Likely, Piece, Refusal};
use crate::serve::failure::{self, Form};
use crate::serve::sse::{Events, Writer};

const TOP_MOST: u64 = 20;

/// Without a length, as many tokens as clients of this API expect.
const TOKENS: usize = 16;

/// A list of prompts may have so many.
const PROMPTS_MOST: usize = 128;

/// What would change an answer, and the values of it that do not.
const UNSUPPORTED: [(&str, &[&str]); 4] = [
    ("echo", &[]),
    ("suffix", &[r#""""#]),
    ("grammar", &[]),
    ("guided_json", &[]),
];

pub fn read(mut fields: Fields, strict: bool) -> Result<Asked, Refusal> {
    request::refuse(&mut fields, &UNSUPPORTED)?;
    let mut notes = Notes::default();
    let stream = request::stream(&mut fields, strict, &mut notes)?;
    let mut inputs = inputs(&mut fields)?.into_iter();
    let first = inputs.next().ok_or_else(no_prompts)?;
    let mut ask = request::ask(&mut fields, first)?;
    let most = fields.count("max_tokens", 1..=u64::MAX)?;
    ask.max_tokens = Some(most.unwrap_or(TOKENS));
    ask.logprobs = fields.count("logprobs", 0..=TOP_MOST)?;
    ask.token_ids = fields.flag("return_token_ids")?.unwrap_or(false);
    let best = fields.count("best_of", 1..=u64::MAX)?;
    if best.is_some_and(|best| best != ask.answers) {
        let message = "`best_of` other than `n` is not supported: leave it out";
        return Err(refuse::unsupported("best_of", message));
    }
    fields.finish(&request::HINTS, strict, &mut notes)?;
    let others = inputs.map(|input| Ask {
        input,
        ..ask.clone()
    });
    let others: Vec<Ask> = others.collect();
    let asks = std::iter::once(ask).chain(others).collect();
    Ok(Asked {
        asks,
        stream,
        notes,
    })
}

/// A text, token ids, or a list of either.
fn inputs(fields: &mut Fields) -> Result<Vec<Input>, Refusal> {
    let must_be = || {
        let message = "`prompt` must be a text, a list of texts, or lists of token ids";
        refuse::invalid("prompt", message)
    };
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(must_be)
    };
    let ids = |ids: &[Value]| ids.iter().map(id).collect::<Result<Vec<_>, _>>();
    let items = match fields.take("prompt").ok_or_else(must_be)? {
        Value::String(text) => return Ok(vec![Input::Text(text)]),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            return Ok(vec![Input::Tokens(ids(&items)?)]);
        }
        Value::Array(items) => items,
        _ => return Err(must_be()),
    };
    if items.len() > PROMPTS_MOST {
        return Err(no_prompts());
    }
    let input = |item: Value| match item {
        Value::String(text) => Ok(Input::Text(text)),
        Value::Array(list) => Ok(Input::Tokens(ids(&list)?)),
        _ => Err(must_be()),
    };
    items.into_iter().map(input).collect()
}

/// Or too many.
fn no_prompts() -> Refusal {
    let message = format!("`prompt` must be a list of 1 to {PROMPTS_MOST} prompts");
    refuse::invalid("prompt", message)
}

/// The response to one that is not streamed.
pub fn whole(envelope: &Envelope, wholes: Vec<Whole>) -> Value {
    let ends = wholes.iter().filter_map(|whole| whole.end);
    let accounts: Vec<Account> = ends.map(|(_, account)| account).collect();
    let choices = wholes.into_iter().enumerate().map(|(index, whole)| {
        let finish = whole.end.map(|(finish, _)| finish_reason(finish));
        let logprobs = (!whole.likely.is_empty()).then(|| logprobs_of(&whole.likely, &mut 0));
        let mut choice = json!({
            "index": index,
            "text": whole.text,
            "logprobs": logprobs,
            "finish_reason": finish,
        });
        if let Some(prompt) = prompt_of(envelope, index) {
            choice["prompt_token_ids"] = prompt.into();
            choice["token_ids"] = whole.tokens.into();
        }
        choice
    });
    let mut response = envelope.of("text_completion", choices.collect());
    response["usage"] = usage(envelope, &accounts);
    response
}

/// The tokens of the prompt of a choice, where ids were asked for.
fn prompt_of(envelope: &Envelope, index: usize) -> Option<&[u32]> {
    let prompts = envelope.prompts.as_ref()?;
    prompts
        .get(index / envelope.answers.max(1))
        .map(Vec::as_slice)
}

/// `offset`: where the next token's text begins, in characters.
fn logprobs_of(likely: &[Likely], offset: &mut usize) -> Value {
    let mut tokens = Vec::new();
    let mut token_logprobs = Vec::new();
    let mut tops = Vec::new();
    let mut offsets = Vec::new();
    for likely in likely {
        let text = String::from_utf8_lossy(&likely.bytes).into_owned();
        let top = likely.logprobs.top.iter().zip(&likely.top_bytes);
        let top = top.map(|(found, bytes)| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            (text, Value::from(logprob(found.logprob)))
        });
        offsets.push(*offset);
        *offset += text.chars().count();
        tops.push(Value::Object(top.collect()));
        token_logprobs.push(logprob(likely.logprobs.chosen.logprob));
        tokens.push(text);
    }
    json!({
        "tokens": tokens,
        "token_logprobs": token_logprobs,
        "top_logprobs": tops,
        "text_offset": offsets,
    })
}

/// The events of one that is streamed.
#[derive(Debug)]
pub struct Chunks {
    envelope: Envelope,
    options: StreamOptions,
    accounts: Vec<Account>,
    offsets: Vec<usize>,
    /// Whose first chunk has come: with ids, it has those of the prompt as well.
    begun: Vec<bool>,
}

impl Chunks {
    pub fn new(envelope: Envelope, options: StreamOptions, answers: usize) -> Self {
        Self {
            envelope,
            options,
            accounts: vec![Account::default(); answers],
            offsets: vec![0; answers],
            begun: vec![false; answers],
        }
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = self.envelope.of("text_completion", choices);
        if self.options.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Writer for Chunks {
    fn begin(&mut self, _: &mut Events) {}

    fn pieces(&mut self, index: usize, pieces: Vec<Piece>, out: &mut Events) {
        let (mut text, mut likely, mut finish) = (String::new(), Vec::new(), None);
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Prompt { read, of } if self.options.progress => {
                    let mut chunk = self.chunk(Vec::new());
                    chunk["engine"] = json!({"prompt": {"read": read, "of": of}});
                    out.data(chunk);
                }
                Piece::Prompt { .. } | Piece::Call { .. } | Piece::Arguments { .. } => {}
                // A plain text is not split: these do not come.
                Piece::Reasoning(more) | Piece::Text(more) => text.push_str(&more),
                Piece::Likely(more) => likely.extend(more),
                Piece::Tokens(more) => tokens.extend(more),
                Piece::End(how, account) => {
                    self.accounts[index] = account;
                    finish = Some(finish_reason(how));
                }
            }
        }
        if text.is_empty() && likely.is_empty() && tokens.is_empty() && finish.is_none() {
            return;
        }
        let offset = &mut self.offsets[index];
        let logprobs = (!likely.is_empty()).then(|| logprobs_of(&likely, offset));
        let mut choice = json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish,
        });
        if let Some(prompt) = prompt_of(&self.envelope, index) {
            if !std::mem::replace(&mut self.begun[index], true) {
                choice["prompt_token_ids"] = prompt.into();
            }
            choice["token_ids"] = tokens.into();
        }
        out.data(self.chunk(vec![choice]));
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

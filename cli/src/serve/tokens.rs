//! `/tokenize` and `/detokenize`: texts and conversations to token ids and back, in the shapes that
//! clients of other servers send and read.

use serde_json::{Value, json};

use super::api::fields::Fields;
use super::api::notes::Notes;
use super::api::refuse;
use super::ask::{Input, Refusal};
use super::openai::conversation;
use super::openai::request::HINTS;
use super::server::Ready;

/// The response, and the fields without effect.
pub type Told = (Value, Notes);

/// One of the two; the flag is `--strict`.
pub type Tell = fn(&Ready, Fields, bool) -> Result<Told, Refusal>;

/// Fields of texts that say nothing beside a conversation.
const BESIDE_MESSAGES: [&str; 4] = ["add_special", "add_special_tokens", "content", "prompt"];

/// And the other way round.
const BESIDE_TEXT: [&str; 6] = [
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "parallel_tool_calls",
    "tool_choice",
    "tools",
];

pub fn tokenize(ready: &Ready, mut fields: Fields, strict: bool) -> Result<Told, Refusal> {
    let mut notes = Notes::default();
    let spells = fields.flag("return_token_strs")?.unwrap_or(false);
    let in_pieces = fields.flag("with_pieces")?.unwrap_or(false);
    let (tokens, others) = if fields.has("messages") {
        let conversation = conversation::read(&mut fields, &mut Notes::default())?;
        let prompt = ready.texts.prompt(&Input::Chat(conversation))?;
        prompt.unnamed.iter().for_each(|name| notes.ignore(name));
        (prompt.tokens, &BESIDE_MESSAGES[..])
    } else {
        (of_text(ready, &mut fields)?, &BESIDE_TEXT[..])
    };
    fields.finish(
        &[&HINTS[..], &["model"], others].concat(),
        strict,
        &mut notes,
    )?;
    let mut told = json!({
        "count": tokens.len(),
        "max_model_len": ready.texts.context,
    });
    let spelled = || -> Vec<String> {
        let tokenizer = ready.texts.tokenizer();
        let spell = |&id| tokenizer.and_then(|tokenizer| tokenizer.token(id));
        tokens
            .iter()
            .map(|id| spell(id).unwrap_or_default())
            .collect()
    };
    if spells {
        told["token_strs"] = spelled().into();
    }
    told["tokens"] = if in_pieces {
        let pieces = tokens.iter().zip(spelled());
        pieces
            .map(|(id, piece)| json!({"id": id, "piece": piece}))
            .collect()
    } else {
        tokens.into()
    };
    Ok((told, notes))
}

fn of_text(ready: &Ready, fields: &mut Fields) -> Result<Vec<u32>, Refusal> {
    let prompt = fields.text("prompt")?;
    let text = fields.text("content")?.or(prompt).ok_or_else(|| {
        let message = "`content` must be a text, or `messages` a list";
        refuse::invalid("content", message)
    })?;
    // Who says nothing has the tokens that the model's texts begin with, as a prompt has.
    let of_others = fields.flag("add_special_tokens")?;
    let special = fields.flag("add_special")?.or(of_others).unwrap_or(true);
    ready.texts.encode(&text, special)
}

pub fn detokenize(ready: &Ready, mut fields: Fields, strict: bool) -> Result<Told, Refusal> {
    const FIELD: &str = "tokens";
    let must_be = || refuse::invalid(FIELD, "`tokens` must be a list of token ids");
    let Some(Value::Array(given)) = fields.take(FIELD) else {
        return Err(must_be());
    };
    let id = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(must_be)
    };
    let ids = given.iter().map(id).collect::<Result<Vec<u32>, _>>()?;
    let mut notes = Notes::default();
    fields.finish(&[&HINTS[..], &["model"]].concat(), strict, &mut notes)?;
    ready.texts.check(&ids).map_err(|refusal| Refusal {
        field: Some(FIELD.to_owned()),
        ..refusal
    })?;
    let text = ready.texts.decode(&ids)?;
    Ok((json!({"content": text, "prompt": text}), notes))
}

//! `/tokenize` and `/detokenize`: texts and conversations to token ids and back, in the shapes that
//! clients of other servers send and read.

use serde_json::{Map, Value, json};

use super::api::notes::Notes;
use super::ask::{Input, Refusal};
use super::openai::conversation;
use super::openai::fields::{Fields, Known, wrong};
use super::server::Ready;

const TO: Known = Known {
    fields: &[
        "add_generation_prompt",
        "add_special",
        "add_special_tokens",
        "chat_template_kwargs",
        "content",
        "continue_final_message",
        "messages",
        "model",
        "parallel_tool_calls",
        "prompt",
        "return_token_strs",
        "tool_choice",
        "tools",
        "with_pieces",
    ],
    unsupported: &[],
};

const BACK: Known = Known {
    fields: &["model", "tokens"],
    unsupported: &[],
};

/// The response, and the fields without effect.
pub type Told = (Value, Vec<String>);

/// One of the two; the flag is `--strict`.
pub type Tell = fn(&Ready, &Map<String, Value>, bool) -> Result<Told, Refusal>;

pub fn tokenize(ready: &Ready, object: &Map<String, Value>, strict: bool) -> Result<Told, Refusal> {
    let mut ignored = TO.check(object, strict)?;
    let fields = Fields(object);
    let tokens = match fields.get("messages") {
        Some(_) => {
            let conversation = conversation::read(fields, &mut Notes::default())?;
            let prompt = ready.texts.prompt(&Input::Chat(conversation))?;
            ignored.extend(prompt.unnamed);
            prompt.tokens
        }
        None => {
            let text = match fields.text("content")? {
                Some(text) => Some(text),
                None => fields.text("prompt")?,
            };
            let text = text.ok_or_else(|| wrong("content", "a text, or `messages` a list"))?;
            // Who says nothing has the tokens that the model's texts begin with, as a prompt has.
            let special = match fields.flag("add_special")? {
                Some(special) => special,
                None => fields.flag("add_special_tokens")?.unwrap_or(true),
            };
            ready.texts.encode(text, special)?
        }
    };
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
    if fields.flag("return_token_strs")? == Some(true) {
        told["token_strs"] = spelled().into();
    }
    told["tokens"] = match fields.flag("with_pieces")? {
        Some(true) => {
            let pieces = tokens.iter().zip(spelled());
            pieces
                .map(|(id, piece)| json!({"id": id, "piece": piece}))
                .collect()
        }
        _ => tokens.into(),
    };
    Ok((told, ignored))
}

pub fn detokenize(
    ready: &Ready,
    object: &Map<String, Value>,
    strict: bool,
) -> Result<Told, Refusal> {
    const FIELD: &str = "tokens";
    let ignored = BACK.check(object, strict)?;
    let must_be = || wrong(FIELD, "a list of token ids");
    let given = Fields(object).list(FIELD)?.ok_or_else(must_be)?;
    let id = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(must_be)
    };
    let ids = given.iter().map(id).collect::<Result<Vec<u32>, _>>()?;
    ready.texts.check(&ids).map_err(|refusal| Refusal {
        field: Some(FIELD.to_owned()),
        ..refusal
    })?;
    let text = ready.texts.decode(&ids)?;
    Ok((json!({"content": text, "prompt": text}), ignored))
}

//! A GGUF file's vocabulary, and the texts around it, as the file has them. What they mean is the
//! tokenizer's business.

use serde_json::{Map, Value as Json, json};

use super::metadata::Metadata;
use super::value::{Number, Texts};
use crate::Error;

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const TEMPLATE: &str = "tokenizer.chat_template";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    Normal,
    Unknown,
    Control,
    /// Found in a text before anything else is.
    UserDefined,
    Unused,
    /// One byte of what has no token.
    Byte,
}

/// Everything a GGUF file says about how text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTokenizer {
    /// The file, for messages.
    pub file: String,
    /// The model's name, in any words.
    pub name: Option<String>,
    /// `gpt2`, `llama`, ...
    pub model: String,
    /// How a text is cut into words, by the name that llama.cpp has for it.
    pub pre: Option<String>,
    /// The tokens by id.
    pub tokens: Texts,
    /// One for each token, or none.
    pub scores: Vec<f32>,
    /// One for each token, or none.
    pub types: Vec<TokenType>,
    /// `left right`, the first to be merged first.
    pub merges: Texts,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub remove_extra_whitespaces: Option<bool>,
}

impl GgufTokenizer {
    /// `None` where the file has no vocabulary.
    pub(super) fn take(mut metadata: Metadata) -> Result<Option<Self>, Error> {
        let Some(tokens) = metadata.take_texts(TOKENS)? else {
            return Ok(None);
        };
        const SCORES: &str = "tokenizer.ggml.scores";
        const TYPES: &str = "tokenizer.ggml.token_type";
        let one_each = |key: &str, found: usize| match found == tokens.len() || found == 0 {
            true => Ok(()),
            false => {
                let expected = format!("one for each of {} tokens", tokens.len());
                Err(metadata.wrong(key, format!("a list of {found}"), &expected))
            }
        };
        let scores = metadata.numbers(SCORES)?.into_iter().flatten();
        let scores: Vec<f32> = scores.map(|score| score.value() as f32).collect();
        one_each(SCORES, scores.len())?;
        let types = metadata.numbers(TYPES)?.into_iter().flatten();
        let types: Vec<TokenType> = types
            .map(|number| {
                token_type(number)
                    .ok_or_else(|| metadata.wrong(TYPES, number, "types of tokens from 1 to 6"))
            })
            .collect::<Result<_, _>>()?;
        one_each(TYPES, types.len())?;
        let text = |key: &str| Ok::<_, Error>(metadata.text(key)?.map(str::to_owned));
        let model = text("tokenizer.ggml.model")?;
        let model = model.ok_or_else(|| metadata.missing("tokenizer.ggml.model"))?;
        let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
        let mut found = Self {
            file: metadata.file().into(),
            // A file is not refused for one that is not a text.
            name: text("general.name").unwrap_or(None),
            model,
            pre: text("tokenizer.ggml.pre")?,
            scores,
            types,
            bos: id(&metadata, "bos", tokens.len())?,
            eos: id(&metadata, "eos", tokens.len())?,
            unknown: id(&metadata, "unknown", tokens.len())?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
            tokens,
            merges: Texts::default(),
        };
        found.merges = metadata.take_texts(MERGES)?.unwrap_or_default();
        Ok(Some(found))
    }
}

fn token_type(number: Number) -> Option<TokenType> {
    Some(match number {
        Number::Whole(1) => TokenType::Normal,
        Number::Whole(2) => TokenType::Unknown,
        Number::Whole(3) => TokenType::Control,
        Number::Whole(4) => TokenType::UserDefined,
        Number::Whole(5) => TokenType::Unused,
        Number::Whole(6) => TokenType::Byte,
        _ => return None,
    })
}

/// The id of a token with a role, which is one of the vocabulary where there is one.
pub(super) fn id(metadata: &Metadata, role: &str, tokens: usize) -> Result<Option<u32>, Error> {
    let key = match role {
        // So it is spelled there.
        "pad" => "tokenizer.ggml.padding_token_id".to_owned(),
        role => format!("tokenizer.ggml.{role}_token_id"),
    };
    let last = match tokens {
        0 => u32::MAX as usize,
        tokens => tokens - 1,
    };
    let id = metadata.whole(&key, last)?;
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

/// Tokens in the vocabulary.
pub(super) fn tokens(metadata: &Metadata) -> Result<usize, Error> {
    Ok(metadata.texts(TOKENS)?.map_or(0, Texts::len))
}

/// Bytes of the vocabulary, for a plan of memory.
pub(super) fn vocabulary_bytes(metadata: &Metadata) -> Result<u64, Error> {
    let mut bytes = 0;
    for key in [TOKENS, MERGES] {
        if let Some(texts) = metadata.texts(key)? {
            // In JSON each has quotes, a comma and a number, too.
            bytes += (texts.bytes() + 12 * texts.len()) as u64;
        }
    }
    Ok(bytes)
}

/// What `tokenizer_config.json` would say: the special tokens that have names, and the templates.
pub(super) fn config(metadata: &Metadata) -> Result<Map<String, Json>, Error> {
    let mut map = Map::new();
    if let Some(tokens) = metadata.texts(TOKENS)? {
        for (name, role) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "pad"),
        ] {
            let id = id(metadata, role, tokens.len())?;
            let text = id.and_then(|id| tokens.get(id as usize));
            let text = text.and_then(|text| std::str::from_utf8(text).ok());
            map.extend(text.map(|text| (name.to_owned(), json!(text))));
        }
    }
    let mut templates = Vec::new();
    if let Some(default) = metadata.text(TEMPLATE)? {
        templates.push(json!({"name": "default", "template": default}));
    }
    let prefix = format!("{TEMPLATE}.");
    for (key, _) in metadata.beginning(&prefix) {
        if let Some(template) = metadata.text(key)? {
            templates.push(json!({"name": key[prefix.len()..], "template": template}));
        }
    }
    if !templates.is_empty() {
        map.insert("chat_template".into(), Json::Array(templates));
    }
    Ok(map)
}

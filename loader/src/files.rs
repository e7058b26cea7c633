//! The files beside the weights: the chat template and the special tokens, as text. What they
//! mean is the tokenizer's business.

use serde_json::Value;

use crate::json::{Fields, parse_object};
use crate::{Checkpoint, Error};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The texts of the begin and end tokens, which chat templates refer to by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: Option<String>,
    pub eos: Option<String>,
}

impl Checkpoint {
    /// The chat template, where the checkpoint has one: `chat_template.jinja`, or the string in
    /// `tokenizer_config.json`, or the one named `default` of the list there.
    pub fn chat_template(&self) -> Result<Option<String>, Error> {
        const FILE: &str = "chat_template.jinja";
        if let Some(bytes) = self.file(FILE)? {
            return String::from_utf8(bytes)
                .map(Some)
                .map_err(|error| Error::Field {
                    file: self.display(FILE),
                    field: "text".into(),
                    found: error.to_string(),
                    expected: "UTF-8".into(),
                });
        }
        self.with_tokenizer_config(|fields| template(&fields))
            .map(Option::flatten)
    }

    /// The special tokens of `tokenizer_config.json`.
    pub fn special_tokens(&self) -> Result<SpecialTokens, Error> {
        let found = self.with_tokenizer_config(|fields| {
            Ok(SpecialTokens {
                bos: token(&fields, "bos_token")?,
                eos: token(&fields, "eos_token")?,
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    fn with_tokenizer_config<T>(
        &self,
        read: impl FnOnce(Fields<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Some(json) = self.file(TOKENIZER_CONFIG)? else {
            return Ok(None);
        };
        let file = self.display(TOKENIZER_CONFIG);
        let map = parse_object(&file, &json)?;
        let fields = Fields {
            file: &file,
            prefix: "",
            map: &map,
        };
        read(fields).map(Some)
    }
}

fn template(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    const FIELD: &str = "chat_template";
    const EXPECTED: &str = "a string, or a list of {name, template} with one named default";
    match fields.get(FIELD) {
        None => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(list)) => list
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(|template| Some(template.to_owned()))
            .ok_or_else(|| fields.wrong(FIELD, format!("a list of {}", list.len()), EXPECTED)),
        Some(other) => Err(fields.wrong(FIELD, other, EXPECTED)),
    }
}

fn token(fields: &Fields<'_>, field: &str) -> Result<Option<String>, Error> {
    match fields.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value) => match value.get("content").and_then(Value::as_str) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(fields.wrong(field, value, "a string or {content}")),
        },
    }
}

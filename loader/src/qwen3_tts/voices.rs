//! Voices, languages and the ids that steer the talker, as config.json names them. Knows no text and
//! no tensor.

use serde_json::{Map, Value};

use crate::Error;
use crate::json::{Fields, shorten};

/// Ids that steer the talker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTokens {
    /// Of the text.
    pub im_start: u32,
    pub im_end: u32,
    pub tts_pad: u32,
    pub tts_bos: u32,
    pub tts_eos: u32,
    /// Of the codec track, as all that follow.
    pub pad: u32,
    pub bos: u32,
    /// Ends the speech.
    pub eos: u32,
    pub think: u32,
    pub nothink: u32,
    pub think_bos: u32,
    pub think_eos: u32,
}

/// A voice that the checkpoint has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// In lower case, as all names here.
    pub name: String,
    /// In the codec track.
    pub token: u32,
    /// The language that is spoken where none is named, or Chinese: one of those of the checkpoint.
    pub dialect: Option<String>,
}

/// A language, or a dialect, which is spoken by its speakers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    pub name: String,
    /// In the codec track.
    pub token: u32,
}

impl Language {
    /// Whether it is one that can be asked for by its name.
    pub fn is_dialect(&self) -> bool {
        self.name.contains("dialect")
    }
}

/// What the text's ids are where the file does not say.
const TEXT: [(&str, u32); 5] = [
    ("im_start_token_id", 151_644),
    ("im_end_token_id", 151_645),
    ("tts_pad_token_id", 151_671),
    ("tts_bos_token_id", 151_672),
    ("tts_eos_token_id", 151_673),
];
const CODEC: [&str; 7] = [
    "codec_pad_id",
    "codec_bos_id",
    "codec_eos_token_id",
    "codec_think_id",
    "codec_nothink_id",
    "codec_think_bos_id",
    "codec_think_eos_id",
];

/// The ids, each of which is one of the vocabulary of its track.
pub(super) fn tokens(
    root: &Fields<'_>,
    talker: &Fields<'_>,
    text_vocab: usize,
    codec_vocab: usize,
) -> Result<ControlTokens, Error> {
    let text = |at: usize| {
        let (name, default) = TEXT[at];
        token(root, name, text_vocab, Some(default))
    };
    let codec = |at: usize| token(talker, CODEC[at], codec_vocab, None);
    Ok(ControlTokens {
        im_start: text(0)?,
        im_end: text(1)?,
        tts_pad: text(2)?,
        tts_bos: text(3)?,
        tts_eos: text(4)?,
        pad: codec(0)?,
        bos: codec(1)?,
        eos: codec(2)?,
        think: codec(3)?,
        nothink: codec(4)?,
        think_bos: codec(5)?,
        think_eos: codec(6)?,
    })
}

fn token(
    fields: &Fields<'_>,
    name: &str,
    vocab: usize,
    default: Option<u32>,
) -> Result<u32, Error> {
    let said = fields.index(name, u32::MAX as usize)?;
    let said = said.and_then(|id| u32::try_from(id).ok()).or(default);
    match said {
        None => Err(fields.missing(name)),
        Some(id) if id as usize >= vocab => Err(out_of(fields, name, &id, vocab)),
        Some(id) => Ok(id),
    }
}

fn out_of(fields: &Fields<'_>, name: &str, found: &dyn std::fmt::Display, vocab: usize) -> Error {
    let expected = format!("an id below {vocab}, the size of its vocabulary");
    fields.wrong(name, found, &expected)
}

const LANGUAGES: &str = "codec_language_id";
const SPEAKERS: &str = "spk_id";
const DIALECTS: &str = "spk_is_dialect";

/// In the order of the file.
pub(super) fn languages(talker: &Fields<'_>, vocab: usize) -> Result<Vec<Language>, Error> {
    let map = required(talker, LANGUAGES)?;
    let language = |(name, id): (&String, &Value)| {
        let token = listed(talker, LANGUAGES, name, id, vocab)?;
        Ok(Language {
            name: lower(talker, LANGUAGES, name)?,
            token,
        })
    };
    map.iter().map(language).collect()
}

/// In the order of the file. There is at least one.
pub(super) fn speakers(
    talker: &Fields<'_>,
    languages: &[Language],
    vocab: usize,
) -> Result<Vec<Speaker>, Error> {
    let map = required(talker, SPEAKERS)?;
    if map.is_empty() {
        return Err(talker.wrong(SPEAKERS, "empty", "at least one speaker"));
    }
    let dialects = required(talker, DIALECTS)?;
    let speaker = |(name, id): (&String, &Value)| {
        Ok(Speaker {
            name: lower(talker, SPEAKERS, name)?,
            token: listed(talker, SPEAKERS, name, id, vocab)?,
            dialect: dialect(talker, dialects, name, languages)?,
        })
    };
    map.iter().map(speaker).collect()
}

/// Names are compared in lower case, as they must be written.
fn lower(fields: &Fields<'_>, field: &str, name: &str) -> Result<String, Error> {
    match name.is_empty() || name != name.to_lowercase() {
        true => Err(fields.wrong(
            field,
            format!("with {name:?}"),
            "names in lower case, none empty",
        )),
        false => Ok(name.into()),
    }
}

fn dialect(
    fields: &Fields<'_>,
    dialects: &Map<String, Value>,
    speaker: &str,
    languages: &[Language],
) -> Result<Option<String>, Error> {
    let field = entry(DIALECTS, speaker);
    match dialects.get(speaker) {
        None => Err(fields.missing(&field)),
        Some(Value::Bool(false)) => Ok(None),
        Some(Value::String(name)) if languages.iter().any(|known| known.name == *name) => {
            Ok(Some(name.clone()))
        }
        Some(other) => {
            let expected = format!("false, or a name in {LANGUAGES}");
            Err(fields.wrong(&field, other, &expected))
        }
    }
}

/// An id, which may stand in a list of one.
fn listed(
    fields: &Fields<'_>,
    map: &str,
    name: &str,
    value: &Value,
    vocab: usize,
) -> Result<u32, Error> {
    let value = match value {
        Value::Array(list) if list.len() == 1 => &list[0],
        value => value,
    };
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    let id = id.filter(|id| (*id as usize) < vocab);
    id.ok_or_else(|| out_of(fields, &entry(map, name), value, vocab))
}

/// A field of a map, for messages: a name may be long.
fn entry(map: &str, name: &str) -> String {
    format!("{map}.{}", shorten(name.to_owned()))
}

fn required<'a>(fields: &Fields<'a>, field: &str) -> Result<&'a Map<String, Value>, Error> {
    fields.object(field)?.ok_or_else(|| fields.missing(field))
}

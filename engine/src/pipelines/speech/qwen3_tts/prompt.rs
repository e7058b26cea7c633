//! The rows that a prompt begins with, and those that follow a frame each: a track of text and a track
//! of codes, added.

use loader::{ControlTokens, Qwen3TtsConfig, Speaker};

use crate::error::EngineError;
use crate::text::Tokenizer;

/// In whose voice, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtsVoice {
    pub speaker: Speaker,
    /// The code of a language. `None`: the model finds it, or the speaker's dialect is spoken.
    pub language: Option<u32>,
    /// How to speak, in words.
    pub instruct: Option<String>,
    /// The text comes a row a frame, and not before all of them.
    pub streaming_text: bool,
}

impl TtsVoice {
    /// A speaker and a language by their names; `auto` is none.
    pub fn named(
        config: &Qwen3TtsConfig,
        speaker: &str,
        language: Option<&str>,
    ) -> Result<Self, EngineError> {
        let known = || config.speakers.iter().map(|it| it.name.as_str());
        let found = (config.speakers.iter()).find(|it| it.name.eq_ignore_ascii_case(speaker));
        let speaker = found.ok_or_else(|| EngineError::NoSuchSpeaker {
            name: speaker.to_owned(),
            known: known().collect::<Vec<_>>().join(", "),
        })?;
        let token = |name: &str| {
            let languages = config.languages.iter();
            let found = languages
                .clone()
                .find(|it| it.name.eq_ignore_ascii_case(name));
            found
                .map(|it| it.token)
                .ok_or_else(|| EngineError::NoSuchLanguage {
                    name: name.to_owned(),
                    known: (languages.filter(|it| !it.is_dialect()))
                        .map(|it| it.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                })
        };
        let language = language.filter(|name| !name.eq_ignore_ascii_case("auto"));
        let is_chinese = language.is_none_or(|name| name.eq_ignore_ascii_case("chinese"));
        let language = match (&speaker.dialect, language) {
            (Some(dialect), _) if is_chinese => Some(token(dialect)?),
            (_, Some(name)) => Some(token(name)?),
            (_, None) => None,
        };
        Ok(Self {
            speaker: speaker.clone(),
            language,
            instruct: None,
            streaming_text: false,
        })
    }
}

/// A text in a voice, as the talker takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TtsPrompt {
    pub text_ids: Vec<u32>,
    /// What the talker begins with, one row after the other.
    pub(super) rows: Vec<f32>,
    /// What is added to the first frames, a row each; then the last of them.
    pub(super) trailing: Vec<f32>,
}

impl TtsPrompt {
    /// What the talker begins with, one row after the other.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

/// Of the frame around a text.
const ROLE: usize = 3;
const END: usize = 5;

/// The ids of a text in its frame, and those of how to speak.
pub(super) fn ids(
    text: &str,
    voice: &TtsVoice,
    tokenizer: &Tokenizer,
) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
    let framed = format!("<|im_start|>assistant\n{text}<|im_end|>\n<|im_start|>assistant\n");
    let text_ids = tokenizer.encode(&framed, false)?;
    let instruct = match &voice.instruct {
        Some(how) => tokenizer.encode(&format!("<|im_start|>user\n{how}<|im_end|>\n"), false)?,
        None => Vec::new(),
    };
    if text_ids.len() <= ROLE + END {
        return Err(EngineError::NothingToSpeak);
    }
    Ok((text_ids, instruct))
}

/// One row: an id of the text track, and one of the codes' track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub text: u32,
    pub code: Option<u32>,
}

/// The rows before the first frame, and those that are added to the first frames.
pub(super) fn rows(
    (text_ids, instruct): (&[u32], &[u32]),
    voice: &TtsVoice,
    tokens: &ControlTokens,
) -> (Vec<Row>, Vec<Row>) {
    let alone = |&text: &u32| Row { text, code: None };
    let with = |text, code| Row {
        text,
        code: Some(code),
    };
    let tags: Vec<u32> = match voice.language {
        None => vec![tokens.nothink, tokens.think_bos, tokens.think_eos],
        Some(language) => vec![tokens.think, tokens.think_bos, language, tokens.think_eos],
    };
    let tags = tags.into_iter().chain([voice.speaker.token]);
    let mut rows: Vec<Row> = instruct
        .iter()
        .chain(&text_ids[..ROLE])
        .map(alone)
        .collect();
    rows.extend(tags.map(|tag| with(tokens.tts_pad, tag)));
    rows.push(with(tokens.tts_bos, tokens.pad));
    let said = &text_ids[ROLE..text_ids.len() - END];
    if voice.streaming_text {
        rows.push(with(said[0], tokens.bos));
        let mut trailing: Vec<Row> = said[1..].iter().map(alone).collect();
        trailing.push(alone(&tokens.tts_eos));
        trailing.push(alone(&tokens.tts_pad));
        return (rows, trailing);
    }
    let ended = said.iter().chain([&tokens.tts_eos]);
    rows.extend(ended.map(|&text| with(text, tokens.pad)));
    rows.push(with(tokens.tts_pad, tokens.bos));
    (rows, vec![alone(&tokens.tts_pad)])
}

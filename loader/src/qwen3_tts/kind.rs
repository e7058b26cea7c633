//! Which system a config.json describes: Qwen3-TTS with voices of its own, or one of its kin.

use crate::Error;
use crate::config::{one_of, unsupported};
use crate::json::{Fields, parse_object};

pub(crate) const MODEL_TYPE: &str = "qwen3_tts";
/// Of the codec that is there: 12.5 frames a second.
pub(super) const CODEC: &str = "qwen3_tts_tokenizer_12hz";

const ARCHITECTURES: [&str; 1] = ["Qwen3TTSForConditionalGeneration"];
const VOICES: &str = "custom_voice";

/// What parts and kin are known as.
const OTHERS: [(&str, &str); 5] = [
    ("qwen3_tts_tokenizer_12hz", "a codec by itself"),
    (
        "qwen3_tts_tokenizer_25hz",
        "the codec of 25 frames a second",
    ),
    ("base", "which copies the voice of a recording"),
    ("voice_design", "which makes a voice from its description"),
    ("qwen3_tts_talker", "the talker by itself"),
];

/// That it is Qwen3-TTS with voices of its own and the codec that is known.
pub(crate) fn check(fields: &Fields<'_>) -> Result<(), Error> {
    must_be(fields, "model_type", MODEL_TYPE)?;
    for (at, name) in (fields.list("architectures")?.into_iter().flatten()).enumerate() {
        let Some(name) = name.as_str() else {
            return Err(fields.wrong("architectures", name, "a list of names"));
        };
        if !ARCHITECTURES.contains(&name) {
            let field = format!("architectures[{at}]");
            return Err(unsupported(fields, &field, name, one_of(ARCHITECTURES)));
        }
    }
    must_be(fields, "tts_model_type", VOICES)?;
    // Older files leave it to the codec's own.
    match fields.get("tokenizer_type") {
        Some(_) => must_be(fields, "tokenizer_type", CODEC),
        None => Ok(()),
    }
}

/// The same of a whole file.
pub(super) fn check_file(file: &str, json: &[u8]) -> Result<(), Error> {
    let map = parse_object(file, json)?;
    check(&Fields {
        file,
        prefix: "",
        map: &map,
    })
}

/// That the field says this; what else it says is explained where it is known.
pub(super) fn must_be(fields: &Fields<'_>, field: &str, wanted: &str) -> Result<(), Error> {
    let Some(said) = fields.str(field)? else {
        return Err(fields.missing(field));
    };
    if said == wanted {
        return Ok(());
    }
    let value = match OTHERS.into_iter().find(|(other, _)| *other == said) {
        Some((_, what)) => format!("{said} ({what})"),
        None => said.into(),
    };
    Err(unsupported(fields, field, &value, wanted))
}

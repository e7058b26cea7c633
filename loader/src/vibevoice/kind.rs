//! Which system a config.json describes: VibeVoice, or one of the others that go by its name.

use crate::Error;
use crate::config::{one_of, unsupported};
use crate::json::Fields;

pub(crate) const MODEL_TYPE: &str = "vibevoice";

/// What transformers and the original call it; the second stands in files saved after inference.
const ARCHITECTURES: [&str; 2] = [
    "VibeVoiceForConditionalGeneration",
    "VibeVoiceForConditionalGenerationInference",
];

/// Systems that share the name and little else: their model type, and what they are known as.
const OTHERS: [(&str, &str); 2] = [
    ("vibevoice_streaming", "VibeVoice-Realtime"),
    ("vibevoice_asr", "VibeVoice-ASR"),
];

/// That it is VibeVoice.
pub(crate) fn check(fields: &Fields<'_>) -> Result<(), Error> {
    let Some(model_type) = fields.str("model_type")? else {
        return Err(fields.missing("model_type"));
    };
    if model_type != MODEL_TYPE {
        let known = OTHERS.into_iter().find(|(other, _)| *other == model_type);
        let value = match known {
            Some((_, name)) => format!("{model_type} ({name})"),
            None => model_type.into(),
        };
        return Err(unsupported(fields, "model_type", &value, MODEL_TYPE));
    }
    // The model that listens was first published under the same model type.
    for (at, name) in fields
        .list("architectures")?
        .into_iter()
        .flatten()
        .enumerate()
    {
        let Some(name) = name.as_str() else {
            return Err(fields.wrong("architectures", name, "a list of names"));
        };
        if !ARCHITECTURES.contains(&name) {
            let field = format!("architectures[{at}]");
            return Err(unsupported(fields, &field, name, one_of(ARCHITECTURES)));
        }
    }
    Ok(())
}

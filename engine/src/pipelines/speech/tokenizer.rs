//! The tokenizer of a system that speaks: one that was given, the checkpoint's own, or the older files of
//! a Qwen2 tokenizer, which some checkpoints have alone.

use std::fs;
use std::path::Path;

use loader::Checkpoint;
use serde_json::Map;

use crate::error::EngineError;
use crate::text::{SpecialTokens, Tokenizer};

/// `name`: whose it is, if the checkpoint says.
pub(super) fn find(
    given: Option<&Path>,
    checkpoint: &Checkpoint,
    name: Option<&String>,
) -> Result<Tokenizer, EngineError> {
    let special = SpecialTokens::of(&Map::new(), None)?;
    let Some(path) = given else {
        if let Some(tokenizer) = crate::model::prompt::tokenizer_of(checkpoint)? {
            return Ok(tokenizer);
        }
        let files = (
            checkpoint.file("vocab.json")?,
            checkpoint.file("merges.txt")?,
        );
        let (Some(vocabulary), Some(merges)) = files else {
            return Err(EngineError::NoSpeechTokenizer {
                location: checkpoint.location().to_owned(),
                name: name.cloned(),
            });
        };
        let config = checkpoint.tokenizer_config()?;
        return Ok(Tokenizer::of_qwen2(&vocabulary, &merges, config, &special)?);
    };
    let file = match path.is_dir() {
        true => path.join("tokenizer.json"),
        false => path.to_owned(),
    };
    let json = fs::read(&file).map_err(|source| EngineError::TokenizerFile {
        file: file.display().to_string(),
        source,
    })?;
    Ok(Tokenizer::new(&json, &special)?)
}

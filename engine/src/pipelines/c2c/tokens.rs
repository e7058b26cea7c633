//! Whether two models mean the same by a token.

use crate::error::EngineError;
use crate::model::Blueprint;
use crate::model::prompt;

/// Refuses a teacher to which a token means another text than to the base. Tokens that only one of
/// them has a text for are fine: published vocabularies of one kind differ in the special tokens at
/// their end.
pub(super) fn compare(base: &Blueprint, teacher: &Blueprint) -> Result<(), EngineError> {
    let (ours, theirs) = (base.config.vocab_size, teacher.config.vocab_size);
    let location = |of: &Blueprint| of.checkpoint.location().to_owned();
    if same_file(base, teacher)? {
        return Ok(());
    }
    let (Some(own), Some(other)) = (
        base.tokenizer().ok(),
        prompt::tokenizer_of(&teacher.checkpoint)?,
    ) else {
        return match ours == theirs {
            true => Ok(()),
            false => Err(EngineError::OtherVocabulary {
                base: location(base),
                teacher: location(teacher),
                ours,
                theirs,
            }),
        };
    };
    let tokens = 0..u32::try_from(ours.min(theirs)).unwrap_or(u32::MAX);
    let texts = tokens.map(|token| (token, own.token(token), other.token(token)));
    for (token, ours, theirs) in texts {
        if ours.is_some() && theirs.is_some() && ours != theirs {
            return Err(EngineError::OtherTokenizer {
                base: location(base),
                teacher: location(teacher),
                token,
                ours,
                theirs,
            });
        }
    }
    Ok(())
}

/// Whether both came with the same tokenizer, byte for byte: nothing has to be read into memory then.
fn same_file(base: &Blueprint, teacher: &Blueprint) -> Result<bool, EngineError> {
    const FILE: &str = "tokenizer.json";
    let of = |model: &Blueprint| model.checkpoint.file_bytes(FILE);
    let (ours, theirs) = (of(base)?, of(teacher)?);
    Ok(ours.is_some()
        && ours == theirs
        && base.checkpoint.file(FILE)? == teacher.checkpoint.file(FILE)?)
}

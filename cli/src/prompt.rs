//! From what was given as a prompt to token ids. Happens before the weights are loaded: what is
//! wrong with a prompt should not take gigabytes to find out.

use std::fs;
use std::io::{self, Read};

use engine::text::{ChatTemplate, Message, Tokenizer};
use engine::{Blueprint, EngineError};
use loader::Checkpoint;

use crate::args::PromptInput;
use crate::failure::{Failure, Usage};

/// The ids of the prompt, checked against what the model and its cache can take.
pub fn tokens(input: PromptInput, chat: bool, blueprint: &Blueprint) -> Result<Vec<u32>, Failure> {
    let tokens = match input {
        PromptInput::Tokens(tokens) => tokens,
        PromptInput::Text(text) => encode(&text, chat, blueprint)?,
        PromptInput::File(path) if path.is_dir() => {
            return Err(Usage::PromptIsNoFile { path }.into());
        }
        PromptInput::File(path) => {
            let file = path.display().to_string();
            let text = read(&file, || fs::read_to_string(&path))?;
            encode(&text, chat, blueprint)?
        }
        PromptInput::Stdin => {
            let text = read("stdin", || {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).map(|_| text)
            })?;
            encode(&text, chat, blueprint)?
        }
    };
    check(&tokens, blueprint)?;
    Ok(tokens)
}

fn read(file: &str, read: impl FnOnce() -> io::Result<String>) -> Result<String, Failure> {
    let text = read().map_err(|source| Failure::ReadPrompt {
        file: file.into(),
        source,
    })?;
    if text.is_empty() {
        return Err(Usage::EmptyPromptFile { file: file.into() }.into());
    }
    Ok(text)
}

fn encode(text: &str, chat: bool, blueprint: &Blueprint) -> Result<Vec<u32>, EngineError> {
    let checkpoint = &blueprint.checkpoint;
    let location = || checkpoint.location().to_owned();
    if text.is_empty() {
        return Err(EngineError::EmptyPrompt);
    }
    let tokenizer = tokenizer(checkpoint)?.ok_or_else(|| EngineError::NoTokenizer {
        location: location(),
    })?;
    if !chat {
        return Ok(tokenizer.encode(text, true)?);
    }
    let source = (checkpoint.chat_template()?).ok_or_else(|| EngineError::NoChatTemplate {
        location: location(),
    })?;
    let special = checkpoint.special_tokens()?;
    let template = ChatTemplate::new(source, special.bos, special.eos)?;
    let rendered = template.render(&[Message::new("user", text)], true)?;
    // The template writes the special tokens itself.
    Ok(tokenizer.encode(&rendered, false)?)
}

/// The checkpoint's tokenizer, if it has one that fits.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, EngineError> {
    let Some(json) = checkpoint.file("tokenizer.json")? else {
        return Ok(None);
    };
    let tokenizer = Tokenizer::from_json(&json)?;
    let embedding = checkpoint.config.vocab_size;
    match tokenizer.vocab_size() {
        tokenizer if tokenizer > embedding => Err(EngineError::VocabularyMismatch {
            tokenizer,
            embedding,
        }),
        _ => Ok(Some(tokenizer)),
    }
}

fn check(tokens: &[u32], blueprint: &Blueprint) -> Result<(), EngineError> {
    let (prompt, context) = (tokens.len(), blueprint.context);
    let vocab_size = blueprint.config.vocab_size;
    if prompt == 0 {
        return Err(EngineError::EmptyPrompt);
    }
    if prompt > context {
        return Err(EngineError::PromptTooLong { prompt, context });
    }
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(EngineError::TokenOutOfRange { token, vocab_size }),
        None => Ok(()),
    }
}

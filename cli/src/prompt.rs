//! From what was given as a prompt to token ids. Happens before the weights are loaded: what is
//! wrong with a prompt should not take gigabytes to find out.

use std::fs;
use std::io::{self, Read};

use engine::text::{Chat, Message};
use engine::{Blueprint, EngineError};

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
    blueprint.check_tokens(&tokens, 0).map_err(Failure::from)?;
    Ok(tokens)
}

/// Token ids for runs that only measure: spread over the vocabulary, so that no two rows of the
/// embedding are the same.
pub fn ids(count: usize, vocab_size: usize) -> Vec<u32> {
    (0..count).map(|at| (at * 31 % vocab_size) as u32).collect()
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
    match chat {
        true => blueprint.encode_chat(&Chat::new([Message::new("user", text)])),
        false => blueprint.encode(text),
    }
}

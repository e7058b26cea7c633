//! The prompts of a bench: a file's, or three of the program's own.

use std::path::Path;

use engine::{Blueprint, EngineError};

use crate::args::BenchArgs;
use crate::failure::{Failure, Usage};
use crate::output::Console;
use crate::prompt::{ids, of_file as of_path, without_mark};

/// A prompt to measure with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub label: String,
    /// `None`: it was made of token ids.
    pub words: Option<usize>,
    pub ids: Vec<u32>,
}

/// A sentence.
pub const SHORT: &str = "The old lighthouse keeper climbed the stairs, lit the lamp and waited.";

const PASSAGE: &str = "Every evening the ferry crossed the bay with bread, letters and the few \
travellers who still had business on the island. The crossing took an hour when the wind was kind \
and three when it was not, and nobody on board could say beforehand which it would be.";

/// A file with more is none of prompts.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Passages of the long prompt.
const LONG: usize = 4;

/// Lengths that stand in for the three texts where there is no tokenizer.
const ID_COUNTS: [(&str, usize); 3] = [("short", 16), ("medium", 64), ("long", 256)];

pub fn read(
    args: &BenchArgs,
    blueprint: &Blueprint,
    console: &Console,
) -> Result<Vec<Prompt>, Failure> {
    let room = |prompt: &Prompt| prompt.ids.len() + args.tokens() <= blueprint.context;
    let prompts = match &args.prompts {
        Some(file) => {
            let prompts = of_file(file, blueprint)?;
            if let Some(prompt) = prompts.iter().find(|prompt| !room(prompt)) {
                let prompt = prompt.ids.len() + args.tokens();
                let context = blueprint.context;
                return Err(EngineError::PromptTooLong { prompt, context }.into());
            }
            prompts
        }
        None => {
            let (fit, long): (Vec<_>, Vec<_>) = built_in(blueprint)?.into_iter().partition(room);
            for prompt in long {
                console.say(format_args!(
                    "note: the {} prompt is left out: {} tokens and {} new ones do not fit into a \
                     context of {}",
                    prompt.label,
                    prompt.ids.len(),
                    args.tokens(),
                    blueprint.context
                ));
            }
            fit
        }
    };
    match prompts.is_empty() {
        true => Err(EngineError::PromptTooLong {
            prompt: args.tokens() + 1,
            context: blueprint.context,
        }
        .into()),
        false => Ok(prompts),
    }
}

fn built_in(blueprint: &Blueprint) -> Result<Vec<Prompt>, Failure> {
    match blueprint.tokenizer() {
        Ok(_) => {
            let texts = [
                ("short", SHORT.to_owned()),
                ("medium", PASSAGE.to_owned()),
                ("long", [PASSAGE; LONG].join(" ")),
            ];
            let texts = texts.into_iter();
            texts
                .map(|(label, text)| of_text(label.into(), &text, blueprint))
                .collect()
        }
        Err(EngineError::NoTokenizer { .. }) => Ok(ID_COUNTS
            .into_iter()
            .map(|(label, count)| Prompt {
                label: label.into(),
                words: None,
                ids: ids(count, blueprint.config.vocab_size),
            })
            .collect()),
        Err(error) => Err(error.into()),
    }
}

fn of_text(label: String, text: &str, blueprint: &Blueprint) -> Result<Prompt, Failure> {
    Ok(Prompt {
        label,
        words: Some(text.split_whitespace().count()),
        ids: blueprint.encode(text)?,
    })
}

fn of_file(file: &Path, blueprint: &Blueprint) -> Result<Vec<Prompt>, Failure> {
    (texts(file)?.into_iter())
        .map(|(label, text)| of_text(label, &text, blueprint))
        .collect()
}

/// Labels and texts of a file: at least one.
pub fn texts(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    let name = || file.display().to_string();
    let too_long = |bytes| {
        Failure::from(Usage::FileTooLong {
            file: name(),
            bytes,
            most_bytes: FILE_BYTES_MAX,
        })
    };
    let text = of_path(file, FILE_BYTES_MAX, too_long)?;
    let texts: Vec<_> = lines(without_mark(&text))
        .map(|(label, text)| (label, text.to_owned()))
        .collect();
    match texts.is_empty() {
        true => Err(Usage::EmptyPromptFile { file: name() }.into()),
        false => Ok(texts),
    }
}

/// Label and text of each prompt; without a label, its line number.
fn lines(text: &str) -> impl Iterator<Item = (String, &str)> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| match line.split_once('\t') {
            Some((label, text)) => (label.to_owned(), text),
            None => (format!("line {}", index + 1), line),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_labels_comments_and_empty_lines() {
        let text = "# prompts\nfirst\tOne two\n\nthree four five\n";
        let found: Vec<_> = lines(text).collect();
        let expected = [
            ("first".to_owned(), "One two"),
            ("line 4".to_owned(), "three four five"),
        ];
        assert_eq!(found, expected);
    }
}

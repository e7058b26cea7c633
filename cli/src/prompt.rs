//! From what was given as a prompt to token ids. Happens before the weights are loaded, and reads
//! no more of a file or of stdin than could fit: what is wrong with a prompt should not take
//! gigabytes to find out.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use engine::text::{Chat, Message};
use engine::{Blueprint, EngineError, Prompter, Rendered};

use crate::args::{ChatInput, PromptInput, TextInput};
use crate::failure::{Failure, Usage};
use crate::output::Console;

/// The ids of the prompt, checked against what the model and its cache can take.
pub fn tokens(
    input: PromptInput,
    blueprint: &Blueprint,
    console: &Console,
) -> Result<Vec<u32>, Failure> {
    let tokens = match input {
        PromptInput::Tokens(tokens) => tokens,
        PromptInput::Text(text, chat) => {
            let prompter = blueprint.prompter()?;
            encode(text, chat, true, &prompter, console)?.ids
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

/// A text, or a conversation written out, and its ids.
#[derive(Debug)]
pub struct Encoded {
    pub text: String,
    pub ids: Vec<u32>,
    /// The name of the chat template, where it went through one.
    pub template: Option<String>,
}

/// `special`: with the tokens that the model's texts begin with, unless a template writes them.
pub fn encode(
    input: TextInput,
    chat: Option<ChatInput>,
    special: bool,
    prompter: &Prompter<'_>,
    console: &Console,
) -> Result<Encoded, Failure> {
    let Some(wish) = chat else {
        let most = prompter.text_bytes_max();
        let too_long = |bytes| prompter.too_long(bytes, most).into();
        let text = read_text(input, most, too_long)?;
        let ids = prompter.encode(&text, special)?;
        return Ok(Encoded {
            text,
            ids,
            template: None,
        });
    };
    let chat = conversation(input, &wish, prompter)?;
    let rendered = prompter.render(&chat, wish.template.as_deref())?;
    tell(&rendered, wish.system.as_deref(), console);
    Ok(Encoded {
        // The template writes the special tokens itself.
        ids: prompter.encode(&rendered.text, false)?,
        text: rendered.text,
        template: Some(rendered.template),
    })
}

/// What the template makes nothing of.
pub fn tell(rendered: &Rendered, system: Option<&str>, console: &Console) {
    for name in &rendered.unnamed {
        console.say(format_args!(
            "note: the chat template `{}` never names `{name}`: it has no effect",
            rendered.template
        ));
    }
    if system.is_some_and(|text| !rendered.text.contains(text.trim())) {
        console.say(format_args!(
            "note: the chat template `{}` does not repeat the system message as it was given",
            rendered.template
        ));
    }
}

fn conversation(
    input: TextInput,
    wish: &ChatInput,
    prompter: &Prompter<'_>,
) -> Result<Chat, Failure> {
    let mut chat = match wish.whole {
        true => {
            let most_bytes = prompter.conversation_bytes_max();
            let file = name(&input);
            let too_long = |bytes| {
                Failure::from(Usage::FileTooLong {
                    file: file.clone(),
                    bytes,
                    most_bytes,
                })
            };
            Chat::from_json(read(input, most_bytes, too_long)?.as_bytes())
        }
        false => {
            let most = prompter.chat_text_bytes_max();
            let too_long = |bytes| prompter.too_long(bytes, most).into();
            let text = read_text(input, most, too_long)?;
            Ok(Chat::new([Message::new("user", text)]))
        }
    }
    .map_err(EngineError::from)?;
    if let Some(text) = &wish.system {
        chat.add_system(text).map_err(EngineError::from)?;
    }
    if let Some(json) = &wish.template_kwargs {
        chat.add_arguments(json.as_bytes())
            .map_err(EngineError::from)?;
    }
    Ok(chat)
}

fn name(input: &TextInput) -> String {
    match input {
        TextInput::Typed(_) => "the text".to_owned(),
        TextInput::File(path) => path.display().to_string(),
        TextInput::Stdin => "stdin".to_owned(),
    }
}

/// A text to be continued. Of a file or of stdin, what an editor or a shell adds is no part of it.
fn read_text(
    input: TextInput,
    most: u64,
    too_long: impl Fn(Option<u64>) -> Failure,
) -> Result<String, Failure> {
    if let TextInput::Typed(_) = input {
        return read(input, most, too_long);
    }
    let file = name(&input);
    let mut text = read(input, most, too_long)?;
    let plain = plain(&text);
    if plain.is_empty() {
        return Err(Usage::EmptyPromptFile { file }.into());
    }
    if plain.len() < text.len() {
        text = plain.to_owned();
    }
    Ok(text)
}

/// The text without a byte order mark, and without the newline that ends the last line. More
/// newlines are meant.
fn plain(text: &str) -> &str {
    let text = without_mark(text);
    match text.strip_suffix('\n') {
        Some(text) => text.strip_suffix('\r').unwrap_or(text),
        None => text,
    }
}

pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A script, as it is typed or in its file.
pub fn script(input: TextInput, most: u64) -> Result<String, Failure> {
    let file = name(&input);
    read(input, most, |bytes| {
        Failure::from(Usage::FileTooLong {
            file: file.clone(),
            bytes,
            most_bytes: most,
        })
    })
}

/// All of a text, unless it is longer than `most` bytes: then no more than that is read of it.
fn read(
    input: TextInput,
    most: u64,
    too_long: impl Fn(Option<u64>) -> Failure,
) -> Result<String, Failure> {
    let file = name(&input);
    match input {
        TextInput::Typed(text) => match text.len() as u64 > most {
            true => Err(too_long(Some(text.len() as u64))),
            false => Ok(text),
        },
        TextInput::File(path) => of_file(&path, most, too_long),
        TextInput::Stdin => whole(&file, io::stdin().lock(), most, || too_long(None)),
    }
}

/// The same of a file.
pub fn of_file(
    path: &Path,
    most: u64,
    too_long: impl Fn(Option<u64>) -> Failure,
) -> Result<String, Failure> {
    let name = path.display().to_string();
    let failed = |source| Failure::ReadPrompt {
        file: name.clone(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        let path = path.to_path_buf();
        return Err(Usage::PromptIsNoFile { path }.into());
    }
    // A device or a pipe has no length, and may have no end.
    if meta.is_file() && meta.len() > most {
        return Err(too_long(Some(meta.len())));
    }
    whole(&name, file, most, || too_long(None))
}

fn whole(
    file: &str,
    from: impl Read,
    most: u64,
    too_long: impl Fn() -> Failure,
) -> Result<String, Failure> {
    let failed = |source| Failure::ReadPrompt {
        file: file.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    // One byte more tells a text that is too long from one that just fits.
    let mut from = from.take(most.saturating_add(1));
    from.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(too_long());
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match text.is_empty() {
        true => Err(Usage::EmptyPromptFile { file: file.into() }.into()),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_final_newline_and_a_byte_order_mark_are_no_part_of_a_text() {
        for (text, left) in [
            ("Once", "Once"),
            ("Once\n", "Once"),
            ("Once\r\n", "Once"),
            ("Once\n\n", "Once\n"),
            ("\u{feff}Once\n", "Once"),
            ("Once ", "Once "),
            ("a\r", "a\r"),
            ("\n", ""),
            ("\u{feff}", ""),
        ] {
            assert_eq!(plain(text), left, "{text:?}");
        }
    }
}

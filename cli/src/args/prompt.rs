//! The prompt: a text, ids, or a conversation in the model's chat format.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Cli;
use super::count::token;
use crate::failure::Usage;

#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// The text to continue
    #[arg(long, short, value_name = "TEXT", conflicts_with_all = ["txt_path", "prompt_tokens", "messages"])]
    #[arg(allow_hyphen_values = true, value_parser = text)]
    pub prompt: Option<String>,
    /// Read the prompt from a file, or from stdin with `-`. One newline at its end is no part of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt_tokens", "messages"])]
    pub txt_path: Option<PathBuf>,
    /// The prompt as token ids, like 1,2,3; needs no tokenizer
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = token)]
    #[arg(conflicts_with_all = ["chat", "system", "messages", "template_kwargs", "template"])]
    pub prompt_tokens: Option<Vec<u32>>,
    #[command(flatten)]
    pub chat: ChatArgs,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Put the prompt into the model's chat template, as the user's message. The flags below imply
    /// this one
    #[arg(long)]
    pub chat: bool,
    /// A system message before the others
    #[arg(long, value_name = "TEXT")]
    #[arg(allow_hyphen_values = true, value_parser = text)]
    pub system: Option<String>,
    /// The whole conversation, from a file of JSON, or from stdin with `-`: a list of messages, or
    /// an object with `messages` and, if you like, `tools` and `documents`
    #[arg(long, value_name = "FILE")]
    pub messages: Option<PathBuf>,
    /// What the template finds beside the messages, as a JSON object: tools, documents,
    /// enable_thinking, reasoning_effort, add_generation_prompt, or what else it asks for
    #[arg(long, value_name = "JSON")]
    pub template_kwargs: Option<String>,
    /// One of the model's chat templates [default: `tool_use` if there is one and tools are given,
    /// else `default`]
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
}

/// Where a prompt comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptInput {
    Text(TextInput, Option<ChatInput>),
    Tokens(Vec<u32>),
}

/// Where a text, or the JSON of a conversation, comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextInput {
    Typed(String),
    File(PathBuf),
    Stdin,
}

/// What makes a conversation of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatInput {
    /// Whether the text is the conversation, as JSON.
    pub whole: bool,
    pub system: Option<String>,
    pub template_kwargs: Option<String>,
    pub template: Option<String>,
}

impl TextInput {
    pub fn at(path: PathBuf) -> Self {
        match path.as_os_str() == "-" {
            true => Self::Stdin,
            false => Self::File(path),
        }
    }
}

impl ChatArgs {
    /// `None`: a plain text.
    pub fn input(self) -> (Option<TextInput>, Option<ChatInput>) {
        let messages = self.messages.map(TextInput::at);
        let chat = ChatInput {
            whole: messages.is_some(),
            system: self.system,
            template_kwargs: self.template_kwargs,
            template: self.template,
        };
        let wanted = self.chat || chat != ChatInput::default();
        (messages, wanted.then_some(chat))
    }
}

impl PromptArgs {
    pub fn input(self) -> Result<PromptInput, Usage> {
        let (messages, chat) = self.chat.input();
        let text = match (messages, self.prompt, self.txt_path, self.prompt_tokens) {
            (Some(messages), ..) => messages,
            (_, Some(text), ..) => TextInput::Typed(text),
            (_, _, Some(path), _) => TextInput::at(path),
            (.., Some(tokens)) => return Ok(PromptInput::Tokens(tokens)),
            _ => return Err(Usage::NoPrompt),
        };
        Ok(PromptInput::Text(text, chat))
    }
}

/// A text may begin with a hyphen. One that is a flag, to the letter, is a flag whose text was
/// forgotten before it.
pub fn text(text: &str) -> Result<String, String> {
    match is_flag(text) && !is_behind_equals(text, std::env::args_os()) {
        true => Err(missing(text)),
        false => Ok(text.to_owned()),
    }
}

/// What is wrong with a line that could not be parsed, if it is that a text was forgotten:
/// `--prompt --max-new-tokens 5` otherwise complains of the 5.
pub fn forgotten_text(line: impl Iterator<Item = OsString>) -> Option<String> {
    let words: Vec<String> = line
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let forgotten = words.windows(2).find(|pair| {
        let takes_text = ["--prompt", "-p", "--system", "--stop"].contains(&pair[0].as_str());
        takes_text && is_flag(&pair[1])
    });
    forgotten.map(|pair| format!("{} has no text: {}", pair[0], missing(&pair[1])))
}

fn missing(flag: &str) -> String {
    format!("`{flag}` is a flag, so the text is missing; if it is the text, write --prompt={flag}")
}

/// Whether the text was joined to its flag, which leaves no doubt.
fn is_behind_equals(text: &str, line: impl Iterator<Item = OsString>) -> bool {
    line.into_iter().any(|word| {
        let word = word.to_string_lossy();
        word.split_once('=')
            .is_some_and(|(flag, value)| flag.starts_with('-') && value == text)
    })
}

fn is_flag(text: &str) -> bool {
    let long = text
        .strip_prefix("--")
        .map(|flag| flag.split('=').next().unwrap_or(flag));
    long.is_some_and(|long| {
        let cli = Cli::command();
        let mut arguments = cli
            .get_subcommands()
            .flat_map(|command| command.get_arguments());
        long == "help" || arguments.any(|argument| argument.get_long() == Some(long))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_begin_with_a_hyphen_and_be_no_flag() {
        for fine in [
            "-n 5",
            "--",
            "-",
            "-5",
            "--verbose",
            "--chat me up",
            "---",
            "- a list",
        ] {
            assert_eq!(text(fine).as_deref(), Ok(fine));
        }
        for flag in ["--chat", "--profile=live", "--max-new-tokens", "--help"] {
            assert!(text(flag).unwrap_err().contains("is a flag"), "{flag}");
        }
        let line = |words: &'static str| words.split_whitespace().map(OsString::from);
        let forgotten = |words| forgotten_text(line(words));
        let told = forgotten("engine generate --prompt --max-new-tokens 5").unwrap();
        assert!(told.contains("--prompt=--max-new-tokens"), "{told}");
        assert_eq!(forgotten("engine generate --prompt -n 5"), None);
        assert_eq!(
            forgotten("engine generate --prompt=--chat --nonsense"),
            None
        );
        assert!(is_behind_equals("--chat", line("engine --prompt=--chat")));
        assert!(!is_behind_equals("--chat", line("engine --prompt --chat")));
    }
}

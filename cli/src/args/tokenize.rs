//! `engine tokenize`.

use std::path::PathBuf;

use clap::Args;

use super::count::token;
use super::prompt::{ChatArgs, ChatInput, TextInput, text};

/// Show the tokens that a text becomes, or the text of tokens
///
/// Prints one token a line: its id, and its piece as the vocabulary spells it. This is what
/// `generate` would see of the same text; the model is not loaded. Without a text, stdin is read.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine tokenize 'Once upon a time'
  engine tokenize --model DIR --chat --system 'Be brief.' 'What is a bus?'
  engine tokenize --model DIR --messages talk.json --json
  engine tokenize --model DIR --decode 1,2,3
  cat story.txt | engine tokenize --model DIR --no-bos --json")]
pub struct TokenizeArgs {
    /// The text
    #[arg(value_name = "TEXT", allow_hyphen_values = true, value_parser = text)]
    #[arg(conflicts_with_all = ["txt_path", "messages", "decode"])]
    pub text: Option<String>,
    /// Directory with config.json and tokenizer.json, or a .gguf file [default: the demo model]
    #[arg(long, short, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Read the text from a file, or from stdin with `-`. One newline at its end is no part of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["decode", "messages"])]
    pub txt_path: Option<PathBuf>,
    #[command(flatten)]
    pub chat: ChatArgs,
    /// Leave out the tokens that the tokenizer adds by itself, like a begin of text
    #[arg(long, conflicts_with_all = ["chat", "system", "messages", "template_kwargs", "template"])]
    #[arg(conflicts_with = "decode")]
    pub no_bos: bool,
    /// Print the text of these token ids, like 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = token)]
    #[arg(conflicts_with_all = ["chat", "system", "messages", "template_kwargs", "template"])]
    pub decode: Option<Vec<u32>>,
    /// One JSON object instead of lines
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

impl TokenizeArgs {
    /// The text, or what makes a conversation of it. If there is neither, stdin is read.
    pub fn input(self) -> (TextInput, Option<ChatInput>) {
        let (messages, chat) = self.chat.input();
        let typed = self.text.map(TextInput::Typed);
        let file = self.txt_path.map(TextInput::at);
        (
            messages.or(typed).or(file).unwrap_or(TextInput::Stdin),
            chat,
        )
    }
}

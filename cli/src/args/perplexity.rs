//! `engine perplexity`: a text, and how it is cut.

use std::path::PathBuf;

use clap::Args;

use super::SetupArgs;
use super::count::{at_least_one, token, window};
use super::prompt::{PromptInput, TextInput};

/// Score how well a model foretells a text
///
/// The text goes through the model in windows; each token is scored by the tokens before it in its
/// window. The lower the number, the better: it is e to the mean of the negative logarithm of each
/// token's probability. Compare models, encodings or cache types on the same text and windows.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine perplexity --txt-path story.txt
  engine perplexity --model DIR --txt-path wiki.txt --window 2048 --stride 512
  engine perplexity --model DIR --txt-path wiki.txt --cache-type f16 --num-gpu-layers 20
  cat wiki.txt | engine perplexity --model DIR --txt-path - --json

A stride shorter than the window gives tokens more to go by, and takes as many more passes. The text
is encoded once, with what the tokenizer adds at its begin; windows after the first begin without it.")]
pub struct PerplexityArgs {
    /// The text, from a file, or from stdin with `-`
    #[arg(long, value_name = "FILE", required_unless_present = "prompt_tokens")]
    #[arg(conflicts_with = "prompt_tokens")]
    pub txt_path: Option<PathBuf>,
    /// The text as token ids, like 1,2,3; needs no tokenizer
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = token)]
    pub prompt_tokens: Option<Vec<u32>>,
    /// Tokens of a window [default: the context]
    #[arg(long, value_name = "TOKENS", value_parser = window)]
    pub window: Option<usize>,
    /// Tokens from the begin of a window to that of the next [default: half a window]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub stride: Option<usize>,
    #[command(flatten)]
    pub setup: SetupArgs,
    /// One JSON object instead of text
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

impl PerplexityArgs {
    pub fn input(&self) -> PromptInput {
        let ids = self.prompt_tokens.clone().unwrap_or_default();
        match self.txt_path.clone() {
            Some(path) => PromptInput::Text(TextInput::at(path), None),
            None => PromptInput::Tokens(ids),
        }
    }
}

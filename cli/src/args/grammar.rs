//! What an answer has to be.

use std::path::PathBuf;

use clap::Args;

use super::prompt::{TextInput, text};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Grammar (what the answer has to be; docs/grammars.md)")]
#[group(multiple = false)]
pub struct GrammarArgs {
    /// Answer with JSON that the schema in this file (- for stdin) describes
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true, value_parser = text)]
    pub regex: Option<String>,
    /// Answer with a text of the Lark grammar in this file (- for stdin), from its rule `start` on
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
}

/// The same, and where it is to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrammarInput {
    Schema(TextInput),
    Regex(String),
    Lark(TextInput),
}

impl GrammarArgs {
    /// `None`: anything may come.
    pub fn input(self) -> Option<GrammarInput> {
        let schema = self
            .json_schema
            .map(TextInput::at)
            .map(GrammarInput::Schema);
        let lark = self.grammar.map(TextInput::at).map(GrammarInput::Lark);
        schema.or(lark).or(self.regex.map(GrammarInput::Regex))
    }
}

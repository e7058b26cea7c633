//! What can go wrong between text and tokens. Variants carry what a caller needs to react;
//! the wording lives here and nowhere else. It must not know how the program prints errors.

use std::io;

use thiserror::Error;

/// An input that a conversation can be wrong in.
pub(crate) const TEMPLATE_ARGUMENTS: &str = "template arguments";

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    #[error("tokenizer.json ({json_bytes} bytes) cannot be used: {reason}")]
    TokenizerJson { json_bytes: usize, reason: String },

    #[error("the tokenizer in {file} cannot be used: {reason}")]
    GgufTokenizer { file: String, reason: String },

    #[error("{file} cannot be used: {reason}")]
    TokenizerConfig { file: &'static str, reason: String },

    #[error("cannot tokenize a text of {text_bytes} bytes: {reason}")]
    Encode { text_bytes: usize, reason: String },

    #[error("cannot turn {tokens} tokens into text: {reason}")]
    Decode { tokens: usize, reason: String },

    #[error("chat template{}: {reason}", at_line(.line))]
    Template { line: Option<usize>, reason: String },

    #[error("the chat template refused these messages: {reason}")]
    TemplateRefused { reason: String },

    #[error("chat template{}: exceeds the limit of {allowed} {unit}", at_line(.line))]
    TemplateLimit {
        line: Option<usize>,
        allowed: u64,
        unit: &'static str,
    },

    #[error("the {input} cannot be used: {reason}")]
    ChatInput { input: &'static str, reason: String },

    #[error(
        "cannot start the thread that renders the chat template ({stack_bytes} bytes of stack)"
    )]
    TemplateThread {
        stack_bytes: usize,
        #[source]
        source: io::Error,
    },

    #[error("{setting} is {value}, it must be {allowed}")]
    Sampling {
        setting: &'static str,
        value: f32,
        allowed: &'static str,
    },

    #[error("a bias is given for token {token}, the model has {logits} tokens, from 0 on")]
    BiasedToken { token: u32, logits: usize },

    #[error("the sampler was made for {expected} logits and got {got}")]
    LogitsLength { expected: usize, got: usize },

    #[error("the logit of token {token} is {value}")]
    NonFiniteLogits { token: u32, value: f32 },

    #[error("all {logits} logits are -inf: there is no token to choose")]
    NothingToSample { logits: usize },

    #[error("stop string {index} is empty")]
    EmptyStopString { index: usize },

    #[error("the {kind} cannot be used: {reason}")]
    Grammar { kind: &'static str, reason: String },

    #[error(
        "a tokenizer of the kind {kind} does not spell texts, and no grammar can hold its tokens"
    )]
    GrammarTokenizer { kind: &'static str },

    #[error("the answer cannot be held to its grammar any longer: {reason}")]
    GrammarLost { reason: String },
}

impl TextError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TokenizerJson { .. } | Self::TokenizerConfig { .. } => {
                "check that the file is complete and comes from the same place as the weights"
            }
            Self::GgufTokenizer { .. } => {
                "give token ids with --prompt-tokens, or fetch another conversion of the model"
            }
            Self::Template { .. } | Self::TemplateLimit { .. } => {
                "give a plain prompt instead of messages, or another chat template"
            }
            Self::TemplateRefused { .. } => {
                "many models accept only user and assistant messages in turn, user first"
            }
            Self::ChatInput { input, .. } if *input == TEMPLATE_ARGUMENTS => {
                "template arguments are a JSON object, like {\"enable_thinking\": false}"
            }
            Self::ChatInput { .. } => {
                "messages are a JSON list like [{\"role\": \"user\", \"content\": \"Hi\"}], or an object \
                 with messages, tools and documents"
            }
            Self::TemplateThread { .. } => {
                "the limit on address space (ulimit -v) may be too low for the stack"
            }
            Self::Sampling { .. } => {
                "temperature 0 is greedy; top_k 0, top_p 1, min_p 0, repetition_penalty 1, \
                 presence_penalty 0 and frequency_penalty 0 are off"
            }
            Self::BiasedToken { .. } => "`engine tokenize` prints the ids of a text",
            Self::NonFiniteLogits { .. } => {
                "the weights may be damaged, or their precision too low for this model"
            }
            Self::LogitsLength { .. } => {
                "make the sampler with the width of the model's output, not of the tokenizer"
            }
            Self::EmptyStopString { .. } => "leave the empty stop string out",
            Self::Encode { .. } | Self::Decode { .. } => {
                "tokenizer.json may be damaged: fetch it again, or give ids with --prompt-tokens"
            }
            Self::Grammar { kind, .. } => match *kind {
                "JSON schema" => {
                    "a simpler schema may do: docs/grammars.md has the keywords that are held to, and \
                     the limits"
                }
                "regular expression" => {
                    "patterns are those of Rust's `regex`, without lookaround and lazy repetition"
                }
                _ => "docs/grammars.md shows how grammars are written",
            },
            Self::GrammarTokenizer { .. } => "leave the grammar out, or take another model",
            Self::GrammarLost { .. } => "a grammar with fewer choices and repetitions may do",
            Self::NothingToSample { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn at_line(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_error_names_its_line() {
        let error = TextError::Template {
            line: Some(3),
            reason: "unexpected `%`".to_owned(),
        };
        assert_eq!(error.to_string(), "chat template line 3: unexpected `%`");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_setting_out_of_range_says_the_range() {
        let error = TextError::Sampling {
            setting: "top_p",
            value: 1.5,
            allowed: "from 0 to 1",
        };
        assert_eq!(error.to_string(), "top_p is 1.5, it must be from 0 to 1");
    }
}

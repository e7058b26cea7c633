//! What an answer may be: a JSON value of a schema, a text that a pattern matches, a language that a
//! grammar describes. A [`Grammar`] is compiled for a [`Vocabulary`]; each sequence has a
//! [`Matcher`] of its own, which says before each token which ones may come. It must not know
//! logits' meaning, models or HTTP.
//!
//! The `llguidance` crate does the work: a lexer whose states are made when they are needed, an
//! Earley parser over its lexemes, and a walk over a tree of the vocabulary. This room sets its
//! limits, checks what goes in, and says what goes wrong in its own words.
//!
//! - A special token may come only where a Lark grammar names it (`<|name|>`, or `<[id]>`).
//! - A token that ends a text may come only where the grammar may end.
//! - Tokens with the same bytes are one: the first that is no single byte's.
//! - Properties of an object come in the order of the schema.
//!
//! A schema or a grammar may come from a stranger. Its size and depth are limited before it is
//! compiled; what compiling it, its states and each token may take is limited by [`limits`]. Where a
//! limit is met, that is an error, and never a mask that allows more.

mod error;
mod matcher;
mod schema;
mod vocabulary;

#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use serde_json::{Value, json};

use super::error::TextError;
use error::refusal;

pub use matcher::Matcher;
pub use schema::embedded;
pub use vocabulary::Vocabulary;

/// A longer pattern or grammar is refused.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Brackets in each other, in a pattern or a grammar: both are read by functions that call
/// themselves.
const NESTED_MAX: usize = 200;

/// What an answer may be, as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// A JSON object, whatever is in it.
    Object,
    /// A JSON value that a JSON schema describes.
    Schema(Value),
    /// A text that a regular expression matches, from its begin to its end.
    Regex(String),
    /// A text of the language that a grammar in Lark's form describes, from its rule `start` on.
    Lark(String),
    /// The same, written by this program: of a format of answers.
    Format(String),
}

impl Rule {
    /// What it is called in errors.
    fn name(&self) -> &'static str {
        match self {
            Self::Object | Self::Schema(_) | Self::Format(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "grammar",
        }
    }
}

/// A rule, compiled for a vocabulary. Cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    begin: Arc<Matcher>,
    took: Duration,
}

impl Grammar {
    pub fn new(vocabulary: &Vocabulary, rule: &Rule) -> Result<Self, TextError> {
        let from = Instant::now();
        let kind = rule.name();
        let source = match rule {
            Rule::Object => schema::checked(&json!({"type": "object"})),
            Rule::Schema(schema) => schema::checked(schema),
            Rule::Regex(pattern) => text(pattern).map(GrammarWithLexer::from_regex),
            Rule::Lark(lark) => text(lark).map(|lark| GrammarWithLexer::from_lark(lark.to_owned())),
            Rule::Format(lark) => Ok(GrammarWithLexer::from_lark(lark.clone())),
        };
        let source = source.map_err(|reason| refusal(kind, reason))?;
        let parser = vocabulary.parser(TopLevelGrammar::from_grammar(source));
        let parser = parser.map_err(|reason| refusal(kind, reason))?;
        let begin = Matcher::new(vocabulary, parser).map_err(|reason| refusal(kind, reason))?;
        Ok(Self {
            begin: Arc::new(begin),
            took: from.elapsed(),
        })
    }

    /// At the begin of an answer.
    pub fn matcher(&self) -> Matcher {
        self.begin.fork()
    }

    /// What compiling it took.
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// Two are the same only if one was cloned from the other.
impl PartialEq for Grammar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.begin, &other.begin)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar")
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}

fn text(source: &str) -> Result<&str, String> {
    if source.len() > SOURCE_BYTES_MAX {
        let bytes = source.len();
        return Err(format!(
            "it has {bytes} bytes, {SOURCE_BYTES_MAX} is the most"
        ));
    }
    // Brackets within strings count too: a limit need not be exact.
    let mut open: usize = 0;
    let mut bytes = source.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > NESTED_MAX {
            return Err(format!("its brackets nest more than {NESTED_MAX} deep"));
        }
    }
    Ok(source)
}

/// What one grammar may take. The crate says what a unit costs: 50,000 of the first fuel and 14,000
/// of the second are a millisecond, as are 20,000 items; a state of the lexer has one to two
/// kilobytes.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 2_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        max_lexer_states: 25_000,
        max_grammar_size: 250_000,
        // It would walk the whole vocabulary while others wait.
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

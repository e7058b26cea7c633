//! What the crate says went wrong, in the words of this program. It must not know how it is shown.

use std::fmt::Display;

use super::super::error::TextError;

/// More of what went wrong is cut off: a schema may be quoted in it.
const REASON_CHARS_MAX: usize = 300;

/// Where words for the user end: states, traces, and advice about the crate's own options.
const ENDS: [&str; 4] = ["<state>", "<non-verbose/>", "<backtrace>", ". Enable "];

pub(super) fn refusal(kind: &'static str, reason: String) -> TextError {
    TextError::Grammar { kind, reason }
}

/// An error of the crate and its causes, in one line.
pub(super) fn in_words(error: &impl Display) -> String {
    // With its causes, as `anyhow` writes them.
    let error = format!("{error:#}");
    let end = ENDS.iter().filter_map(|mark| error.find(mark)).min();
    let told = &error[..end.unwrap_or(error.len())];
    if let Some(panic) = told.strip_prefix("panic: ") {
        let first = panic.lines().next().unwrap_or_default();
        return shorter(&format!("it cannot be compiled ({first})"));
    }
    let words: Vec<&str> = told.split_whitespace().collect();
    let words = words.join(" ");
    shorter(&words.replace("Unimplemented keys: ", "keywords that are not supported: "))
}

fn shorter(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

//! Where numbers come from: without it they say little a month later.

use serde::Serialize;

/// The same fields in every report, whatever command made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub version: String,
    /// `None` where the program was not built from a repository.
    pub commit: Option<String>,
    /// When it began: day and time, in UTC.
    pub date: String,
    /// As it was typed.
    pub command: String,
    /// Of the draws; `None` where nothing was drawn.
    pub seed: Option<u64>,
    pub machine: String,
}

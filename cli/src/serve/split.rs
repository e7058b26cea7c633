//! An answer's text, split into what is told apart: reasoning, text, calls of tools. The one place
//! that knows how; answers only pass on what comes of it.

use super::ask::Piece;

/// Of one answer.
#[derive(Debug)]
pub struct Split {
    called: bool,
}

impl Split {
    pub fn new(_template_source: &str, _rendered_prompt: &str, _has_tools: bool) -> Self {
        Self { called: false }
    }

    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// No more text comes.
    pub fn finish(&mut self, _pieces: &mut Vec<Piece>) {}

    /// Whether it called a tool.
    pub fn called(&self) -> bool {
        self.called
    }
}

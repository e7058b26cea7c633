//! OpenAI's responses API, which Codex-like clients speak: a request becomes an ask, the pieces of
//! an answer become items and events. Nothing is stored: a conversation comes whole with each
//! request.

pub mod answer;
mod input;
pub mod input_tokens;
mod items;
mod request;

pub use answer::Answer;
#[cfg(test)]
use request::read;
pub use request::{Shape, read_fields};

#[cfg(test)]
mod tests;

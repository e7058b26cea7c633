//! Anthropic's messages API, which Claude-Code-like clients speak: a request becomes an ask, the
//! pieces of an answer become content blocks and events, and tokens are counted for a request as it
//! would be asked.

pub mod answer;
mod blocks;
pub mod count_tokens;
mod request;
mod tools;

pub use answer::Answer;
#[cfg(test)]
use request::read;
pub use request::{Shape, read_fields};

#[cfg(test)]
mod tests;

//! Tokens out: passes that are over, and the text that they make.

pub(crate) mod generation;
pub(crate) mod past;

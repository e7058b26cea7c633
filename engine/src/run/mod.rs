//! Passes over a model, the sequences that they are made for, and the text that comes of them.

pub(crate) mod continuation;
pub(crate) mod generation;
pub(crate) mod passes;
pub(crate) mod past;
pub(crate) mod schedule;
pub(crate) mod sequence;
pub(crate) mod session;

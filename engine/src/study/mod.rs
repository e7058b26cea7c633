//! Several runs of a model, compared: what limits it, and which plan makes the most of a machine.

pub(crate) mod checkup;
pub mod diagnosis;
pub(crate) mod perplexity;
pub(crate) mod together;
pub(crate) mod trial;
pub(crate) mod tuning;

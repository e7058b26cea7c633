//! The APIs that clients speak: each translates requests into asks, and pieces of answers into
//! events.

pub mod conversation;
pub mod errors;
pub mod events;
pub mod fields;
pub mod form;
pub mod messages;
pub mod notes;
pub mod refuse;
pub mod responses;
pub mod sampling;
pub mod tools;
pub mod usage;

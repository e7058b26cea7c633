//! The server: what an API makes of requests and answers, and what carries them.

pub mod api;
pub mod ask;

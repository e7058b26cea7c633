//! What the engine takes for granted of a CUDA device, asked of whichever is there: a real one, or
//! the stand-in of `bench/cuda-stand-in`, which shows wrong orders more readily and measures
//! nothing.

#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod coded_speech;
mod counts;
#[path = "../support/numbers.rs"]
mod numbers;
mod operations;
mod selection;
mod speech;
mod stand_in;
mod streams;
mod tokens;

//! The server from the outside, over TCP as clients meet it. One crate, one link.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod client;
mod end;
mod figures;
mod held;
mod hostile;
mod ids;
mod served;
mod shapes;
mod spoken;
mod tools;

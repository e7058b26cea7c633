//! The built binary from the outside, as a user and a script meet it. One crate, one link.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod bench;
mod c2c;
mod chat;
mod common;
#[path = "../../../engine/tests/corpus/corpus.rs"]
mod corpus;
mod diagnose;
#[cfg(unix)]
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod files;
mod flags;
mod generate;
mod grammar;
#[cfg(target_os = "linux")]
mod interrupts;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod live;
mod malformed;
#[cfg(target_os = "linux")]
mod memory;
mod origin;
#[cfg(target_os = "linux")]
mod perplexity;
mod process;
mod repl;
#[cfg(target_os = "linux")]
mod repl_terminal;
#[cfg(target_os = "linux")]
mod shim;
mod speak;
mod streamed;
#[cfg(target_os = "linux")]
mod terminal;
mod tools;
mod tune;
#[cfg(unix)]
mod under_way;
mod verify;

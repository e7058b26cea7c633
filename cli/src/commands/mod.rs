//! One file a subcommand; each is a function from arguments to output.

pub mod bench;
pub mod c2c;
pub mod chat;
pub mod checksum;
pub mod completions;
pub mod devices;
pub mod diagnose;
mod executed;
mod files;
pub mod generate;
pub mod inspect;
mod live;
pub mod logits;
mod origin;
mod panel;
pub mod perplexity;
pub mod plan;
mod preface;
mod profile;
mod report;
pub mod serve;
#[cfg(feature = "profiling")]
pub mod spans;
pub mod speak;
pub mod synth;
mod telling;
pub mod tokenize;
pub mod tune;
mod unread;

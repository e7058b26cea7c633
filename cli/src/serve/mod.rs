//! The server: a listener, the APIs that clients speak, and one thread that the model runs on.
//! Requests reach that thread through a bounded channel, and what becomes of them comes back over
//! one channel each. It must not know how weights move or what computes.

mod answer;
mod api;
mod ask;
mod body;
mod door;
mod failure;
mod guard;
mod held;
mod listener;
mod log;
mod metrics;
mod openai;
mod openapi;
mod page;
mod panel;
mod prepare;
mod routes;
mod server;
mod split;
mod spoken;
mod sse;
mod texts;
mod tokens;
mod worker;

pub use door::Order;
pub use listener::{Ended, listen};
pub use log::Log;
pub use server::{Ready, Server, Settings};
pub use texts::Texts;
pub use worker::work;

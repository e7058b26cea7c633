//! The chat completions and completions APIs: requests to asks, pieces of answers to choices. They
//! know no tokens and no model.

pub mod chat;
pub mod completions;
pub mod conversation;
pub mod request;
pub mod usage;

use serde_json::Value;

use super::api::notes::Notes;
use super::ask::{Ask, Finish};

/// A request that was read.
#[derive(Debug)]
pub struct Asked {
    /// They differ in their prompts alone.
    pub asks: Vec<Ask>,
    pub stream: Option<StreamOptions>,
    /// What has no effect.
    pub notes: Notes,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct StreamOptions {
    pub usage: bool,
    pub progress: bool,
}

/// JSON has no infinity: a token that was impossible is this likely.
fn logprob(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Done | Finish::Stopped(_) => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::Calls => "tool_calls",
    }
}

/// What all choices of a response have around them.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub id: String,
    pub created: u64,
    pub model: String,
    /// The tokens of the prompts, where ids were asked for.
    pub prompts: Option<Vec<Vec<u32>>>,
    /// How many choices share a prompt.
    pub answers: usize,
    pub peak_gbps: Option<f64>,
}

impl Envelope {
    fn of(&self, object: &str, choices: Vec<Value>) -> Value {
        serde_json::json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

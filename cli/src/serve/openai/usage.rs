//! What answers took: tokens as clients of these APIs count them.

use engine::Account;
use serde_json::{Value, json};

use super::Envelope;
use crate::serve::api::usage::engine;

/// Of all answers of a response; those to one prompt share its tokens.
pub fn usage(envelope: &Envelope, accounts: &[Account]) -> Value {
    let prompts = accounts.iter().step_by(envelope.answers.max(1));
    let prompt: usize = prompts.clone().map(|account| account.prompt_tokens).sum();
    let cached: usize = prompts.map(|account| account.cached_tokens).sum();
    let generated: usize = accounts
        .iter()
        .map(|account| account.generated_tokens)
        .sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
        "engine": engine(accounts, envelope.peak_gbps),
    })
}

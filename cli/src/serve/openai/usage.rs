//! What answers took: tokens as every client counts them, and what only this server knows of passes
//! and the link.

use engine::Account;
use serde_json::{Value, json};

use super::Envelope;
use crate::serve::metrics::{link_gbps, tokens_per_s};

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
        "engine": timings(accounts, envelope.peak_gbps),
    })
}

/// Answers run together and share passes: of each figure the largest is told.
pub fn timings(accounts: &[Account], peak_gbps: Option<f64>) -> Value {
    let ms = |of: fn(&Account) -> std::time::Duration| {
        let longest = accounts.iter().map(of).max().unwrap_or_default();
        round(longest.as_secs_f64() * 1e3)
    };
    let most =
        |of: fn(&Account) -> Option<f64>| accounts.iter().filter_map(of).max_by(f64::total_cmp);
    let gbps = most(link_gbps);
    let share = gbps.zip(peak_gbps).map(|(gbps, peak)| gbps / peak);
    json!({
        "queue_ms": ms(|account| account.queued),
        "prompt_ms": ms(|account| account.prompt),
        "tokens_per_s": most(tokens_per_s).map(round),
        "stall_ms": ms(|account| account.stalled),
        "link_bytes": accounts.iter().map(|account| account.link_bytes).max(),
        "link_gbps": gbps.map(round),
        "link_share": share.map(round),
    })
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

//! What an answer took, in the words of each API, and what only this engine tells: `usage.engine`.

use std::time::Duration;

use engine::Account;
use serde_json::{Value, json};

use crate::serve::metrics::{link_gbps, tokens_per_s};

/// The extension of every API's `usage`. Answers run together and share passes: of each figure the
/// largest is told. `peak_gbps`: what the link reaches alone, where layers are streamed. Null: nothing
/// tells it.
pub fn engine(accounts: &[Account], peak_gbps: Option<f64>) -> Value {
    let ms = |of: fn(&Account) -> Duration| {
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
        "mask_ms": ms(|account| account.masking),
        "stall_ms": ms(|account| account.stalled),
        "link_bytes": accounts.iter().map(|account| account.link_bytes).max(),
        "link_gbps": gbps.map(round),
        "link_share": share.map(round),
    })
}

/// `usage` of OpenAI's responses API.
pub fn of_responses(account: &Account, peak_gbps: Option<f64>) -> Value {
    json!({
        "input_tokens": account.prompt_tokens,
        "input_tokens_details": {"cached_tokens": account.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": account.generated_tokens,
        // Nothing counts the tokens of reasoning apart.
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": account.prompt_tokens + account.generated_tokens,
        "engine": engine(&[*account], peak_gbps),
    })
}

/// `usage` of Anthropic's messages API, where the tokens that were there already are no part of
/// `input_tokens`.
pub fn of_messages(account: &Account, peak_gbps: Option<f64>) -> Value {
    json!({
        "input_tokens": account.prompt_tokens.saturating_sub(account.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": account.cached_tokens,
        "output_tokens": account.generated_tokens,
        "engine": engine(&[*account], peak_gbps),
    })
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const PEAK_GBPS: Option<f64> = Some(2.0);

    pub fn account() -> Account {
        Account {
            prompt_tokens: 100,
            cached_tokens: 64,
            generated_tokens: 11,
            queued: Duration::from_micros(1500),
            prompt: Duration::from_millis(20),
            generating: Duration::from_millis(2500),
            masking: Duration::from_micros(2500),
            stalled: Duration::from_millis(750),
            link_bytes: 6_000_000_000,
            passes: Duration::from_secs(4),
        }
    }

    pub fn engine_of_account() -> Value {
        json!({
            "queue_ms": 1.5, "prompt_ms": 20.0, "tokens_per_s": 4.0, "mask_ms": 2.5, "stall_ms": 750.0,
            "link_bytes": 6_000_000_000_u64, "link_gbps": 1.5, "link_share": 0.75,
        })
    }

    #[test]
    fn the_extension_tells_what_an_answer_took() {
        assert_eq!(engine(&[account()], PEAK_GBPS), engine_of_account());
    }

    #[test]
    fn a_rate_that_nothing_tells_is_null() {
        let one = Account {
            generated_tokens: 1,
            ..Account::default()
        };
        let wanted = json!({
            "queue_ms": 0.0, "prompt_ms": 0.0, "tokens_per_s": null, "mask_ms": 0.0, "stall_ms": 0.0,
            "link_bytes": 0, "link_gbps": null, "link_share": null,
        });
        assert_eq!(engine(&[one], PEAK_GBPS), wanted);
        assert_eq!(engine(&[account()], None)["link_share"], Value::Null);
    }

    #[test]
    fn each_api_counts_in_its_own_way() {
        let responses = of_responses(&account(), PEAK_GBPS);
        assert_eq!(responses["input_tokens"], 100);
        assert_eq!(responses["input_tokens_details"]["cached_tokens"], 64);
        assert_eq!(responses["total_tokens"], 111);
        let messages = of_messages(&account(), PEAK_GBPS);
        assert_eq!(messages["input_tokens"], 36);
        assert_eq!(messages["cache_read_input_tokens"], 64);
        assert_eq!(messages["output_tokens"], 11);
    }
}

//! What an answer took, in the words of each API, and what only this engine tells: `usage.engine`.

use std::time::Duration;

use engine::Account;
use serde_json::{Map, Value, json};

/// The extension of every API's `usage`.
pub fn engine(account: &Account) -> Value {
    let mut told = Map::new();
    let mut put = |name: &str, value: Value| {
        told.insert(name.to_owned(), value);
    };
    put("queue_ms", milliseconds(account.queued));
    put("prompt_ms", milliseconds(account.prompt));
    // From the first token to the last there is one step less than there are tokens.
    let steps = account.generated_tokens.saturating_sub(1);
    put("tokens_per_s", rate(steps as f64, account.generating));
    put("stall_ms", milliseconds(account.stalled));
    put("link_bytes", json!(account.link_bytes));
    put(
        "link_gbps",
        rate(account.link_bytes as f64 / 1e9, account.passes),
    );
    Value::Object(told)
}

/// `usage` of OpenAI's responses API.
pub fn of_responses(account: &Account) -> Value {
    json!({
        "input_tokens": account.prompt_tokens,
        "input_tokens_details": {"cached_tokens": account.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": account.generated_tokens,
        // Nothing counts the tokens of reasoning apart.
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": account.prompt_tokens + account.generated_tokens,
        "engine": engine(account),
    })
}

/// `usage` of Anthropic's messages API, where the tokens that were there already are no part of
/// `input_tokens`.
pub fn of_messages(account: &Account) -> Value {
    json!({
        "input_tokens": account.prompt_tokens.saturating_sub(account.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": account.cached_tokens,
        "output_tokens": account.generated_tokens,
        "engine": engine(account),
    })
}

fn milliseconds(time: Duration) -> Value {
    json!(round(time.as_secs_f64() * 1e3))
}

/// Null: nothing tells it.
fn rate(amount: f64, time: Duration) -> Value {
    let seconds = time.as_secs_f64();
    let known = amount > 0.0 && seconds > 0.0;
    json!(known.then(|| round(amount / seconds)))
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn account() -> Account {
        Account {
            prompt_tokens: 100,
            cached_tokens: 64,
            generated_tokens: 11,
            queued: Duration::from_micros(1500),
            prompt: Duration::from_millis(20),
            generating: Duration::from_millis(2500),
            stalled: Duration::from_millis(750),
            link_bytes: 6_000_000_000,
            passes: Duration::from_secs(4),
        }
    }

    pub fn engine_of_account() -> Value {
        json!({
            "queue_ms": 1.5, "prompt_ms": 20.0, "tokens_per_s": 4.0, "stall_ms": 750.0,
            "link_bytes": 6_000_000_000_u64, "link_gbps": 1.5,
        })
    }

    #[test]
    fn the_extension_tells_what_an_answer_took() {
        assert_eq!(engine(&account()), engine_of_account());
    }

    #[test]
    fn a_rate_that_nothing_tells_is_null() {
        let one = Account {
            generated_tokens: 1,
            ..Account::default()
        };
        let wanted = json!({
            "queue_ms": 0.0, "prompt_ms": 0.0, "tokens_per_s": null, "stall_ms": 0.0,
            "link_bytes": 0, "link_gbps": null,
        });
        assert_eq!(engine(&one), wanted);
    }

    #[test]
    fn each_api_counts_in_its_own_way() {
        let responses = of_responses(&account());
        assert_eq!(responses["input_tokens"], 100);
        assert_eq!(responses["input_tokens_details"]["cached_tokens"], 64);
        assert_eq!(responses["total_tokens"], 111);
        let messages = of_messages(&account());
        assert_eq!(messages["input_tokens"], 36);
        assert_eq!(messages["cache_read_input_tokens"], 64);
        assert_eq!(messages["output_tokens"], 11);
    }
}

//! An event of a streamed answer, and what a token's likelihood looks like in it. It doesn't know
//! how events travel.

use engine::text::Logprob;
use serde_json::{Value, json};

use crate::serve::ask::Likely;

/// What JSON has in place of minus infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `event:`, where the API has one.
    pub name: Option<&'static str>,
    pub data: Value,
}

/// A token's likelihood in the form of OpenAI's APIs.
pub fn likely(likely: &Likely) -> Value {
    let entry = |logprob: &Logprob, bytes: &[u8]| {
        json!({
            "token": String::from_utf8_lossy(bytes),
            "logprob": logprob.logprob.max(IMPOSSIBLE),
            "bytes": bytes,
        })
    };
    let tops = likely.logprobs.top.iter().zip(&likely.top_bytes);
    let tops: Vec<Value> = tops.map(|(top, bytes)| entry(top, bytes)).collect();
    let mut whole = entry(&likely.logprobs.chosen, &likely.bytes);
    whole["top_logprobs"] = tops.into();
    whole
}

/// Appends the events of a test, and the answer as a whole, to the file that DUMP names, a line for
/// each stream: clients' own packages read them there (`bench/clients/shapes.py`).
#[cfg(test)]
pub fn dump(api: &str, events: &[Event], whole: &Value) {
    use std::io::Write;

    let Some(path) = std::env::var_os("DUMP") else {
        return;
    };
    let events: Vec<Value> = events
        .iter()
        .map(|event| json!({"event": event.name, "data": event.data}))
        .collect();
    let line = format!(
        "{}\n",
        json!({"api": api, "events": events, "whole": whole})
    );
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

#[cfg(test)]
mod tests {
    use engine::text::Logprobs;

    use super::*;

    #[test]
    fn a_likelihood_is_json_whatever_it_is() {
        let logprob = |token, logprob| Logprob { token, logprob };
        let told = likely(&Likely {
            logprobs: Logprobs {
                chosen: logprob(7, f32::NEG_INFINITY),
                top: vec![logprob(8, -0.5)],
            },
            bytes: vec![0xe2, 0x82],
            top_bytes: vec![b"a".to_vec()],
        });
        let top = json!({"token": "a", "logprob": -0.5, "bytes": [97]});
        let wanted = json!({
            "token": "\u{fffd}", "logprob": -9999.0, "bytes": [226, 130], "top_logprobs": [top],
        });
        assert_eq!(told, wanted);
    }
}

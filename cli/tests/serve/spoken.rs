//! The responses and messages APIs, whole and streamed.

use std::io::Write;

use serde_json::{Value, json};

use crate::client::{self, Stream};
use crate::served::Served;

/// Events with their names; the name is in the data, too.
fn events(served: &Served, path: &str, body: &Value) -> Vec<Value> {
    let body = body.to_string();
    let request = client::text("POST", path, &[], body.as_bytes());
    let mut stream = Stream::open(served.address, &request);
    assert_eq!(stream.status, 200);
    let mut events = Vec::new();
    while let Some(data) = stream.next() {
        events.push(serde_json::from_str(&data).unwrap());
    }
    events
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

#[test]
fn a_response_is_whole_or_comes_in_events() {
    let served = Served::chatty("");
    let body = json!({"input": "w7 w8", "max_output_tokens": 9, "instructions": "w9"});
    let whole = served.post("/v1/responses", &body).ok().json();
    assert_eq!(
        (&whole["object"], &whole["status"]),
        (&json!("response"), &json!("incomplete"))
    );
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty(), "{whole}");
    assert_eq!(whole["usage"]["output_tokens"], 9);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = events(&served, "/v1/responses", &streamed);
    assert_eq!(events[0]["type"], "response.created");
    let deltas = of_kind(&events, "response.output_text.delta");
    let joined: String = deltas
        .iter()
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    let last = events.last().unwrap();
    assert_eq!(
        last["response"]["output"][0]["content"],
        whole["output"][0]["content"]
    );
    let reply = served.post(
        "/v1/responses",
        &json!({"input": "w7", "previous_response_id": "a"}),
    );
    reply.refuses(400, "previous_response_id");
}

#[test]
fn a_message_is_whole_or_comes_in_events() {
    let served = Served::chatty("");
    let body = json!({
        "messages": [{"role": "user", "content": "w7 w8"}],
        "system": "w9", "max_tokens": 9, "model": "any",
    });
    let whole = served.post("/v1/messages", &body).ok().json();
    assert_eq!(
        (&whole["type"], &whole["model"]),
        (&json!("message"), &json!("any"))
    );
    assert_eq!(whole["stop_reason"], "max_tokens");
    let text = whole["content"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty(), "{whole}");
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let told = events(&served, "/v1/messages", &streamed);
    assert_eq!(told[0]["type"], "message_start");
    assert_eq!(told.last().unwrap()["type"], "message_stop");
    let deltas = of_kind(&told, "content_block_delta");
    let joined: String = deltas
        .iter()
        .map(|event| event["delta"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    let mut counted = body;
    counted.as_object_mut().unwrap().remove("max_tokens");
    let counted = served
        .post("/v1/messages/count_tokens", &counted)
        .ok()
        .json();
    assert_eq!(counted["input_tokens"], whole["usage"]["input_tokens"]);
    // Also of what is too long to be answered.
    let words = vec!["w7"; 600].join(" ");
    let long = json!({"messages": [{"role": "user", "content": words}]});
    let counted = served.post("/v1/messages/count_tokens", &long).ok().json();
    assert_eq!(counted["input_tokens"], 602);
}

#[test]
fn a_begun_answer_goes_on() {
    let served = Served::chatty("");
    let talk = |messages: Value| {
        let reply = served.post(
            "/v1/messages",
            &json!({"messages": messages, "max_tokens": 4}),
        );
        reply.ok().json()["usage"]["input_tokens"].clone()
    };
    let user = json!({"role": "user", "content": "w7"});
    assert_eq!(talk(json!([user])), 3);
    // Its role and its text, and nothing that opens another answer.
    assert_eq!(
        talk(json!([user, {"role": "assistant", "content": "w8 w9"}])),
        5
    );
}

#[test]
fn what_a_client_names_stops_it() {
    let served = Served::chatty("");
    let body = |stops: Value| {
        json!({
            "messages": [{"role": "user", "content": "w7"}], "max_tokens": 9, "stop_sequences": stops,
        })
    };
    let whole = served.post("/v1/messages", &body(json!([]))).ok().json();
    let text = whole["content"][0]["text"].as_str().unwrap();
    let word = text.split(' ').nth(2).unwrap();
    let told = served
        .post("/v1/messages", &body(json!(["never", word, "said"])))
        .ok()
        .json();
    assert_eq!(told["stop_reason"], "stop_sequence");
    assert_eq!(told["stop_sequence"], word);
}

#[test]
fn refusals_have_the_form_of_their_clients() {
    let served = Served::start(
        Some(crate::served::chatty()),
        "--context 64",
        &[("ENGINE_API_KEY", "k")],
    );
    let post =
        |path: &str, key: &str, body: &Value| served.post_with(path, &[("x-api-key", key)], body);
    let words = vec!["w7"; 100].join(" ");
    let long = json!({"messages": [{"role": "user", "content": words}], "max_tokens": 1});
    let reply = post("/v1/messages", "k", &long);
    assert_eq!(reply.status, 400);
    let told = reply.json();
    assert_eq!(
        (&told["type"], &told["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    let words = "prompt is too long: 102 tokens > 64 maximum";
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with(words),
        "{told}"
    );
    let wrong = post("/v1/messages", "x", &long);
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.json()["error"]["type"], "authentication_error");
    let mut stream = client::connect(served.address);
    stream
        .write_all(b"POST /v1/messages/none HTTP/1.1\r\nhost: localhost\r\nx-api-key: k\r\n\r\n")
        .unwrap();
    let missing = client::read(&mut std::io::BufReader::new(stream));
    assert_eq!(
        (missing.status, &missing.json()["error"]["type"]),
        (404, &json!("not_found_error"))
    );
    assert_eq!(
        post("/v1/responses", "x", &long).json()["error"]["code"],
        "invalid_api_key"
    );
}

#[test]
fn what_an_answer_took_is_told_in_every_api() {
    let served = Served::start(Some(crate::served::chatty()), "--num-gpu-layers 0", &[]);
    let talk = json!([{"role": "user", "content": "w7"}]);
    let told = |path: &str, body: Value| served.post(path, &body).ok().json()["usage"].clone();
    for usage in [
        told(
            "/v1/chat/completions",
            json!({"messages": talk, "max_tokens": 4}),
        ),
        told("/v1/completions", json!({"prompt": "w7", "max_tokens": 4})),
        told(
            "/v1/responses",
            json!({"input": talk, "max_output_tokens": 4}),
        ),
        told("/v1/messages", json!({"messages": talk, "max_tokens": 4})),
    ] {
        let engine = &usage["engine"];
        assert!(engine["link_bytes"].as_u64().unwrap() > 0, "{usage}");
        let peak = served.figure("engine_link_peak_gigabytes_per_second");
        let share = engine["link_gbps"].as_f64().unwrap() / peak;
        let off = engine["link_share"].as_f64().unwrap() - share;
        // Both are told to three digits.
        assert!(off.abs() < 0.002 + 0.001 / peak, "{usage}, {peak}");
    }
}

//! Calls of tools and thoughts, told apart from the text in every API.

use serde_json::{Value, json};

use crate::client::{self, Stream};
use crate::served::{CALL, Served, THOUGHT};

const CHAT: &str = "/v1/chat/completions";

fn bias(token: u32) -> Value {
    json!({token.to_string(): 100})
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    json!([{"type": "function", "function": {"name": "look", "parameters": parameters}}])
}

fn ask(token: u32, tokens: usize) -> Value {
    json!({
        "messages": [{"role": "user", "content": "w7"}],
        "tools": tools(), "logit_bias": bias(token), "max_tokens": tokens,
    })
}

#[test]
fn calls_are_told_with_their_arguments() {
    let served = Served::chatty("");
    let whole = served.post(CHAT, &ask(CALL, 2)).ok().json();
    let message = &whole["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "{whole}");
    for call in calls {
        assert_eq!(call["function"]["name"], "look");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let read: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(read, json!({"z": 1, "a": "b"}));
    }
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    // The same in pieces.
    let mut streamed = ask(CALL, 2);
    streamed["stream"] = true.into();
    let events = served.stream(CHAT, &streamed).rest();
    let (mut names, mut arguments) = (Vec::new(), vec![String::new(); 2]);
    for event in &events {
        let delta = &event["choices"][0]["delta"]["tool_calls"][0];
        let Some(index) = delta["index"].as_u64() else {
            continue;
        };
        if let Some(name) = delta["function"]["name"].as_str() {
            names.push(name.to_owned());
        }
        arguments[index as usize].push_str(delta["function"]["arguments"].as_str().unwrap());
    }
    assert_eq!(names, ["look", "look"]);
    for (call, joined) in calls.iter().zip(arguments) {
        assert_eq!(call["function"]["arguments"], joined);
    }
}

#[test]
fn without_tools_the_same_words_are_a_text() {
    let served = Served::chatty("");
    let mut body = ask(CALL, 1);
    body["tool_choice"] = "none".into();
    let whole = served.post(CHAT, &body).ok().json();
    let message = &whole["choices"][0]["message"];
    assert!(message.get("tool_calls").is_none(), "{whole}");
    assert!(
        message["content"]
            .as_str()
            .unwrap()
            .starts_with("<tool_call>")
    );
}

#[test]
fn thoughts_are_told_apart() {
    let served = Served::chatty("");
    let whole = served.post(CHAT, &ask(THOUGHT, 1)).ok().json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("hm"), &json!("yes"))
    );
    let mut streamed = ask(THOUGHT, 1);
    streamed["stream"] = true.into();
    let events = served.stream(CHAT, &streamed).rest();
    let of = |name: &str| -> String {
        let deltas = events
            .iter()
            .map(|event| &event["choices"][0]["delta"][name]);
        deltas.filter_map(Value::as_str).collect()
    };
    assert_eq!(
        (of("reasoning_content"), of("content")),
        ("hm".to_owned(), "yes".to_owned())
    );
}

#[test]
fn a_call_and_what_it_gave_go_back_into_the_conversation() {
    let served = Served::chatty("");
    let call = |arguments: &str| {
        json!({"messages": [
            {"role": "user", "content": "w7"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "look", "arguments": arguments}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "w8"},
        ], "max_tokens": 1})
    };
    served.post(CHAT, &call("{\"z\": 1}")).ok();
    // What is no object is a text, and no reason to refuse the conversation.
    for odd in ["[1]", "{\"z\": "] {
        served.post(CHAT, &call(odd)).ok();
    }
}

#[test]
fn kinds_of_tools_that_nothing_runs_are_named() {
    let served = Served::chatty("");
    let mut body = ask(CALL, 1);
    body["tools"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "web_search"}));
    let reply = served.post(CHAT, &body).ok();
    assert_eq!(reply.header("x-engine-withheld-tools"), Some("web_search"));
}

#[test]
fn progress_comes_where_it_was_asked_for() {
    let served = Served::chatty("--prefill-chunk 8");
    let words = vec!["w7"; 30].join(" ");
    let told = |options: Value| {
        let body = json!({
            "messages": [{"role": "user", "content": words}], "max_tokens": 1,
            "stream": true, "stream_options": options,
        });
        let request = client::text("POST", CHAT, &[], body.to_string().as_bytes());
        let events = Stream::open(served.address, &request).rest();
        let read = events
            .iter()
            .filter_map(|event| event["engine"]["prompt"]["read"].as_u64());
        read.collect::<Vec<_>>()
    };
    assert_eq!(told(json!({})), Vec::<u64>::new());
    // Another conversation has not seen this one yet.
    let read = told(json!({"include_progress": true}));
    assert!(!read.is_empty() && read.is_sorted(), "{read:?}");
}

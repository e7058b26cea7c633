//! Answers that are held to what a client asked for, in every API: JSON, a schema, a call that has to
//! come, one call and no second. The demo model knows none of it, so a right answer is no luck.

use serde_json::{Value, json};

use crate::served::Served;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 31},
        "kind": {"$ref": "#/$defs/kind"}},
        "required": ["n", "kind"], "additionalProperties": false,
        "$defs": {"kind": {"enum": ["sun", "rain"]}}})
}

fn is_right(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    (1..=31).contains(&value["n"].as_u64().unwrap())
        && ["sun", "rain"].contains(&value["kind"].as_str().unwrap())
}

fn user() -> Value {
    json!([{"role": "user", "content": "The weather?"}])
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": schema()}})
}

fn chat(more: Value) -> Value {
    let mut body = json!({"messages": user(), "max_tokens": 200, "temperature": 1, "seed": 3});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_schema_holds_in_every_api() {
    let served = Served::demo("--context 512");
    let format = json!({"type": "json_schema", "json_schema":
        {"name": "weather", "strict": true, "schema": schema()}});
    for seed in 0..3 {
        let body = chat(json!({"response_format": format, "seed": seed}));
        let whole = served.post(CHAT, &body).ok().json();
        let choice = &whole["choices"][0];
        assert!(
            is_right(choice["message"]["content"].as_str().unwrap()),
            "{whole}"
        );
        assert_eq!(choice["finish_reason"], "stop");
        assert!(whole["usage"]["engine"]["mask_ms"].as_f64().unwrap() > 0.0);
    }
    let body = json!({"prompt": "The weather: ", "max_tokens": 200, "response_format": format});
    let whole = served.post(TEXT, &body).ok().json();
    assert!(
        is_right(whole["choices"][0]["text"].as_str().unwrap()),
        "{whole}"
    );

    let format = json!({"type": "json_schema", "name": "weather", "schema": schema()});
    let body =
        json!({"input": "The weather?", "max_output_tokens": 200, "text": {"format": format}});
    let whole = served.post(RESPONSES, &body).ok().json();
    let said = &whole["output"][0]["content"][0]["text"];
    assert!(is_right(said.as_str().unwrap()), "{whole}");
    assert_eq!(whole["text"]["format"], format);

    let body = json!({"messages": user(), "max_tokens": 200,
        "output_config": {"format": {"type": "json_schema", "schema": schema()}}});
    let whole = served.post(MESSAGES, &body).ok().json();
    assert!(
        is_right(whole["content"][0]["text"].as_str().unwrap()),
        "{whole}"
    );
    assert_eq!(whole["stop_reason"], "end_turn");
}

#[test]
fn an_object_is_one_as_far_as_it_came() {
    let served = Served::demo("--context 512");
    let body = chat(json!({"response_format": {"type": "json_object"}, "max_tokens": 40}));
    let whole = served.post(CHAT, &body).ok().json();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.trim_start().starts_with('{'), "{whole}");
    if whole["choices"][0]["finish_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
    }
}

#[test]
fn a_call_that_has_to_come_comes() {
    let served = Served::demo("--context 512");
    let tools = json!([function("look"), function("listen")]);
    let named = json!({"type": "function", "function": {"name": "listen"}});
    for (choice, name) in [(json!("required"), None), (named, Some("listen"))] {
        let body =
            chat(json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false}));
        let whole = served.post(CHAT, &body).ok().json();
        let message = &whole["choices"][0]["message"];
        let calls = message["tool_calls"]
            .as_array()
            .unwrap_or_else(|| panic!("{whole}"));
        assert_eq!(calls.len(), 1);
        let called = calls[0]["function"]["name"].as_str().unwrap();
        assert!(name.map_or(["look", "listen"].contains(&called), |name| name == called));
        assert!(is_right(
            calls[0]["function"]["arguments"].as_str().unwrap()
        ));
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    }
    let body = json!({"input": "x", "max_output_tokens": 200, "tool_choice": "required",
        "parallel_tool_calls": false,
        "tools": [{"type": "function", "name": "look", "parameters": schema(), "strict": true}]});
    let whole = served.post(RESPONSES, &body).ok().json();
    assert_eq!(whole["output"][0]["type"], "function_call", "{whole}");
    assert_eq!(whole["tools"][0]["strict"], true);
    for choice in [
        json!({"type": "any", "disable_parallel_tool_use": true}),
        json!({"type": "tool", "name": "look", "disable_parallel_tool_use": true}),
    ] {
        let body = json!({"messages": user(), "max_tokens": 200, "tool_choice": choice,
            "tools": [{"name": "look", "input_schema": schema()}]});
        let whole = served.post(MESSAGES, &body).ok().json();
        assert_eq!(whole["content"][0]["type"], "tool_use", "{whole}");
        assert!(is_right(&whole["content"][0]["input"].to_string()));
        assert_eq!(whole["stop_reason"], "tool_use");
    }
}

#[test]
fn several_calls_are_all_of_their_schema() {
    let served = Served::demo("--context 1024");
    let body =
        chat(json!({"tools": [function("look")], "tool_choice": "required", "max_tokens": 300}));
    let whole = served.post(CHAT, &body).ok().json();
    let calls = whole["choices"][0]["message"]["tool_calls"]
        .as_array()
        .unwrap();
    assert!(!calls.is_empty());
    for call in calls {
        assert!(
            is_right(call["function"]["arguments"].as_str().unwrap()),
            "{whole}"
        );
    }
}

#[test]
fn what_cannot_be_held_is_refused_by_its_field() {
    let served = Served::demo("");
    let of = |schema: Value| {
        json!({"response_format": {"type": "json_schema", "json_schema":
        {"name": "x", "schema": schema}}})
    };
    for (more, words) in [
        (of(json!({"not": {}})), "not"),
        (
            of(json!({"type": "string", "minLength": 3, "maxLength": 1})),
            "nsatisfiable",
        ),
        (of(json!({"$ref": "#/nowhere"})), "nowhere"),
    ] {
        let reply = served.post(CHAT, &chat(more));
        reply.refuses(400, "response_format");
        assert!(reply.body.contains(words), "{}", reply.body);
    }
    let odd = |strict: bool| {
        json!([{"type": "function", "function": {"name": "look", "strict": strict,
        "parameters": {"type": "object", "not": {}}}}])
    };
    let reply = served.post(CHAT, &chat(json!({"tools": odd(true), "max_tokens": 1})));
    reply.refuses(400, "tools");
    // Nothing was promised of these arguments: they are an object.
    let body = chat(json!({"tools": odd(false), "tool_choice": "required", "max_tokens": 20}));
    served.post(CHAT, &body).ok();
    let reply = served.post(CHAT, &chat(json!({"response_format": {"type": "grammar"}})));
    reply.refuses(400, "response_format");
}

#[test]
fn hostile_schemas_hold_no_other_up() {
    let served = Served::demo("--parallel 2");
    let wide: serde_json::Map<_, _> = (0..4000)
        .map(|at| {
            (
                format!("p{at}"),
                json!({"type": "string", "pattern": "^(a|b)*a(a|b){30}$"}),
            )
        })
        .collect();
    let from = std::time::Instant::now();
    for schema in [
        json!({"type": "object", "properties": wide}),
        json!({"type": "string", "pattern": "^((a{1,1000}b?){1,1000}c?){1,1000}$"}),
        json!({"allOf": (1..40).map(|at| json!({"type": "string",
            "pattern": format!("(a|b)*a(a|b){{{at}}}$")})).collect::<Vec<_>>()}),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let body = chat(json!({"response_format": format, "max_tokens": 10}));
        let reply = served.post(CHAT, &body);
        assert!([200, 400, 500].contains(&reply.status), "{}", reply.body);
    }
    assert!(from.elapsed().as_secs() < 60);
    served.post(CHAT, &chat(json!({"max_tokens": 1}))).ok();
}

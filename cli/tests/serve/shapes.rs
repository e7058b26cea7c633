//! Requests that cannot be answered, and what is told of them; and everything beside answers.

use serde_json::{Value, json};

use crate::served::{Served, chatty};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[test]
fn a_field_that_would_change_the_answer_is_named() {
    let served = Served::chatty("");
    let hi = || json!({"messages": [{"role": "user", "content": "w7"}], "max_tokens": 1});
    let with = |name: &str, value: Value| {
        let mut body = hi();
        body[name] = value;
        served.post(CHAT, &body)
    };
    for (name, value) in [
        ("response_format", json!({"type": "grammar"})),
        ("audio", json!({"voice": "x"})),
        ("modalities", json!(["text", "audio"])),
        ("web_search_options", json!({"a": 1})),
        ("prediction", json!({"type": "content"})),
        ("functions", json!([{"name": "f"}])),
        ("temperature", json!("hot")),
        ("top_p", json!(1.5)),
        ("n", json!(0)),
        ("max_tokens", json!(-1)),
        ("stop", json!(3)),
        ("seed", json!("x")),
        ("logit_bias", json!({"x": 1})),
        ("top_logprobs", json!(3)),
        ("stream", json!("yes")),
        ("messages", json!([])),
        ("messages", json!("hi")),
        ("tool_choice", json!("maybe")),
    ] {
        let reply = with(name, value);
        reply.refuses(400, name);
        let error = reply.json()["error"].clone();
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], name, "{error}");
    }
    for (name, value) in [
        ("response_format", json!({"type": "text"})),
        ("modalities", json!(["text"])),
        ("audio", Value::Null),
        ("metadata", json!({"a": "b"})),
        ("user", json!("me")),
        ("store", json!(true)),
        ("service_tier", json!("auto")),
    ] {
        let reply = with(name, value).ok();
        assert_eq!(reply.header("x-engine-ignored"), None, "{name}");
    }
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    with("messages", image).refuses(400, "messages[0].content[0]");
}

#[test]
fn an_unknown_field_is_named_or_with_strict_refused() {
    let body = json!({"prompt": "Once", "max_tokens": 1, "frobnicate": 1, "user": "me"});
    let served = Served::demo("");
    let reply = served.post(TEXT, &body).ok();
    assert_eq!(reply.header("x-engine-ignored"), Some("frobnicate"));
    let strict = Served::demo("--strict");
    strict.post(TEXT, &body).refuses(400, "frobnicate");
    let mut known = body;
    known.as_object_mut().unwrap().remove("frobnicate");
    strict.post(TEXT, &known).ok();
}

#[test]
fn a_prompt_that_is_too_long_is_told_with_its_numbers() {
    let served = Served::chatty("--context 64");
    let words = vec!["w7"; 100].join(" ");
    let reply = served.post(
        CHAT,
        &json!({"messages": [{"role": "user", "content": words}]}),
    );
    reply.refuses(400, "prompt is too long: 102 tokens > 64 maximum");
    assert_eq!(reply.json()["error"]["code"], "context_length_exceeded");
    let huge = "w7 ".repeat(1_000_000);
    let reply = served.post(TEXT, &json!({"prompt": huge}));
    reply.refuses(400, "prompt is too long");
    served
        .post(TEXT, &json!({"prompt": ""}))
        .refuses(400, "empty");
    served
        .post(TEXT, &json!({"prompt": [1, 2, 300]}))
        .refuses(400, "token 300");
    served
        .post(TEXT, &json!({"prompt": [1, 2, 3], "max_tokens": 1}))
        .ok();
    // As many as fit, and the rest is as long as it may be.
    let full = vec!["w7"; 62].join(" ");
    let told = served.post(
        CHAT,
        &json!({"messages": [{"role": "user", "content": full}]}),
    );
    let told = told.ok().json();
    assert_eq!(told["choices"][0]["finish_reason"], "length");
    assert_eq!(told["usage"]["completion_tokens"], 1);
}

#[test]
fn a_model_without_a_template_still_continues_texts() {
    let model = chatty();
    std::fs::remove_file(model.path().join("model/chat_template.jinja")).unwrap();
    let served = Served::start(Some(model), "", &[]);
    let talk = json!({"messages": [{"role": "user", "content": "w7"}]});
    let reply = served.post(CHAT, &talk);
    reply.refuses(400, "no chat template");
    reply.refuses(400, "/v1/completions");
    served
        .post(TEXT, &json!({"prompt": "w7", "max_tokens": 1}))
        .ok();
}

#[test]
fn the_model_has_the_name_that_it_was_given() {
    let served = Served::demo("--alias tale");
    assert_eq!(
        served.get("/v1/models").ok().json()["data"][0]["id"],
        "tale"
    );
    let reply = served
        .post(TEXT, &json!({"prompt": "Once", "max_tokens": 1}))
        .ok()
        .json();
    assert_eq!(reply["model"], "tale");
    let body = json!({"prompt": "Once", "max_tokens": 1, "model": "any"});
    assert_eq!(served.post(TEXT, &body).ok().json()["model"], "any");
}

#[test]
fn figures_are_those_of_what_was_done() {
    let served = Served::demo("--num-gpu-layers 20");
    let body = json!({"prompt": "Once upon a time", "max_tokens": 8});
    let usage = served.post(TEXT, &body).ok().json()["usage"].clone();
    assert_eq!(served.figure("engine_generated_tokens_total"), 8.0);
    let prompt = usage["prompt_tokens"].as_f64().unwrap();
    assert_eq!(served.figure("engine_prompt_tokens_total"), prompt);
    assert_eq!(
        served.figure("engine_time_to_first_token_seconds_count"),
        1.0
    );
    assert_eq!(
        served.figure("engine_time_between_tokens_seconds_count"),
        7.0
    );
    assert_eq!(served.figure("engine_streamed_layers"), 8.0);
    assert_eq!(served.figure("engine_resident_layers"), 20.0);
    // Eight layers of 109 KiB cross the link in every pass.
    let passes = served.figure("engine_passes_total");
    assert_eq!(
        served.figure("engine_link_bytes_total"),
        passes * 8.0 * 110_976.0
    );
}

#[test]
fn texts_become_tokens_and_come_back() {
    let served = Served::demo("");
    let text = "Once upon a time, é🙂";
    let told = served
        .post("/tokenize", &json!({"content": text}))
        .ok()
        .json();
    assert_eq!(
        told["tokens"].as_array().unwrap().len(),
        told["count"].as_u64().unwrap() as usize
    );
    let back = served
        .post("/detokenize", &json!({"tokens": told["tokens"]}))
        .ok()
        .json();
    assert_eq!(back["content"], text);
    served.post("/tokenize", &json!({})).refuses(400, "content");
    served
        .post("/detokenize", &json!({"tokens": ["a"]}))
        .refuses(400, "tokens");
    served
        .post("/detokenize", &json!({"tokens": [1_000_000]}))
        .refuses(400, "1000000");
    let served = Served::chatty("");
    let talk = json!({"messages": [{"role": "user", "content": "w7 w8"}]});
    let told = served.post("/tokenize", &talk).ok().json();
    assert_eq!(told["tokens"], json!([1, 7, 8, 3]));
}

#[test]
fn penalties_and_biases_reach_the_sampler() {
    let served = Served::demo("");
    let first = |more: Value| {
        let mut body = json!({"prompt": "Once upon a time", "max_tokens": 30});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let told = served.post(TEXT, &body).ok().json();
        told["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let plain = first(json!({}));
    assert_eq!(
        plain,
        first(json!({"presence_penalty": 0.0, "logit_bias": {}}))
    );
    assert_ne!(plain, first(json!({"frequency_penalty": 2.0})));
    assert_ne!(plain, first(json!({"presence_penalty": 2.0})));
    let comma = served
        .post("/tokenize", &json!({"content": ","}))
        .ok()
        .json()["tokens"][0]
        .clone();
    assert!(plain.starts_with(','), "{plain}");
    let banned = first(json!({"logit_bias": {comma.to_string(): -100}}));
    assert!(!banned.contains(','), "{banned}");
    let reply = served.post(
        TEXT,
        &json!({"prompt": "Once", "logit_bias": {"999999": 1}}),
    );
    reply.refuses(400, "999999");
}

#[test]
fn what_was_there_already_is_counted() {
    let served = Served::demo("");
    let ask = |prompt: &str| {
        let body = json!({"prompt": prompt, "max_tokens": 4});
        served.post(TEXT, &body).ok().json()
    };
    let cached = |told: &Value| {
        told["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    let turn =
        "Once upon a time there was a curious girl named Emma, and a little red house on a hill.";
    let first = ask(turn);
    assert_eq!(cached(&first), 0);
    let said = first["choices"][0]["text"].as_str().unwrap();
    let next = ask(&format!("{turn}{said} Then"));
    let before = first["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(cached(&next) >= before, "{next}");
    assert_eq!(
        served.figure("engine_cached_tokens_total"),
        cached(&next) as f64
    );
}

#[test]
fn the_page_runs_nothing_but_its_own() {
    let served = Served::demo("");
    let page = served.get("/").ok();
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let policy = page.header("content-security-policy").unwrap();
    let (_, rest) = policy.split_once("script-src 'nonce-").unwrap();
    let word = rest.split_once('\'').unwrap().0;
    assert!(page.body.contains(&format!("<script nonce=\"{word}\">")));
    assert!(page.body.contains(&format!("<style nonce=\"{word}\">")));
    assert!(!served.get("/").ok().body.contains(word));
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn the_panel_says_how_it_goes() {
    let served = Served::demo("--num-gpu-layers 20");
    let request = crate::client::text("GET", "/panel", &[], b"");
    let mut panel = crate::client::Stream::open(served.address, &request);
    for _ in 0..2 {
        let event: Value = serde_json::from_str(&panel.next().unwrap()).unwrap();
        let layers = event["layers"].as_str().unwrap();
        assert_eq!(layers.matches('S').count(), 8, "{event}");
        assert_eq!(layers.matches('R').count(), 20, "{event}");
        assert!(event["link_peak_gbps"].as_f64().unwrap() > 0.0, "{event}");
        assert_eq!(event["running"], 0);
    }
    assert_eq!(served.get("/openapi.json").ok().json()["openapi"], "3.1.0");
}

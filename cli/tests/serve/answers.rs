//! Answers: whole and streamed, alone and in company.

use std::thread;

use serde_json::{Value, json};

use crate::client::Stream;
use crate::served::Served;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// So that a token takes some 10 ms, on any machine.
const SLOW: &str = "--num-gpu-layers 0 --link-gbps 0.3";

fn story(words: &str) -> Value {
    json!({"prompt": words, "max_tokens": 24})
}

fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The text of streamed chunks, of one choice.
fn text_of(events: &[Value], index: usize) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    let own = choices.filter(|choice| choice["index"] == index);
    let piece = |choice: &Value| match choice["text"].as_str() {
        Some(text) => text.to_owned(),
        None => choice["delta"]["content"].as_str().unwrap_or("").to_owned(),
    };
    own.map(piece).collect()
}

#[test]
fn a_text_is_continued_whole_and_streamed() {
    let served = Served::demo("");
    let whole = served.post(TEXT, &story("Once upon a time")).ok().json();
    let choice = &whole["choices"][0];
    let text = choice["text"].as_str().unwrap();
    assert!(text.len() > 40, "{whole}");
    assert_eq!(
        (&choice["finish_reason"], &whole["object"]),
        (&json!("length"), &json!("text_completion"))
    );
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], 24);
    let sum = usage["prompt_tokens"].as_u64().unwrap() + 24;
    assert_eq!(usage["total_tokens"], sum);
    let streamed = with(
        story("Once upon a time"),
        json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let events = served.stream(TEXT, &streamed).rest();
    assert_eq!(text_of(&events, 0), text);
    assert!(events.len() > 10, "{events:?}");
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], sum);
    // And it is what the command line says.
    let line = [
        "generate",
        "--max-new-tokens",
        "24",
        "--quiet",
        "--prompt",
        "Once upon a time",
    ];
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(line)
        .output();
    assert_eq!(String::from_utf8(run.unwrap().stdout).unwrap(), text);
}

#[test]
fn a_conversation_is_answered_whole_and_streamed() {
    let served = Served::chatty("");
    let body = json!({"messages": [{"role": "user", "content": "w7 w8"}], "max_tokens": 12});
    let whole = served.post(CHAT, &body).ok().json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    let text = message["content"].as_str().unwrap();
    assert!(!text.is_empty(), "{whole}");
    assert_eq!(whole["usage"]["prompt_tokens"], 4);
    let events = served
        .stream(CHAT, &with(body.clone(), json!({"stream": true})))
        .rest();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(text_of(&events, 0), text);
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
    assert!(
        events.iter().all(|event| event.get("usage").is_none()),
        "{events:?}"
    );
    // Parts, two system messages, an argument of the template: all reach it.
    let parts = json!({
        "messages": [
            {"role": "developer", "content": "w5"},
            {"role": "user", "content": [{"type": "text", "text": "w7"}, {"type": "text", "text": "w8"}]},
            {"role": "system", "content": "w6"},
        ],
        "chat_template_kwargs": {"enable_thinking": false},
        "max_tokens": 1,
    });
    let told = served.post(CHAT, &parts).ok().json();
    assert_eq!(told["usage"]["prompt_tokens"], 9, "{told}");
}

#[test]
fn a_seed_repeats_and_others_differ() {
    let served = Served::demo("");
    let draw = |more| {
        let body = with(story("One day"), with(json!({"temperature": 1.0}), more));
        let reply = served.post(TEXT, &body).ok().json();
        reply["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["text"].to_string())
            .collect::<Vec<_>>()
    };
    let seeded = draw(json!({"seed": 7}));
    assert_eq!(seeded, draw(json!({"seed": 7})));
    assert_ne!(seeded, draw(json!({"seed": 8})));
    assert_ne!(draw(json!({})), draw(json!({})));
    let several = draw(json!({"seed": 7, "n": 3}));
    assert_eq!(several.len(), 3);
    assert_eq!(several[0], seeded[0]);
    assert_ne!(several[0], several[1]);
    assert_ne!(several[1], several[2]);
}

#[test]
fn several_answers_are_told_apart_and_share_a_prompt() {
    let served = Served::demo("");
    let one = served.post(TEXT, &story("One day")).ok().json();
    let body = with(story("One day"), json!({"n": 2}));
    let two = served.post(TEXT, &body).ok().json();
    assert_eq!(two["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    let generated = one["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(two["usage"]["completion_tokens"], 2 * generated);
    let events = served
        .stream(TEXT, &with(body, json!({"stream": true})))
        .rest();
    for index in 0..2 {
        assert_eq!(two["choices"][index]["index"], index);
        assert_eq!(two["choices"][index]["text"], one["choices"][0]["text"]);
        assert_eq!(one["choices"][0]["text"], text_of(&events, index));
    }
    let prompts = json!({"prompt": ["One day", "Once upon"], "max_tokens": 5});
    let both = served.post(TEXT, &prompts).ok().json();
    let alone = served
        .post(TEXT, &json!({"prompt": "Once upon", "max_tokens": 5}))
        .ok()
        .json();
    assert_eq!(both["choices"][1]["text"], alone["choices"][0]["text"]);
}

#[test]
fn a_text_ends_it_and_is_not_part_of_it() {
    let served = Served::demo("");
    let whole = served.post(TEXT, &story("Once upon a time")).ok().json();
    let whole = whole["choices"][0]["text"].as_str().unwrap().to_owned();
    let word = whole.split_whitespace().nth(4).unwrap();
    let at = whole.find(word).unwrap();
    for stop in [json!(word), json!(["never said", word])] {
        let body = with(story("Once upon a time"), json!({"stop": stop}));
        let told = served.post(TEXT, &body).ok().json();
        assert_eq!(told["choices"][0]["text"], whole[..at]);
        assert_eq!(told["choices"][0]["finish_reason"], "stop");
        let events = served
            .stream(TEXT, &with(body, json!({"stream": true})))
            .rest();
        assert_eq!(text_of(&events, 0), whole[..at]);
    }
    served
        .post(TEXT, &with(story("a"), json!({"stop": [""]})))
        .refuses(400, "empty");
}

#[test]
fn tokens_are_told_with_their_probabilities() {
    let served = Served::demo("");
    let body = with(
        story("Once upon a time"),
        json!({"logprobs": 2, "max_tokens": 6}),
    );
    let told = served.post(TEXT, &body).ok().json();
    let logprobs = &told["choices"][0]["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 6);
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(told["choices"][0]["text"], joined);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);
    // Greedy: the likeliest is chosen.
    let first = tokens[0].as_str().unwrap();
    assert_eq!(
        logprobs["top_logprobs"][0][first],
        logprobs["token_logprobs"][0]
    );
    let events = served
        .stream(TEXT, &with(body, json!({"stream": true})))
        .rest();
    let count = |event: &Value| {
        event["choices"][0]["logprobs"]["tokens"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(events.iter().map(count).sum::<usize>(), 6);
    let served = Served::chatty("");
    let chat = json!({
        "messages": [{"role": "user", "content": "w7"}],
        "max_tokens": 3, "logprobs": true, "top_logprobs": 3,
    });
    let told = served.post(CHAT, &chat).ok().json();
    let content = told["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 3);
    let spelled = content[0]["token"].as_str().unwrap();
    assert_eq!(content[0]["bytes"], json!(spelled.as_bytes()));
    assert_eq!(content[0]["top_logprobs"][0]["token"], spelled);
}

#[test]
fn streams_in_company_say_what_they_say_alone() {
    let served = Served::demo("--num-gpu-layers 14");
    let prompts = [
        "Once upon a time",
        "One day",
        "The cat",
        "A long story about a bus:",
    ];
    let alone = prompts
        .map(|prompt| served.post(TEXT, &story(prompt)).ok().json()["choices"][0]["text"].clone());
    let streams = prompts.map(|prompt| {
        let body = with(story(prompt), json!({"stream": true})).to_string();
        let request = crate::client::text("POST", TEXT, &[], body.as_bytes());
        let address = served.address;
        thread::spawn(move || text_of(&Stream::open(address, &request).rest(), 0))
    });
    for (stream, alone) in streams.into_iter().zip(alone) {
        assert_eq!(alone, stream.join().unwrap());
    }
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let served = Served::demo(&format!("{SLOW} --parallel 1 --queue 0 --context 512"));
    let long = json!({"prompt": "Once", "max_tokens": 400, "stream": true});
    let mut stream = served.stream(TEXT, &long);
    stream.next().unwrap();
    served
        .post(TEXT, &story("One day"))
        .refuses(429, "places are taken");
    let reply = served.post(TEXT, &story("One day"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    drop(stream);
    served.until("its place is free", || {
        served.figure("engine_places_taken") == 0.0
    });
    assert_eq!(
        served.figure("engine_requests_total{outcome=\"gone\"}"),
        1.0
    );
    // A client that waits for a whole answer, too.
    let body = json!({"prompt": "Once", "max_tokens": 400}).to_string();
    let mut waiting = crate::client::connect(served.address);
    std::io::Write::write_all(
        &mut waiting,
        &crate::client::text("POST", TEXT, &[], body.as_bytes()),
    )
    .unwrap();
    served.until("it runs", || {
        served.figure("engine_requests_running") == 1.0
    });
    drop(waiting);
    served.until("its place is free", || {
        served.figure("engine_places_taken") == 0.0
    });
    let next = json!({"prompt": "One day", "max_tokens": 2});
    served.post(TEXT, &next).ok();
}

#[test]
fn many_requests_of_which_a_third_is_cut_off() {
    let served = Served::demo("--parallel 4 --queue 64");
    let expected = served.post(TEXT, &story("One day")).ok().json()["choices"][0]["text"].clone();
    const REQUESTS: usize = 200;
    const AT_ONCE: usize = 16;
    let address = served.address;
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|client| {
            let expected = expected.clone();
            thread::spawn(move || {
                let mut answered = 0;
                for turn in (client..REQUESTS).step_by(AT_ONCE) {
                    let body = with(story("One day"), json!({"stream": true})).to_string();
                    let request = crate::client::text("POST", TEXT, &[], body.as_bytes());
                    let mut stream = Stream::open(address, &request);
                    assert_eq!(stream.status, 200);
                    match turn % 3 {
                        0 => drop(stream.next()),
                        _ => {
                            assert_eq!(expected, text_of(&stream.rest(), 0));
                            answered += 1;
                        }
                    }
                }
                answered
            })
        })
        .collect();
    let answered: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert_eq!(answered, REQUESTS - REQUESTS.div_ceil(3));
    served.until("all places are free", || {
        served.figure("engine_places_taken") == 0.0
    });
    assert_eq!(served.figure("engine_requests_running"), 0.0);
    assert_eq!(served.figure("engine_requests_waiting"), 0.0);
    assert_eq!(
        served.figure("engine_requests_total{outcome=\"failed\"}"),
        0.0
    );
    let ends = ["stop", "length", "gone"]
        .map(|how| served.figure(&format!("engine_requests_total{{outcome=\"{how}\"}}")));
    assert_eq!(ends.iter().sum::<f64>() as usize, REQUESTS + 1);
    assert_eq!(
        served.post(TEXT, &story("One day")).ok().json()["choices"][0]["text"],
        expected
    );
}

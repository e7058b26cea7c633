//! Token ids instead of texts, in and out: all that a model without a tokenizer can do.

use serde_json::{Value, json};

use crate::served::{Served, mute};

const TEXT: &str = "/v1/completions";

fn ids(choice: &Value) -> Vec<u64> {
    let ids = choice["token_ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn a_model_without_a_tokenizer_answers_in_ids() {
    let served = Served::start(Some(mute()), "", &[]);
    let body = json!({"prompt": [1, 2, 3], "max_tokens": 6, "return_token_ids": true});
    let whole = served.post(TEXT, &body).ok().json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], "");
    assert_eq!(choice["prompt_token_ids"], json!([1, 2, 3]));
    let found = ids(choice);
    assert_eq!(whole["usage"]["completion_tokens"], found.len());
    assert_eq!(found.len(), 6, "{whole}");
    // It is what the command line says.
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["generate", "--quiet", "--json", "--max-new-tokens", "6"])
        .args(["--prompt-tokens", "1,2,3", "--model"])
        .arg(served.model())
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(said["tokens"], choice["token_ids"], "{said}");
    // The same in pieces, each with its token; the prompt comes with the first.
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = served.stream(TEXT, &streamed).rest();
    let joined: Vec<u64> = events
        .iter()
        .flat_map(|event| ids(&event["choices"][0]))
        .collect();
    assert_eq!(joined, found);
    assert!(events.len() >= 6, "{events:?}");
    assert_eq!(
        events[0]["choices"][0]["prompt_token_ids"],
        json!([1, 2, 3])
    );
    for event in &events[1..] {
        assert!(event["choices"][0].get("prompt_token_ids").is_none());
    }
    // What needs a text is refused, and says what to do.
    for (path, body) in [
        (TEXT, json!({"prompt": "Once"})),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "Hi"}]}),
        ),
        ("/tokenize", json!({"content": "Once"})),
        ("/detokenize", json!({"tokens": [1]})),
    ] {
        served.post(path, &body).refuses(400, "without a tokenizer");
    }
    let stops = json!({"prompt": [1], "stop": "x"});
    served.post(TEXT, &stops).refuses(400, "no text can end");
}

#[test]
fn ids_come_beside_texts_where_they_are_asked_for() {
    let served = Served::chatty("");
    let ask = |more: Value| {
        let mut body = json!({"prompt": ["w7 w8", "w9"], "max_tokens": 3, "n": 2});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        served.post(TEXT, &body).ok().json()
    };
    let plain = ask(json!({}));
    assert!(plain["choices"][0].get("token_ids").is_none(), "{plain}");
    let told = ask(json!({"return_token_ids": true}));
    let prompts = [[7, 8].as_slice(), &[7, 8], &[9], &[9]];
    for (index, prompt) in prompts.iter().enumerate() {
        let choice = &told["choices"][index];
        assert_eq!(choice["text"], plain["choices"][index]["text"]);
        assert_eq!(choice["prompt_token_ids"], json!(prompt));
        let back = json!({"tokens": choice["token_ids"]});
        let back = served.post("/detokenize", &back).ok().json();
        let text = choice["text"].as_str().unwrap();
        assert_eq!(back["content"].as_str().unwrap().trim(), text.trim());
    }
}

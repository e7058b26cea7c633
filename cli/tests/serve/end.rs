//! Before it is ready, and its end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::served::{Served, chatty};

const TEXT: &str = "/v1/completions";

#[test]
fn it_says_that_it_loads_and_then_that_it_is_there() {
    // Packing layers takes a moment: there is time to ask. Where there is none, the second half holds.
    let served = Served::loading(None, "", &[]);
    let early = served.get("/health");
    if early.status != 200 {
        assert_eq!(early.status, 503, "{early:?}");
        let body = early.json();
        assert_eq!(body["status"], "loading");
        assert!(
            (0.0..=1.0).contains(&body["progress"].as_f64().unwrap()),
            "{body}"
        );
        assert_eq!(early.header("retry-after"), Some("1"));
    }
    served.get("/livez").ok();
    served.until("it is ready", || served.get("/readyz").status == 200);
    served.get("/health").ok();
    assert_eq!(
        served.get("/v1/models").ok().json()["data"][0]["object"],
        "model"
    );
}

#[test]
fn told_to_stop_it_lets_answers_end() {
    for signal in ["TERM", "INT"] {
        let mut served = Served::demo("--num-gpu-layers 0 --link-gbps 0.3");
        let body = json!({"prompt": "Once", "max_tokens": 20, "stream": true});
        let mut stream = served.stream(TEXT, &body);
        stream.next().unwrap();
        served.signal(signal);
        let events = stream.rest();
        assert_eq!(
            events.last().unwrap()["choices"][0]["finish_reason"],
            "length"
        );
        let (status, took) = served.end();
        assert_eq!(status.code(), Some(0), "{}", served.said());
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[test]
fn what_takes_longer_than_that_is_cut_off_with_an_error() {
    let mut served = Served::demo("--num-gpu-layers 0 --link-gbps 0.1 --drain 1");
    let body = json!({"prompt": "Once", "max_tokens": 900, "stream": true});
    let mut stream = served.stream(TEXT, &body);
    stream.next().unwrap();
    served.signal("TERM");
    let mut last = String::new();
    while let Some(data) = stream.next() {
        last = data;
    }
    assert!(last.contains("told to stop"), "{last}");
    let (status, took) = served.end();
    assert_eq!(status.code(), Some(0), "{}", served.said());
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut served = Served::demo("--num-gpu-layers 0 --link-gbps 0.1");
    let body = json!({"prompt": "Once", "max_tokens": 900, "stream": true});
    let mut stream = served.stream(TEXT, &body);
    stream.next().unwrap();
    served.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    served.signal("TERM");
    let (status, took) = served.end();
    assert_eq!(status.code(), Some(130));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_model_that_is_not_there_ends_it() {
    let run = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.arg("serve").args(flags.split_whitespace());
        command.stderr(Stdio::piped()).output().unwrap()
    };
    let missing = run("--port 0 --model /nowhere");
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let served = Served::demo("");
    let taken = run(&format!("--port {}", served.address.port()));
    assert_eq!(taken.status.code(), Some(1));
    let mut lines = BufReader::new(taken.stderr.as_slice()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("cannot be listened on"), "{first}");
}

#[test]
fn what_its_help_tells_to_type_starts_it() {
    let help = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["serve", "--help"])
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let examples: Vec<&str> = help
        .lines()
        .filter(|line| line.contains("  engine serve") || line.contains(" engine serve --model"))
        .collect();
    assert_eq!(examples.len(), 3, "{help}");
    for line in examples {
        let (before, flags) = line.split_once("engine serve").unwrap();
        let variables: Vec<(&str, &str)> = before
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        let model = flags.contains("--model DIR").then(chatty);
        let flags = flags.replace("--model DIR", "");
        let served = Served::start(model, &flags, &variables);
        let key = variables.first().map_or("none", |(_, key)| key);
        let body = json!({"prompt": "w7", "max_tokens": 1});
        served.post_with(TEXT, &[("x-api-key", key)], &body).ok();
    }
}

#[test]
fn an_open_door_is_warned_of() {
    let warned = |flags: &str| {
        let served = Served::demo(flags);
        served.until("it has said so", || served.said().contains("Ready."));
        served
            .said()
            .contains("warning: whoever reaches this address")
    };
    assert!(warned("--host 0.0.0.0"));
    assert!(!warned("--host 0.0.0.0 --api-key k"));
    assert!(!warned(""));
}

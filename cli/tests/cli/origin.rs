//! Every report says where it comes from, with the same fields.

use std::fs;

use serde_json::Value;

use crate::common::{Run, make, run, tiny};

#[track_caller]
fn check(json: &Value, command: &str, seed: Option<u64>) {
    let origin = json["origin"].as_object().unwrap();
    let fields: Vec<&str> = origin.keys().map(String::as_str).collect();
    let mut expected = ["command", "commit", "date", "machine", "seed", "version"];
    expected.sort_unstable();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(origin["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(origin["command"], command);
    assert_eq!(origin["seed"].as_u64(), seed, "{json}");
    let date = origin["date"].as_str().unwrap();
    assert!(date.len() == 20 && date.ends_with('Z'), "{date}");
    assert!(!origin["machine"].as_str().unwrap().is_empty());
    if let Some(commit) = origin["commit"].as_str() {
        let hex = commit.chars().all(|c| c.is_ascii_hexdigit());
        assert!(commit.len() >= 12 && hex, "{commit}");
    }
}

#[test]
fn in_every_json() {
    for (line, seed) in [
        (
            "generate --json --quiet --prompt Once --max-new-tokens 2 --temperature 0.8 --seed 3",
            Some(3),
        ),
        (
            "generate --json --quiet --prompt Once --max-new-tokens 2",
            None,
        ),
        ("bench --json --quiet --tokens 2 --warmup 0", None),
        (
            "tune --json --quiet --memory 17MiB --verify 1 --repeats 1 --tokens 2",
            None,
        ),
        (
            "diagnose --json --num-gpu-layers 20 --tokens 2 --repeats 1",
            None,
        ),
    ] {
        let out: Run = run(line).ok();
        check(&out.json(), &format!("engine {line}"), seed);
    }
}

#[test]
fn in_every_file() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("run");
    let line = format!(
        "generate --prompt Once --max-new-tokens 3 --num-gpu-layers 20 --profile-dir {}",
        folder.display()
    );
    run(&line).ok();
    let command = format!("engine {line}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    check(&json(&read("stats.json")), &command, None);
    let trace = json(&read("trace.json"));
    check(&trace["otherData"], &command, None);
    let page = read("report.html");
    assert!(page.contains("<title>the demo model - run report</title>"));
    for field in [
        "\"origin\":{\"version\":",
        "\"command\":\"engine generate",
        "\"measuring peaks\"",
    ] {
        assert!(page.contains(field), "{field}");
    }
    // The peaks were measured before the first pass, and the timeline says so.
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["name"] == "measuring peaks")
    );
}

#[test]
fn a_plan_says_what_disk_and_memory_allow() {
    let made = make(&tiny());
    let plan = made.run("plan", "--json").ok().json();
    let row = &plan["plans"][0];
    let bytes = row["streamed_bytes_per_token"].as_f64().unwrap();
    for (rate, allowed) in [
        ("disk_gbps", "disk_tokens_per_s"),
        ("ram_gbps", "ram_tokens_per_s"),
    ] {
        let expected = plan[rate].as_f64().unwrap() * 1e9 / bytes;
        let found = row[allowed].as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{row}");
    }
    let all = plan["plans"].as_array().unwrap().last().unwrap();
    assert_eq!(all["disk_tokens_per_s"], Value::Null);
    let text = made.run("plan", "").ok().stdout;
    for words in [
        "disk tok/s",
        "RAM tok/s",
        "predicted",
        "Compute can make it less",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let devices = run("devices").ok().stdout;
    let made = make(&tiny());
    let line = format!("devices --model {}", made.name());
    assert!(run(&line).ok().stdout.contains("of the model's own files"));
    let disk = run(&format!("{line} --json")).ok().json()["disk"].clone();
    assert!(disk["read_gbps"].as_f64() > Some(0.0), "{disk}");
    assert_eq!(disk["read_of"], made.name());
    run("devices --model no-such-folder").fails(3, &["no-such-folder", "hint:"]);
    assert!(
        devices.contains("disk") && devices.contains(" free of "),
        "{devices}"
    );
    assert!(
        run("devices --json").ok().json()["disk"]["free_bytes"]
            .as_u64()
            .unwrap()
            > 0
    );
}

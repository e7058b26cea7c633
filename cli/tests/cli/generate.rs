//! `engine generate` and `engine logits`, on the demo model and on made ones.

use std::io::Write;
use std::process::Stdio;

use crate::common::{command, engine, make, run, tiny, write_tokenizer};
use serde_json::json;

const STORY: [&str; 5] = [
    "generate",
    "--prompt",
    "Once upon a time",
    "--max-new-tokens",
    "24",
];

fn story(rest: &str) -> crate::common::Run {
    engine(STORY.into_iter().chain(rest.split_whitespace())).ok()
}

#[test]
fn the_demo_streams_with_a_profile_and_the_text_does_not_depend_on_it() {
    let profiled = story("--num-gpu-layers 20 --profile");
    assert!(profiled.stdout.len() > 20, "{profiled:?}");
    let stderr = &profiled.stderr;
    let rule = "=".repeat(80);
    assert!(stderr.starts_with("Async transfer: True\n"), "{stderr}");
    for token in [10, 20, 24] {
        let head = format!("{rule}\nPROFILING SUMMARY - Token {token}\n{rule}\nAsync usage: ");
        assert!(stderr.contains(&head), "{token}: {stderr}");
    }
    assert!(
        stderr.contains("Async usage: 8/8 layers (100%)\n"),
        "{stderr}"
    );
    let layers = stderr.lines().filter(|line| line.starts_with("  Layer "));
    let first: Vec<&str> = layers.take(8).collect();
    assert_eq!(first.len(), 8, "{stderr}");
    assert!(first[0].starts_with("  Layer  0: Pre="), "{}", first[0]);
    assert!(first[0].ends_with("ms  [ASYNC]"), "{}", first[0]);
    assert_eq!(stderr.matches("\nPrompt: ").count(), 1, "{stderr}");
    for word in [
        " GFLOP/s while computing, ",
        "Link:  ",
        "Token: ",
        "Verdict: ",
        "resident",
        "20 layers",
        "8 layers",
    ] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("24 tokens, "), "{last}");
    assert!(last.contains("async usage 100%, peak memory"), "{last}");

    for same in [
        "--num-gpu-layers 0",
        "--num-gpu-layers 28",
        "--no-offload",
        "--num-gpu-layers auto --quiet",
        "--num-gpu-layers 3 --no-prefetch",
        "--num-gpu-layers 20 --weights ram --resident first --slots 1",
    ] {
        assert_eq!(story(same).stdout, profiled.stdout, "{same}");
    }
    let drawn = |n| story(&format!("--temperature 0.8 --seed 3 --num-gpu-layers {n}")).stdout;
    let texts = [0, 20, 28].map(drawn);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn stdout_has_the_text_alone_and_json_has_it_too() {
    let text = story("--num-gpu-layers 5 --quiet");
    assert_eq!(text.stderr, "");
    let run = story("--num-gpu-layers 5 --json");
    let json = run.json();
    assert_eq!(run.stdout.lines().count(), 1);
    assert_eq!(json["text"], json!(text.stdout));
    assert_eq!(json["tokens"].as_array().unwrap().len(), 24);
    assert_eq!(json["ended"], "max_new_tokens");
    assert!(json["prompt_tokens"].as_u64().unwrap() > 0);
    let offload = &json["offload"];
    assert_eq!(
        (&offload["resident"], &offload["streamed"]),
        (&json!(5), &json!(23))
    );
    assert_eq!(
        (&offload["slots"], &offload["home"]),
        (&json!(2), &json!("disk"))
    );
    assert_eq!(offload["loads_async"], json!(23 * 24));
    assert_eq!(
        (&offload["loads_sync"], &offload["async_percent"]),
        (&json!(0), &json!(100))
    );
    assert!(offload["emulated_gbps"].is_null());
    for field in [
        "load_ms",
        "prefill_ms",
        "time_to_first_token_ms",
        "decode_ms",
        "tokens_per_s",
    ] {
        assert!(
            json["timing"][field].as_f64().unwrap() > 0.0,
            "{field}: {json}"
        );
    }
    assert!(json["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    // Limits are measured only where somebody looks.
    let limits = ["link", "memory", "prompt"];
    assert!(
        limits.iter().all(|of| json["utilisation"][of].is_null()),
        "{json}"
    );
    let looked = story("--num-gpu-layers 5 --json --profile").json();
    for of in limits {
        let share = looked["utilisation"][of]["share_of_peak"].as_f64().unwrap();
        assert!(share > 0.0, "{of}: {share}");
    }
    assert!(json["model"].is_string());
}

#[test]
fn without_prefetch_every_load_is_at_need_and_it_says_so() {
    let run = story("--num-gpu-layers 26 --disable-async --profile");
    assert!(run.stderr.starts_with("Async transfer: False\n"), "{run:?}");
    assert!(
        run.stderr.contains("Async usage: 0/2 layers (0%)"),
        "{run:?}"
    );
    assert!(run.stderr.contains("[SYNC]   <-- PROBLEM!"), "{run:?}");
    let run = story("--num-gpu-layers auto --no-prefetch");
    let note = "note: nothing is streamed, so --no-prefetch has no effect";
    assert!(run.stderr.contains(note), "{run:?}");
}

#[test]
fn an_emulated_link_is_called_one_everywhere() {
    let run = story("--num-gpu-layers 20 --link-gbps 0.5 --profile --profile-every 100");
    for start in [
        "Streamed weights: ",
        "Link: ",
        "Token: ",
        "Verdict: ",
        "24 tokens, ",
    ] {
        let line = run.stderr.lines().find(|line| line.starts_with(start));
        assert!(
            line.is_some_and(|line| line.contains("emulated")),
            "{start}: {run:?}"
        );
    }
    let json = story("--num-gpu-layers 20 --link-gbps 0.5 --json").json();
    assert_eq!(json["offload"]["emulated_gbps"], json!(0.5));
    assert_eq!(json["offload"]["home"], "ram");
}

#[test]
fn prompts_come_from_files_and_stdin() {
    let whole = story("").stdout;
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a prompt.txt");
    std::fs::write(&file, "Once upon a time").unwrap();
    let path = file.to_str().unwrap();
    let args = ["generate", "--max-new-tokens", "24", "--txt-path"];
    assert_eq!(engine(args.into_iter().chain([path])).ok().stdout, whole);

    let mut child = command()
        .args(args.into_iter().chain(["-"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"Once upon a time")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), whole);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let whole = story("").stdout;
    let word = whole.split_whitespace().nth(3).unwrap();
    let stopped = story(&format!("--stop {word} --json")).json();
    assert_eq!(stopped["ended"], "stop_string");
    assert_eq!(
        stopped["text"].as_str(),
        whole.split_once(word).map(|(before, _)| before)
    );
}

#[test]
fn without_a_tokenizer_ids_go_in_and_out() {
    let made = make(&tiny());
    let prompt = "--prompt-tokens 1,2,3 --max-new-tokens 5 --ignore-eos";
    let ids = made.run("generate", prompt).ok().stdout;
    let json = made
        .run("generate", &format!("{prompt} --json"))
        .ok()
        .json();
    let expected: Vec<String> = json["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ids.trim_end(), expected.join(","));
    assert_eq!(json["text"], "");
    for n in 0..=3 {
        let streamed = made
            .run("generate", &format!("{prompt} --num-gpu-layers {n}"))
            .ok();
        assert_eq!(streamed.stdout, ids, "{n}");
    }
}

#[test]
fn a_chat_template_wraps_the_prompt() {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 256);
    let template = "{% for m in messages %}w7 {{ m.content }} w8 w9{% endfor %}";
    std::fs::write(made.file("chat_template.jinja"), template).unwrap();
    let count = |rest: &str| {
        let args = format!("--prompt w1 --json --max-new-tokens 2 {rest}");
        made.run("generate", &args).ok().json()["prompt_tokens"].clone()
    };
    assert_eq!((count(""), count("--chat")), (json!(1), json!(4)));
}

#[test]
fn logits_are_those_of_the_last_position_whatever_is_streamed() {
    let made = make(&tiny());
    let all = made.run("logits", "--prompt-tokens 5,6,7").ok();
    let json = all.json();
    assert_eq!(json["tokens"], json!([5, 6, 7]));
    assert_eq!(json["logits"].as_array().unwrap().len(), 256);
    for rest in ["0", "2", "0 --no-prefetch", "1 --weights ram"] {
        let args = format!("--prompt-tokens 5,6,7 --num-gpu-layers {rest}");
        assert_eq!(made.run("logits", &args).ok().stdout, all.stdout, "{rest}");
    }
    assert_ne!(
        made.run("logits", "--prompt-tokens 5,6,8").ok().stdout,
        all.stdout
    );
    run("logits").fails_in_clap();
}

impl crate::common::Run {
    #[track_caller]
    fn fails_in_clap(self) {
        assert_eq!((self.code, self.stdout.as_str()), (2, ""), "{self:?}");
        assert!(self.stderr.contains("Usage: engine"), "{self:?}");
    }
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    for line in [
        "generate --prompt a --txt-path b",
        "generate --prompt a --prompt-tokens 1",
        "generate --prompt a --no-offload --num-gpu-layers 3",
        "generate --prompt-tokens 1 --chat",
        "generate --prompt a --memory 6GX",
        "generate --prompt a --num-gpu-layers -1",
        "generate --prompt a --threads 0",
        "generate --prompt a --dtype int3",
        "generate --prompt a --device tpu",
        "synth x --shape nothing-like-it",
        "unknown",
    ] {
        let run = run(line);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{line}: {run:?}");
    }
}

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
    // Limits are measured only where they are shown.
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

    // What `echo`, an editor or another system adds is no part of it.
    for text in [
        "Once upon a time",
        "Once upon a time\n",
        "Once upon a time\r\n",
        "\u{feff}Once upon a time\n",
    ] {
        let piped = fed(args.into_iter().chain(["-"]), text);
        assert_eq!(piped.ok().stdout, whole, "{text:?}");
        std::fs::write(&file, text).unwrap();
        assert_eq!(engine(args.into_iter().chain([path])).ok().stdout, whole);
        // The ids are those that `tokenize` shows of the same text.
        let shown = |text| fed(["tokenize", "--json"], text).ok().json()["ids"].clone();
        assert_eq!(shown(text), shown("Once upon a time"), "{text:?}");
    }
    // A second newline was meant, and nothing but one is no text.
    let ids = |text| fed(["tokenize", "--json"], text).ok().json()["text"].clone();
    assert_eq!(ids("Once\n\n"), json!("Once\n"));
    fed(args.into_iter().chain(["-"]), "\n").fails(2, &["stdin is empty"]);
}

/// A run with this on its stdin.
fn fed<'a>(args: impl IntoIterator<Item = &'a str>, text: &str) -> crate::common::Run {
    let mut child = command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    crate::common::Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_last_line_says_why_the_run_ended() {
    let last = |run: crate::common::Run| run.ok().stderr.lines().last().unwrap().to_owned();
    let whole = story("");
    let word = whole.stdout.split_whitespace().nth(3).unwrap();
    for (rest, why) in [
        (
            "--max-new-tokens 24".to_owned(),
            "ended: max new tokens reached",
        ),
        (
            format!("--stop {word} --max-new-tokens 24"),
            "ended: stop string",
        ),
        (
            "--max-new-tokens 9 --context 9".to_owned(),
            "ended: context full",
        ),
    ] {
        let rest = rest.split_whitespace();
        let line = last(engine(
            ["generate", "--prompt", "Once upon a time"]
                .into_iter()
                .chain(rest),
        ));
        assert!(line.ends_with(why), "{why}: {line}");
    }
    // Of a model whose every token ends the text.
    let made = make(&tiny());
    let all: Vec<u32> = (0..256).collect();
    let suggested = json!({ "eos_token_id": all }).to_string();
    std::fs::write(made.file("generation_config.json"), suggested).unwrap();
    let line = last(made.run("generate", "--prompt-tokens 1,2,3"));
    assert!(line.ends_with("ended: end of text"), "{line}");
}

#[test]
fn values_that_switch_a_sampler_off_stay_greedy() {
    let greedy = story("").stdout;
    for off in [
        "--top-k 0",
        "--top-p 1",
        "--min-p 0",
        "--top-k 0 --top-p 1 --min-p 0",
        "--presence-penalty 0 --frequency-penalty -0.0",
    ] {
        assert_eq!(story(&format!("{off} --seed 7")).stdout, greedy, "{off}");
    }
    assert_ne!(story("--top-k 50 --seed 7").stdout, greedy);
}

#[test]
fn penalties_for_what_was_generated_change_the_text_and_draw_nothing() {
    let greedy = story("").stdout;
    for flag in ["--presence-penalty 1.5", "--frequency-penalty -1.5"] {
        let with = |seed| story(&format!("{flag} --seed {seed}")).stdout;
        assert_ne!(with(1), greedy, "{flag}");
        assert_eq!(with(1), with(2), "{flag}");
    }
    let refused = engine("generate --prompt Once --frequency-penalty 2.5".split(' '));
    refused.fails(2, &["frequency_penalty is 2.5, it must be from -2 to 2"]);
}

#[test]
fn token_ids_may_have_spaces_between_them() {
    let made = make(&tiny());
    let name = made.name();
    for command in ["generate", "logits"] {
        let with = |ids| {
            engine([command, "--model", &name, "--prompt-tokens", ids])
                .ok()
                .stdout
        };
        assert_eq!(with("1, 2, 3"), with("1,2,3"), "{command}");
    }
    let decoded = |ids| engine(["tokenize", "--decode", ids]).ok().stdout;
    assert_eq!(decoded("40, 41 ,42"), decoded("40,41,42"));
}

#[test]
fn one_quantity_has_one_value() {
    // A layer, and what crosses the link for a token, wherever they are told.
    let preface = story("--num-gpu-layers 20 --profile --link-gbps 0.5").stderr;
    let plan = run("plan --memory 1GiB --link-gbps 0.5").ok().stdout;
    let inspect = run("inspect").ok().stdout;
    let between = |text: &str, before: &str, after: &str| {
        let (_, rest) = text
            .split_once(before)
            .unwrap_or_else(|| panic!("{before}: {text}"));
        rest.split_once(after).unwrap().0.trim().to_owned()
    };
    let layer = between(&preface, "28 layers of ", " in bf16");
    assert_eq!(between(&plan, "28 layers of ", ","), layer);
    assert_eq!(between(&inspect, "28 of ", "\n"), layer);
    let token = between(&preface, "  8 layers ", "per token");
    assert_eq!(between(&preface, "Link:  ", "/token"), token);
    let row = plan.lines().find(|line| line.starts_with("20 ")).unwrap();
    assert!(row.contains(&format!(" {token}  ")), "{token}: {row}");
}

#[test]
fn a_slow_run_keeps_its_digits() {
    // 28 layers of 0.1 MB at 1 MB/s: three seconds a token.
    let slow = "generate --prompt Once --max-new-tokens 2 --num-gpu-layers 0 --link-gbps 0.001";
    let stderr = run(&format!("{slow} --profile")).ok().stderr;
    let line = |start: &str| {
        let found = stderr.lines().rfind(|line| line.starts_with(start));
        found
            .unwrap_or_else(|| panic!("{start}: {stderr}"))
            .to_owned()
    };
    let token = line("Token: ");
    let (_, rates) = token.rsplit_once(" | ").unwrap();
    let rates: Vec<&str> = rates.split(' ').collect();
    if token.contains("floor not known") {
        // Other programs had the cores, and it says so: there is nothing to compare with.
        assert!(
            rates[0].starts_with("0.3") && rates[0].len() == 5,
            "{token}"
        );
        return;
    }
    assert_eq!(
        (rates[1], rates[2], rates[4]),
        ("tok/s", "of", "possible"),
        "{token}"
    );
    for rate in [rates[0], rates[3]] {
        assert!(rate.starts_with("0.3") && rate.len() == 5, "{token}");
    }
    let verdict = line("Verdict: ");
    let (_, gain) = verdict
        .split_once("give +")
        .unwrap_or_else(|| panic!("{verdict}"));
    assert!(
        gain.starts_with("0.0") && !gain.starts_with("0.0 "),
        "{verdict}"
    );
    let last = line("2 tokens, ");
    let speed = last.split(", ").nth(1).unwrap();
    let per_token = speed
        .strip_suffix(" s/token")
        .unwrap_or_else(|| panic!("{last}"));
    assert!((2.0..4.0).contains(&per_token.parse().unwrap()), "{last}");
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

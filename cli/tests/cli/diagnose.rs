//! `engine diagnose`: exit codes, the shape of the report, and what it says of an emulated link.
//! That the diagnoses are right is tested where their conditions can be made: in the engine.

use std::fs;

use crate::common::{Made, command, engine, make, run, tiny};
use serde_json::{Value, json};

/// Few and short runs: enough for the shape of a report.
const SHORT: &str = "--tokens 4 --repeats 2 --context 32 --threads 1";

fn diagnose(made: &Made, rest: &str) -> crate::common::Run {
    made.run("diagnose", &format!("{SHORT} {rest}"))
}

fn names(json: &Value, list: &str, field: &str) -> Vec<String> {
    let items = json[list].as_array().unwrap().iter();
    items
        .map(|item| item[field].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_report_has_every_part_and_a_bundle_to_save() {
    let made = make(&tiny().with_layers(8));
    let file = made.file("bundle.txt");
    let run = diagnose(
        &made,
        &format!("--num-gpu-layers 2 --save {}", file.display()),
    )
    .ok();
    let text = &run.stdout;
    for part in [
        "RUNS",
        "METRICS",
        "STAGES",
        "EXPECTED BUDGET",
        "DIAGNOSIS",
        "COMPARED",
        "REPORT BACK",
    ] {
        let found = text.lines().any(|line| line.starts_with(part));
        assert!(found, "{part}: {text}");
    }
    for word in [
        "as given",
        "no offload",
        "N+4",
        "async usage",
        "streamed wait",
        "Next: ",
        "Machine: ",
        "Time per token: ",
        "first  Layer  0: Pre=",
        "last   Layer  6: Pre=",
        "Memory copies: ",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("emulated"), "{text}");
    assert_eq!(run.stderr, "");
    let bundle = fs::read_to_string(file).unwrap();
    assert!(bundle.starts_with("REPORT BACK"), "{bundle}");
    assert!(text.ends_with(&bundle), "{text}");
}

#[test]
fn json_has_the_same_and_every_n_its_runs() {
    let made = make(&tiny().with_layers(8));
    let run = diagnose(&made, "--num-gpu-layers 2 --no-prefetch --json").ok();
    assert_eq!(run.stdout.lines().count(), 1);
    let json = run.json();
    assert_eq!(
        names(&json, "runs", "run"),
        ["as_given", "no_offload", "more_resident"]
    );
    let resident: Vec<&Value> = (0..3).map(|run| &json["runs"][run]["resident"]).collect();
    assert_eq!(resident, [&json!(2), &json!(8), &json!(6)]);
    let given = &json["runs"][0];
    assert_eq!(given["token_ms"]["rounds"].as_array().unwrap().len(), 2);
    for field in ["median", "least", "most"] {
        assert!(given["tokens_per_s"][field].as_f64().unwrap() > 0.0);
    }
    assert!(given["link_peak_gbps"].as_f64().unwrap() > 0.0);
    assert_eq!(json["runs"][1]["link_gbps"], Value::Null);
    assert_eq!(
        (&json["rounds"], &json["interrupted"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(json["emulated"], false);
    // Whatever this machine does, this one holds.
    assert!(names(&json, "diagnoses", "name").contains(&"prefetch_not_working".into()));
    let off = json["diagnoses"].as_array().unwrap().iter();
    let text = off
        .map(|found| found["text"].to_string())
        .collect::<String>();
    assert!(text.contains("switched off"), "{text}");
    assert_eq!(
        names(&json, "metrics", "name"),
        ["async_usage_percent", "pre_ms", "post_ms", "tags_async"]
    );
    assert_eq!(json["metrics"][0]["guide"], "bad");
    let parts = names(&json["budget"], "parts", "part");
    assert_eq!(parts.len(), 6, "{parts:?}");
    for run in json["runs"].as_array().unwrap() {
        assert!(run["memory_share"].as_f64().unwrap() > 0.0, "{run}");
    }
    assert!(json["budget"]["total"]["predicted_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(json["report_back"]["async_percent"], 0);
    assert_eq!(json["report_back"]["layers"].as_array().unwrap().len(), 3);
    assert_eq!(json["report_back"]["layers"][0]["tag"], "SYNC");
    assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
}

#[test]
fn an_emulated_link_is_called_so_everywhere() {
    let made = make(&tiny().with_layers(6));
    let emulated = "--num-gpu-layers 1 --link-gbps 0.1";
    let text = diagnose(&made, emulated).ok().stdout;
    for line in text.lines() {
        let heading = line.starts_with(|c: char| c.is_ascii_uppercase());
        let counted = line.ends_with("rounds in turns");
        if (heading && !counted) || line.starts_with("  * ") {
            assert!(line.contains("emulated"), "{line:?} of {text}");
        }
    }
    let json = diagnose(&made, &format!("{emulated} --json")).ok().json();
    assert_eq!(
        (&json["emulated"], &json["emulated_gbps"]),
        (&json!(true), &json!(0.1))
    );
    assert_eq!(json["runs"][0]["emulated"], true);
    assert_eq!(json["runs"][1]["emulated"], false);
}

#[test]
fn runs_that_say_nothing_new_or_do_not_fit_are_left_out() {
    let made = make(&tiny());
    // `auto` is everything here: one run, and nothing to compare with.
    let json = diagnose(&made, "--json").ok().json();
    assert_eq!(names(&json, "runs", "run"), ["as_given"]);
    assert_eq!(names(&json, "left_out", "reason"), ["same_as", "same_as"]);
    assert_eq!(json["comparisons"], json!([]));
    assert_eq!(json["metrics"], json!([]));
    let text = diagnose(&made, "").ok().stdout;
    assert!(text.contains("nothing is streamed"), "{text}");

    let made = make(&tiny().with_layers(13));
    let plan = made
        .run("plan", "--context 32 --memory 1TiB --json")
        .ok()
        .json();
    let limit = plan["plans"][8]["total_bytes"].as_u64().unwrap();
    let limited = format!("--num-gpu-layers 4 --memory {limit}");
    let run = diagnose(&made, &limited).ok();
    for text in [&run.stdout, &run.stderr] {
        assert!(
            text.contains("without the run `no offload`: 13 resident layers need"),
            "{run:?}"
        );
    }
    let json = diagnose(&made, &format!("{limited} --json")).ok().json();
    assert_eq!(names(&json, "runs", "run"), ["as_given", "more_resident"]);
    assert_eq!(json["left_out"][0]["memory_bytes"], json!(limit));
    assert_eq!(json["left_out"][0]["resident"], json!(13));
    assert_eq!(json["budget"]["independent"], false);

    // `auto` takes what fits; the run below is there to compare with.
    let auto = format!("--memory {limit} --link-gbps 0.1 --json");
    let json = diagnose(&made, &auto).ok().json();
    assert_eq!(names(&json, "runs", "run"), ["as_given", "fewer_resident"]);
    let resident = |run: usize| json["runs"][run]["resident"].as_u64().unwrap();
    assert_eq!(resident(0) - resident(1), 4, "{json}");
    // Two short rounds on a busy machine: whichever way they went, N-4 is what was compared.
    assert_eq!(json["comparisons"].as_array().unwrap().len(), 1, "{json}");
    let text = json["comparisons"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("N-4 is "), "{text}");
}

#[test]
fn the_demo_is_diagnosed_without_a_word_typed() {
    let json = run("diagnose --tokens 3 --repeats 1 --num-gpu-layers 20 --json")
        .ok()
        .json();
    assert_eq!(json["runs"].as_array().unwrap().len(), 3);
    assert_eq!(json["prompt_tokens"], 8);
}

#[test]
fn wrong_usage_is_told_before_anything_is_measured() {
    let made = make(&tiny());
    let name = made.name();
    for (typed, words) in [
        ("--tokens 1", "the first token is the prompt's pass"),
        ("--repeats 0", "1 or more"),
    ] {
        let run = diagnose_only(&made, typed);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(run.stderr.contains(words), "{run:?}");
    }
    let fails = |rest: &str, code, words: &[&str]| {
        diagnose_only(&made, rest).fails(code, words);
    };
    fails("--prompt-tokens 1,999", 2, &["token 999"]);
    fails("--tokens 40 --context 32", 2, &["47 positions", "holds 32"]);
    fails("--num-gpu-layers 4", 2, &["has 3"]);
    fails("--link-gbps 0 --num-gpu-layers 0", 2, &["0 GB/s"]);
    fails("--memory 100KiB", 4, &["100 KiB are available"]);
    fails(
        "--save /no/such/folder/file",
        2,
        &["/no/such/folder/file", "--save"],
    );
    fails(&format!("--save {name}"), 2, &["cannot be a file"]);
    run("diagnose --model /no/such/directory").fails(3, &["does not exist"]);
    engine(["diagnose", "--help"]).ok();
}

fn diagnose_only(made: &Made, rest: &str) -> crate::common::Run {
    made.run("diagnose", rest)
}

/// Rounds that would take minutes over a slow link; the first is over after a moment.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_complete_rounds_showed() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let made = make(&tiny());
    let name = made.name();
    let interrupted = |repeats: &str, tokens: &str, after_ms: u64| {
        let child = command()
            .args([
                "diagnose",
                "--model",
                &name,
                "--num-gpu-layers",
                "0",
                "--json",
            ])
            .args(["--link-gbps", "0.05", "--threads", "1"])
            .args(["--repeats", repeats, "--tokens", tokens])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after_ms));
        let pid = child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // A round is some 30 ms.
    let (code, stdout, stderr) = interrupted("100000", "4", 3000);
    assert_eq!(code, Some(130), "{stderr}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["interrupted"], true);
    assert!(json["rounds"].as_u64().unwrap() >= 1, "{json}");
    // The first round alone would take some seconds.
    let (code, stdout, stderr) = interrupted("3", "500", 1000);
    assert_eq!((code, stdout.as_str()), (Some(130), ""), "{stderr}");
    assert!(stderr.contains("nothing to tell"), "{stderr}");
}

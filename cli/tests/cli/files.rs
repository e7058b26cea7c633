//! The report files of `engine generate`: every option, and what happens when they cannot be
//! written or the run ends early.

use std::fs;
use std::path::Path;

use crate::common::{Run, command, engine, make, tiny};
use serde_json::Value;

const NAMES: [&str; 5] = [
    "trace.json",
    "timing.tsv",
    "stats.json",
    "flamegraph.svg",
    "report.html",
];

fn story(options: &[&str]) -> Run {
    let start = [
        "generate",
        "--prompt",
        "Once upon a time",
        "--max-new-tokens",
        "8",
    ];
    engine(
        start
            .iter()
            .chain(&["--num-gpu-layers", "20"])
            .chain(options),
    )
}

/// A file of this name is there, whole and what it is called.
#[track_caller]
pub fn check(file: &Path, name: &str) {
    let text = fs::read_to_string(file).unwrap();
    let (start, end) = match name {
        "timing.tsv" => ("Stage\tTime(ms)\tCount\tAvg(ms)\tTotal(ms)\n", "\n"),
        "flamegraph.svg" => ("<?xml", "</svg>\n"),
        "report.html" => ("<!doctype html>", "</html>\n"),
        _ => {
            serde_json::from_str::<Value>(&text).unwrap();
            ("{", "}\n")
        }
    };
    assert!(text.starts_with(start) && text.ends_with(end), "{name}");
}

pub fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn all() -> Vec<String> {
    let mut names = NAMES.map(String::from).to_vec();
    names.sort();
    names
}

#[test]
fn every_option_writes_its_file_and_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let options = [
        "--trace",
        "--timing-tsv",
        "--stats-json",
        "--flamegraph",
        "--report",
    ];
    for (option, name) in options.into_iter().zip(NAMES) {
        let file = temp.path().join(format!("my {name}"));
        let path = file.to_str().unwrap();
        let run = story(&[option, path]).ok();
        check(&file, name);
        let told = |line: &&str| line.starts_with(&format!("Wrote {path} ("));
        assert_eq!(run.stderr.lines().filter(told).count(), 1, "{run:?}");
        assert!(run.stderr.lines().last().unwrap().starts_with("8 tokens, "));
    }
    assert_eq!(names_in(temp.path()).len(), 5);
}

#[test]
fn a_folder_takes_them_all_and_a_place_of_its_own_goes_first() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("runs/first");
    let run = story(&["--profile-dir", folder.to_str().unwrap(), "--quiet"]).ok();
    assert_eq!(run.stderr, "");
    assert_eq!(names_in(&folder), all());
    for name in NAMES {
        check(&folder.join(name), name);
    }
    let stats: Value =
        serde_json::from_slice(&fs::read(folder.join("stats.json")).unwrap()).unwrap();
    assert_eq!(stats["tokens"], 8);
    assert!(stats["link"]["peak_gbps"].as_f64().unwrap() > 0.0);
    assert!(stats["model"].as_str().unwrap().contains("demo model"));

    let second = temp.path().join("second");
    let apart = temp.path().join("apart.json");
    let options = [
        "--profile-dir",
        second.to_str().unwrap(),
        "--trace",
        apart.to_str().unwrap(),
    ];
    story(&options).ok();
    check(&apart, "trace.json");
    assert_eq!(names_in(&second).len(), 4);
}

#[test]
fn a_place_that_takes_no_file_is_refused_before_loading() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a file");
    fs::write(&file, "").unwrap();
    let place = |path: &Path| path.to_str().unwrap().to_owned();
    let nowhere = place(&temp.path().join("none/trace.json"));
    let below = place(&file.join("trace.json"));
    let folder = place(temp.path());
    for (option, path) in [
        ("--trace", &nowhere),
        ("--stats-json", &below),
        ("--report", &folder),
        ("--profile-dir", &place(&file)),
    ] {
        let run = story(&[option, path]).fails(1, &[path, "cannot be written"]);
        assert!(!run.stderr.contains("Loaded"), "{run:?}");
        assert!(!run.stderr.contains("Plan"), "{run:?}");
    }
    let same = place(&temp.path().join("both"));
    story(&["--trace", &same, "--report", &same]).fails(2, &[&same]);
    assert_eq!(names_in(temp.path()), ["a file"]);
}

/// What was asked for is there after a run that was interrupted, and after one that failed.
#[cfg(unix)]
#[test]
fn a_run_that_ends_early_leaves_whole_files() {
    use std::io::Read;
    use std::process::{Command, Stdio};

    let spec = loader::synth::SynthSpec {
        max_positions: 20_000,
        ..tiny()
    };
    for (interrupt, code, ended) in [(true, 130, "interrupted"), (false, 1, "failed")] {
        let made = make(&spec);
        let folder = made.dir.parent().unwrap().join("files");
        let mut child = command();
        child.args([
            "generate",
            "--model",
            &made.name(),
            "--prompt-tokens",
            "1,2,3",
        ]);
        child.args([
            "--max-new-tokens",
            "19000",
            "--context",
            "20000",
            "--ignore-eos",
        ]);
        child
            .args(["--num-gpu-layers", "0", "--profile-dir"])
            .arg(&folder);
        if interrupt {
            child.args(["--link-gbps", "0.02"]);
        }
        let mut child = child
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        if interrupt {
            let pid = child.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-INT", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        } else {
            let weights = fs::File::options()
                .write(true)
                .open(made.file("model.safetensors"));
            weights.unwrap().set_len(100_000).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(names_in(&folder), all(), "{stderr}");
        for name in NAMES {
            check(&folder.join(name), name);
        }
        let stats: Value =
            serde_json::from_slice(&fs::read(folder.join("stats.json")).unwrap()).unwrap();
        assert_eq!(stats["ended"], ended);
        assert!(stats["tokens"].as_u64().unwrap() > 0);
        assert_eq!(stats["tokens"], stats["steps_recorded"]);
    }
}

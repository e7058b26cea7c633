//! The raw spans of a run (feature `profiling`): names, nesting and fields, in a file that is whole
//! however the run ended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value};

const LAYERS: usize = 28;

/// A span with the names around it, outermost first.
#[derive(Debug)]
struct Span {
    thread: String,
    path: String,
    args: Map<String, Value>,
    ns: u64,
}

fn engine(spans: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("generate")
        .arg("--spans")
        .arg(spans)
        .args(["--prompt", "Once upon a time"])
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

/// Reads a trace: on each thread spans nest or are disjoint. Returns the spans, in the order in
/// which they begin, and the targets of the instant events.
fn read(path: &Path) -> (Vec<Span>, Vec<String>) {
    let trace: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(trace["otherData"]["entries_left_out"], 0);
    let ns = |event: &Value, field: &str| (event[field].as_f64().unwrap() * 1000.0).round() as u64;
    let mut threads = BTreeMap::new();
    let mut open: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
    let (mut spans, mut instants) = (Vec::new(), Vec::new());
    for event in trace["traceEvents"].as_array().unwrap() {
        let thread = event["tid"].as_u64().unwrap();
        let name = event["name"].as_str().unwrap().to_owned();
        match event["ph"].as_str().unwrap() {
            "M" => {
                threads.insert(thread, event["args"]["name"].as_str().unwrap().to_owned());
            }
            "X" => {
                let stack = open.entry(thread).or_default();
                let from = ns(event, "ts");
                let to = from + ns(event, "dur");
                while stack.last().is_some_and(|(_, end)| *end <= from) {
                    stack.pop();
                }
                if let Some((outer, end)) = stack.last() {
                    assert!(to <= *end, "{name} ends after {outer}, in which it began");
                }
                stack.push((name, to));
                let path: Vec<&str> = stack.iter().map(|(name, _)| name.as_str()).collect();
                spans.push(Span {
                    thread: threads[&thread].clone(),
                    path: path.join("/"),
                    args: event["args"].as_object().unwrap().clone(),
                    ns: to - from,
                });
            }
            "i" => instants.push(event["cat"].as_str().unwrap().to_owned()),
            other => panic!("{other}"),
        }
    }
    (spans, instants)
}

fn of<'a>(spans: &'a [Span], path: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.path == path).collect()
}

fn fields<'a>(spans: &[&'a Span], field: &str) -> Vec<&'a Value> {
    spans.iter().map(|span| &span.args[field]).collect()
}

#[test]
fn spans_have_the_stages_names_and_nest_as_they_do() {
    for (kernels, syncs_a_pass) in [("fast", 0), ("clear", 1)] {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("spans.json");
        let run = engine(
            &file,
            &format!(
                "--num-gpu-layers 20 --max-new-tokens 4 --kernels {kernels} --temperature 0.8 --top-k 5 --top-p 0.9"
            ),
        );
        assert!(run.status.success(), "{run:?}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        let (spans, instants) = read(&file);
        every_stage_is_there(&spans);
        // As many waits for the device as there are.
        let syncs = instants.iter().filter(|target| *target == "gpu_sync");
        assert_eq!(syncs.count(), 4 * syncs_a_pass, "{kernels}");
    }
}

fn every_stage_is_there(spans: &[Span]) {
    for once in ["model_load", "init", "prefill", "generate"] {
        assert_eq!(of(spans, once).len(), 1, "{once}");
    }
    let steps = of(spans, "generate/step");
    assert_eq!(fields(&steps, "index"), [1, 2, 3]);
    for (pass, passes) in [("prefill", 1), ("generate/step", 3)] {
        for (stage, count) in [
            ("embed", 1),
            ("blocks", 1),
            ("blocks/layer", LAYERS),
            ("blocks/layer/transfer", 8),
            ("blocks/layer/norm", 2 * LAYERS),
            ("blocks/layer/attention", LAYERS),
            ("blocks/layer/mlp", LAYERS),
            ("head", 1),
            ("sampling", 1),
            ("sampling/top_k", 1),
            ("sampling/top_p", 1),
            ("decode", 1),
        ] {
            let path = format!("{pass}/{stage}");
            let found = of(spans, &path);
            assert_eq!(found.len(), passes * count, "{path}");
            let computes = ["embed", "norm", "attention", "mlp", "head"];
            if computes.iter().any(|name| path.ends_with(name)) {
                assert!(found.iter().all(|span| span.ns > 0), "{path}");
            }
        }
        let layers = of(spans, &format!("{pass}/blocks/layer"));
        for (at, layer) in layers.iter().enumerate() {
            assert_eq!(layer.args["index"], at % LAYERS);
        }
        let kinds = fields(&layers, "kind");
        let count = |kind: &str| kinds.iter().filter(|of| **of == kind).count();
        assert_eq!(count("resident"), 20 * passes, "{kinds:?}");
        assert_eq!(count("async") + count("sync"), 8 * passes, "{kinds:?}");
    }
    let copies = of(spans, "copy");
    assert!(copies.len() >= 4 * 8, "{}", copies.len());
    for copy in copies {
        assert_eq!(copy.thread, "prefetch");
        assert!(copy.args["layer"].as_u64().unwrap() < LAYERS as u64);
        assert!(copy.args["bytes"].as_u64().unwrap() > 100_000);
    }
}

#[test]
fn without_prefetch_every_streamed_layer_is_sync() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("spans.json");
    let run = engine(&file, "--num-gpu-layers 0 --no-prefetch --max-new-tokens 2");
    assert!(run.status.success(), "{run:?}");
    let (spans, _) = read(&file);
    let kinds = of(&spans, "generate/step/blocks/layer");
    assert_eq!(fields(&kinds, "kind"), ["sync"; LAYERS]);
}

#[test]
fn a_run_that_fails_leaves_whole_spans_and_its_own_error() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("spans.json");
    let none = temp.path().join("none");
    let run = engine(&file, &format!("--quiet --model {}", none.display()));
    assert_eq!(run.status.code(), Some(3), "{run:?}");
    assert_eq!(read(&file).0.len(), 0);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_whole_spans() {
    use std::io::Read;
    use std::process::Stdio;

    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("spans.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("generate")
        .arg("--spans")
        .arg(&file)
        .args(["--prompt", "Once", "--ignore-eos", "--quiet"])
        .args(["--max-new-tokens", "1000", "--num-gpu-layers", "0"])
        .args(["--link-gbps", "0.02"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert!(!file.exists());
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let (spans, _) = read(&file);
    assert_eq!(of(&spans, "prefill").len(), 1);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn places_are_tried_and_told_apart_before_the_run() {
    let temp = tempfile::tempdir().unwrap();
    let here = temp.path().join("spans.json");
    let same = engine(&here, &format!("--trace {}", here.display()));
    assert_eq!(same.status.code(), Some(2), "{same:?}");
    let nowhere = engine(&temp.path().join("none/spans.json"), "");
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(nowhere.stdout.is_empty(), "{nowhere:?}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

/// A stand-in for NVIDIA's library writes down what it is told: every stage is a range, and every
/// range ends.
#[cfg(target_os = "linux")]
#[test]
fn nvtx_ranges_have_the_stages_names() {
    const LIBRARY: &str = r#"
        #include <stdio.h>
        #include <stdlib.h>
        static FILE *said(void) {
            static FILE *file;
            if (!file) file = fopen(getenv("NVTX_SAID"), "a");
            return file;
        }
        unsigned long nvtxRangeStartA(const char *name) {
            static unsigned long last;
            fprintf(said(), "start %lu %s\n", ++last, name);
            return last;
        }
        void nvtxRangeEnd(unsigned long id) { fprintf(said(), "end %lu\n", id); }
    "#;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("nvtx.c");
    let said = folder.path().join("said");
    fs::write(&source, LIBRARY).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.path().join("libnvToolsExt.so.1"))
        .arg(&source)
        .status()
        .unwrap();
    assert!(compiled.success());

    let ran = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["generate", "--prompt", "Once", "--kernels", "clear"])
        .args(["--num-gpu-layers", "20", "--max-new-tokens", "3", "--quiet"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("NVTX_SAID", &said)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said = fs::read_to_string(said).unwrap();
    let count = |what: &str| said.lines().filter(|line| line.ends_with(what)).count();
    assert_eq!(count(" mlp"), 3 * LAYERS, "{said}");
    assert_eq!(count(" transfer"), 3 * 8);
    assert_eq!(count(" prefill"), 1);
    assert_eq!(count(" step"), 2);
    let starts = said
        .lines()
        .filter(|line| line.starts_with("start"))
        .count();
    let ends = said.lines().filter(|line| line.starts_with("end")).count();
    assert_eq!(starts, ends);
}

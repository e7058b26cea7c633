//! `engine c2c` and `engine bench --c2c`, over the fixtures of the library's own test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Run, engine, run};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/c2c")
}

fn at(name: &str) -> String {
    fixtures().join(name).display().to_string()
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

fn ids(list: &Value) -> String {
    let ids = list.as_array().unwrap().iter().map(Value::to_string);
    ids.collect::<Vec<_>>().join(",")
}

/// With the first fuser.
fn c2c(rest: &str) -> Run {
    let [base, teacher, fuser] = ["base", "teacher", "fuser"].map(at);
    let start = [
        "c2c",
        "--base",
        &base,
        "--teacher",
        &teacher,
        "--fuser",
        &fuser,
    ];
    engine(start.into_iter().chain(rest.split_whitespace()))
}

#[test]
fn the_tokens_are_the_references_and_the_files_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let expected = expected();
    let prompt = ids(&expected["prompts"]["short"]);
    let rest = format!(
        "--dtype f32 --num-gpu-layers 1 --prompt-tokens {prompt} --max-new-tokens 32 --ignore-eos \
         --json --profile --profile-dir {} --dump {}",
        name("run"),
        name("dump.safetensors")
    );
    let ran = c2c(&rest).ok();
    let json = ran.json();
    assert_eq!(json["tokens"], expected["tokens"]["fuser"]["short"]);
    assert_eq!(json["timing"]["projections"], 4);
    assert_eq!(json["stacks"][1]["name"], "teacher");
    assert_eq!(json["stacks"][1]["streamed"], 6);
    for words in [
        "Lead, teacher:",
        "Layer teacher  5:",
        "Layer projectors  3:",
        "Layer base 1:",
        "projection",
        "ms per token",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let table = fs::read_to_string(name("run/timing.tsv")).unwrap();
    assert!(table.contains("Projector (KV projection)\t"), "{table}");
    assert!(table.contains("\nstep[32]\t"), "{table}");
    let dump = fs::read(name("dump.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&dump[8..]).into_owned();
    for tensor in [
        "\"logits\"",
        "[32,300]",
        "\"fuse.3.value.out\"",
        "[2,11,16]",
    ] {
        assert!(header.contains(tensor), "{tensor}");
    }
}

#[test]
fn what_was_typed_wrongly_is_told() {
    let [base, teacher, fuser] = ["base", "teacher", "fuser"].map(at);
    let both = format!("--base {base} --teacher {teacher}");
    run(&format!(
        "c2c {both} --teacher {teacher} --fuser {fuser} --prompt-tokens 1,2"
    ))
    .fails(2, &["2 teachers and 1 fusers"]);
    run(&format!("c2c {both} --fuser {base} --prompt-tokens 1,2"))
        .fails(3, &["projector_config.json"]);
    run(&format!(
        "c2c {both} --fuser {} --prompt-tokens 1,2",
        at("fuser-2")
    ))
    .fails(3, &["fuser-2"]);
    run(&format!(
        "c2c --base {base} --teacher {base}x --fuser {fuser} --prompt-tokens 1,2"
    ))
    .fails(3, &["the teacher", "basex"]);
    c2c("--prompt-tokens 1,2,999").fails(2, &["999"]);
    c2c("--prompt Hello").fails(3, &["tokenizer.json"]);
    c2c("--prompt-tokens 1,2 --teacher-gpu-layers 7").fails(2, &["the teacher", "7", "6"]);
    c2c("--prompt-tokens 1,2 --memory 10KiB").fails(4, &["memory"]);
    c2c("--prompt-tokens 1,2 --dump /nowhere/at/all.safetensors").fails(1, &["/nowhere"]);
}

#[test]
fn a_truncated_projector_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("final");
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(fixtures().join("fuser/final")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
    let projector = to.join("projector_2.pt");
    let bytes = fs::read(&projector).unwrap();
    fs::write(&projector, &bytes[..bytes.len() / 2]).unwrap();
    let [base, teacher] = ["base", "teacher"].map(at);
    let line = format!(
        "c2c --base {base} --teacher {teacher} --fuser {} --prompt-tokens 1,2",
        folder.path().display()
    );
    run(&line).fails(3, &["projector_2.pt"]);
    fs::remove_file(&projector).unwrap();
    run(&line).fails(3, &["projector_2.pt", "layer 2"]);
}

#[test]
fn base_teacher_and_both_are_compared() {
    let [base, teacher, fuser] = ["base", "teacher", "fuser"].map(at);
    let line = format!("bench --c2c {base} {teacher} {fuser} --tokens 8 --repeats 3 --warmup 0");
    let text = run(&line).ok().stdout;
    for words in [
        "base alone",
        "teacher alone",
        "both",
        "projection",
        "each of 4",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = run(&format!("{line} --json --num-gpu-layers 0"))
        .ok()
        .json();
    let rows = json["rows"].as_array().unwrap();
    // The context is 256 tokens.
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["decode_of_base_alone"].as_array().unwrap().len(), 3);
    assert!(rows[1]["both"]["time_to_first_token_ms"].as_f64().unwrap() > 0.0);
}

//! `engine generate` with a form for its answer: JSON of a schema, a pattern, a grammar.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::engine;

const STORY: [&str; 5] = [
    "generate",
    "--prompt",
    "Once upon a time",
    "--max-new-tokens",
    "200",
];

fn file(content: &str) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("form");
    std::fs::write(&path, content).unwrap();
    (temp, path)
}

fn story(flag: &str, value: &str, more: &str) -> crate::common::Run {
    let flags = [flag, value].into_iter().chain(more.split_whitespace());
    engine(STORY.into_iter().chain(flags))
}

#[test]
fn an_answer_is_of_its_form() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1,
        "maximum": 9}, "kind": {"enum": ["a", "b"]}}, "required": ["n", "kind"],
        "additionalProperties": false});
    let (_temp, path) = file(&schema.to_string());
    for draw in ["", "--temperature 1 --seed 4"] {
        let run = story("--json-schema", path.to_str().unwrap(), draw).ok();
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        assert!((1..=9).contains(&value["n"].as_u64().unwrap()), "{value}");
        assert!(
            run.stderr.contains("ended: grammar complete"),
            "{}",
            run.stderr
        );
    }
    let run = story("--regex", "(yes|no)!", "--json").ok();
    let report = run.json();
    let text = report["text"].as_str().unwrap();
    assert!(["yes!", "no!"].contains(&text), "{text}");
    assert_eq!(report["ended"], "grammar_complete");
    let (_temp, path) = file("start: NAME \",\" NAME\nNAME: /[A-Z][a-z]{2,5}/\n");
    let run = story("--grammar", path.to_str().unwrap(), "").ok();
    assert_eq!(run.stdout.trim().split(',').count(), 2, "{}", run.stdout);
}

#[test]
fn the_time_of_masks_is_in_the_profile() {
    let run = story("--regex", "[a-z ]{40}", "--profile").ok();
    assert!(run.stderr.contains("mask"), "{}", run.stderr);
}

#[test]
fn what_is_wrong_with_a_form_is_said_before_weights_are_loaded() {
    let (_temp, path) = file("{\"type\": \"object\", \"not\": {}}");
    let path = path.to_str().unwrap().to_owned();
    story("--json-schema", &path, "").fails(2, &["JSON schema", "not"]);
    let (_temp, other) = file("{\"type\"");
    story("--json-schema", other.to_str().unwrap(), "").fails(2, &["no JSON"]);
    story("--json-schema", "/nowhere/x", "").fails(1, &["/nowhere/x"]);
    story("--regex", "(", "").fails(2, &["regular expression"]);
    let (_temp, lark) = file("start: nothing");
    story("--grammar", lark.to_str().unwrap(), "").fails(2, &["grammar", "nothing"]);
    let both = story("--regex", "a", &format!("--json-schema {path}"));
    assert_eq!(both.code, 2);
    assert!(
        both.stderr.contains("cannot be used with"),
        "{}",
        both.stderr
    );
}

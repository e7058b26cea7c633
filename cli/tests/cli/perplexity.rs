//! `engine perplexity`, and `generate --logprobs`.

use std::fs;

use serde_json::Value;

use crate::common::run;

fn story() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("story.txt");
    let text = "Once upon a time there was a small cat. The cat sat on a mat and saw a bird. ";
    fs::write(&file, text.repeat(4)).unwrap();
    let flags = format!("--txt-path {}", file.display());
    (folder, flags)
}

#[test]
fn a_text_is_scored_whatever_stays_resident() {
    let (_folder, story) = story();
    let scored = |flags: &str| {
        run(&format!("perplexity {story} {flags} --json"))
            .ok()
            .json()
    };
    let all = scored("--window 32 --stride 16");
    let number = |json: &Value, key: &str| json[key].as_f64().unwrap();
    let tokens = number(&all, "text_tokens");
    assert_eq!(number(&all, "scored_tokens"), tokens - 1.0);
    assert_eq!(
        number(&all, "windows"),
        ((tokens - 32.0) / 16.0).ceil() + 1.0
    );
    let found = number(&all, "perplexity");
    assert!((found.ln() - number(&all, "nll")).abs() < 1e-9);
    assert!(found > 1.0 && number(&all, "tokens_per_s") > 0.0, "{all}");
    assert_eq!(all["interrupted"], false);
    for same in ["--num-gpu-layers 0", "--num-gpu-layers 9"] {
        let other = scored(&format!("--window 32 --stride 16 {same}"));
        assert_eq!(number(&other, "perplexity"), found, "{same}");
    }
    // More to go by: a text that repeats itself is foretold better.
    assert!(number(&scored("--window 128"), "perplexity") < found);

    let text = run(&format!("perplexity {story} --window 32 --stride 16")).ok();
    let line = format!("Perplexity: {found:.4} +/- ");
    assert!(text.stdout.starts_with(&line), "{text:?}");
    assert!(text.stderr.contains("windows of 32, 16 apart"), "{text:?}");
    let quiet = run(&format!("perplexity {story} --window 32 --quiet")).ok();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn token_ids_need_no_tokenizer_and_a_single_one_foretells_nothing() {
    let two = run("perplexity --prompt-tokens 5,6 --json").ok().json();
    assert_eq!(two["scored_tokens"], 1);
    run("perplexity --prompt-tokens 5").fails(2, &["1 token", "longer text"]);
    run("perplexity --prompt-tokens 5,99999").fails(2, &["99999"]);
    let none = run("perplexity");
    assert!(
        none.code == 2 && none.stderr.contains("--txt-path"),
        "{none:?}"
    );
    let strides = "perplexity --prompt-tokens 5,6,7 --window 2 --stride 3";
    run(strides).fails(2, &["3 apart", "stride no longer"]);
    run("perplexity --prompt-tokens 5,6 --context 8 --window 9").fails(2, &["9 tokens"]);
}

#[test]
fn log_probabilities_are_those_of_the_logits() {
    let flags = "--prompt-tokens 5,6,7 --max-new-tokens 3 --json --logprobs 4";
    let json = run(&format!("generate {flags} --quiet")).ok().json();
    let all = json["logprobs"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for (found, token) in all.iter().zip(json["tokens"].as_array().unwrap()) {
        assert_eq!(found["token"], *token);
        let top = found["top"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        // Greedy: the likeliest is what was taken.
        assert_eq!(top[0]["token"], *token);
        assert_eq!(top[0]["logprob"], found["logprob"]);
        let logprobs = top.iter().map(|it| it["logprob"].as_f64().unwrap());
        assert!(logprobs.clone().is_sorted_by(|a, b| a >= b));
        assert!(logprobs.map(f64::exp).sum::<f64>() < 1.0 + 1e-5);
        assert!(found["piece"].is_string());
    }
    let logits = run("logits --prompt-tokens 5,6,7").ok().json();
    let logits: Vec<f64> = (logits["logits"].as_array().unwrap().iter())
        .map(|it| it.as_f64().unwrap())
        .collect();
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let total: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let first = all[0]["logprob"].as_f64().unwrap();
    assert!((first + total.ln()).abs() < 1e-5, "{first}");

    let none = run("generate --prompt-tokens 5 --max-new-tokens 1 --json -q").ok();
    assert!(none.json().get("logprobs").is_none());
    for (flags, words) in [
        ("--logprobs 3", "--json"),
        ("--json --logprobs 101", "100 or less"),
    ] {
        let refused = run(&format!("generate --prompt-tokens 5 {flags}"));
        assert!(
            refused.code == 2 && refused.stderr.contains(words),
            "{refused:?}"
        );
    }
}

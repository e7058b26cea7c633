//! `engine bench`: rounds, tables, two sides in turns, and what is kept.

use crate::common::{engine, make, run, tiny};
use serde_json::Value;

#[test]
fn the_table_and_the_aggregate_block_are_as_promised() {
    let out = run("bench --num-gpu-layers 20 --tokens 4 --quiet").ok();
    assert_eq!(out.stderr, "");
    let lines: Vec<&str> = out.stdout.lines().collect();
    let head = lines
        .iter()
        .position(|line| line.starts_with("Label"))
        .unwrap();
    assert_eq!(
        lines[head],
        "Label     Words  Wall (ms)    Tok/s  Mem (MB)    Prefill   Generate     Decode"
    );
    assert_eq!(lines[head + 1], "----");
    for (line, label) in lines[head + 2..].iter().zip(["short", "medium", "long"]) {
        assert!(line.starts_with(label), "{line}");
        let percents: Vec<u32> = line
            .split(['(', ')'])
            .filter_map(|part| part.strip_suffix('%')?.parse().ok())
            .collect();
        assert_eq!(percents.len(), 3, "{line}");
        assert!((98..=102).contains(&percents.iter().sum::<u32>()), "{line}");
    }
    let block = lines
        .iter()
        .position(|line| *line == "AGGREGATE PERFORMANCE METRICS:")
        .unwrap();
    let seconds = |line: &str, name: &str| -> f64 {
        let value = line
            .strip_prefix(&format!("   {name}: "))
            .unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_suffix('s').unwrap();
        assert_eq!(value.split('.').nth(1).map(str::len), Some(3), "{line}");
        value.parse().unwrap()
    };
    assert!(seconds(lines[block + 1], "Average time to first byte") >= 0.0);
    assert!(seconds(lines[block + 2], "Average generation time") >= 0.0);
    assert!(seconds(lines[block + 3], "TTFB std dev") >= 0.0);
    assert_eq!(lines.len(), block + 4, "{lines:#?}");
    for what in ["Prompt", "Memory", "Link"] {
        let line = format!("{what}, short: ");
        let line = lines.iter().find(|text| text.starts_with(&line)).unwrap();
        assert!(line.contains("/s") && line.contains('%'), "{line}");
    }
}

/// A layer takes 10 ms over this link: much more than its compute. Then two slots and a prefetch
/// hide little, and no prefetch hides nothing; a second slot decides whether copies follow on.
#[test]
fn two_sides_run_in_turns_and_a_real_difference_is_no_noise() {
    let folder = tempfile::tempdir().unwrap();
    let save = folder.path().display().to_string();
    let run = engine([
        "bench",
        "--link-gbps",
        "0.02",
        "--tokens",
        "4",
        "--quiet",
        "--json",
        "--save",
        &save,
        "--compare",
        "--num-gpu-layers 27",
        "--num-gpu-layers 14",
    ])
    .ok();
    let json = run.json();
    assert_eq!(json["rounds"], 3);
    let sides = json["sides"].as_array().unwrap();
    assert_eq!(sides.len(), 2);
    for (side, streamed) in sides.iter().zip([1, 14]) {
        for prompt in side["prompts"].as_array().unwrap() {
            assert_eq!(prompt["streamed"], streamed);
            assert_eq!(
                prompt["tokens_per_s"]["values"].as_array().unwrap().len(),
                3
            );
        }
    }
    for ratio in json["ratios"].as_array().unwrap() {
        assert_eq!(ratio["noise"], false, "{ratio}");
        // Fourteen layers against one over the same link.
        let median = ratio["tokens_per_s"]["median"].as_f64().unwrap();
        assert!((0.02..0.5).contains(&median), "{ratio}");
    }
    // A rate is all tokens over all time, and never a mean of rates.
    for side in sides {
        for prompt in side["prompts"].as_array().unwrap() {
            let rates = prompt["tokens_per_s"]["values"].as_array().unwrap();
            let times = rates.iter().map(|rate| 1.0 / rate.as_f64().unwrap());
            let overall = rates.len() as f64 / times.sum::<f64>();
            let mean = prompt["tokens_per_s"]["mean"].as_f64().unwrap();
            assert!((mean / overall - 1.0).abs() < 1e-9, "{prompt}");
        }
    }
    let dated: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(dated.len(), 1);
    let dated = dated[0].as_ref().unwrap().path();
    let text = std::fs::read_to_string(dated.join("bench-1.txt")).unwrap();
    assert!(
        text.contains("A is faster") && text.contains("emulated"),
        "{text}"
    );
    // The tables have the medians: first all rows of side A, then those of B.
    let rows = text.split("\n----\n").skip(1).zip(sides);
    assert_eq!(rows.clone().count(), 2, "{text}");
    for (table, side) in rows {
        for (line, prompt) in table.lines().zip(side["prompts"].as_array().unwrap()) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let cell = |at: usize| cells[at].parse::<f64>().unwrap();
            let median = |what: &str| prompt[what]["median"].as_f64().unwrap();
            assert!(
                (cell(2) - median("wall_ms")).abs() < 0.051,
                "{line}: {prompt}"
            );
            let rate = median("tokens_per_s");
            assert!((cell(3) / rate - 1.0).abs() < 0.006, "{line}: {prompt}");
        }
    }
    let kept = std::fs::read_to_string(dated.join("bench-1.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), json);
}

#[test]
fn prompts_come_from_a_file_and_models_without_a_tokenizer_can_be_timed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.txt");
    std::fs::write(&file, "# two\ngreeting\tHello there\n\nOnce upon a time\n").unwrap();
    let args = [
        "bench",
        "--tokens",
        "2",
        "--json",
        "--prompts",
        file.to_str().unwrap(),
    ];
    let json = engine(args).ok().json();
    let prompts = json["sides"][0]["prompts"].as_array().unwrap();
    let labels: Vec<_> = prompts
        .iter()
        .map(|p| p["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["greeting", "line 4"]);
    assert_eq!(prompts[1]["words"], 4);

    let made = make(&tiny());
    let json = made.run("bench", "--tokens 2 --json").ok().json();
    let first = &json["sides"][0]["prompts"][0];
    assert_eq!(
        (&first["words"], &first["prompt_tokens"]),
        (&Value::Null, &16.into())
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = run("bench --repeats 2");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("fewer than 3 rounds"),
        "{refused:?}"
    );
    engine(["bench", "--compare", "--num-gpu-layer 3", ""]).fails(2, &["side A"]);
    // What no run can ever reach is a slip, and no number to count with.
    for (line, most) in [
        ("bench --repeats 18446744073709551615", "1000000 or less"),
        ("bench --warmup 18446744073709551615", "1000000 or less"),
        ("bench --tokens 18446744073709551615", "1000000000 or less"),
        ("tune --tokens 18446744073709551615", "1000000000 or less"),
        ("tune --repeats 99999999999999999999999", "1000000 or less"),
        ("tune --verify 18446744073709551615", "65536 or less"),
        (
            "diagnose --tokens 18446744073709551615",
            "1000000000 or less",
        ),
        ("diagnose --repeats 18446744073709551615", "1000000 or less"),
        (
            "generate --prompt a --max-new-tokens 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "generate --prompt a --profile --profile-every 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "generate --prompt a --context 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "generate --prompt a --top-k 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "generate --prompt a --slots 18446744073709551615",
            "65536 or less",
        ),
        (
            "generate --prompt a --threads 18446744073709551615",
            "65536 or less",
        ),
        (
            "generate --prompt a --num-gpu-layers 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "synth x --layers 18446744073709551615",
            "1000000000 or less",
        ),
        (
            "generate --prompt a --slots many",
            "`many` is not a number from 0 to 65536",
        ),
        (
            "generate --prompt a --num-gpu-layers many",
            "or `auto`, or `all`",
        ),
        ("generate --prompt-tokens 1,x", "`x` is not a token id"),
    ] {
        let run = run(line);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line}: {run:?}");
        assert!(run.stderr.contains(most), "{line}: {run:?}");
    }
    // What can be typed and does not fit is told in tokens.
    run("bench --tokens 1000000000").fails(2, &["1000000001", "context"]);
    run("bench --prompts nowhere.txt").fails(1, &["nowhere.txt"]);
}

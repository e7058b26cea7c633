//! Every combination of the flags that decide where weights are and how they travel: what was
//! typed is in effect, shown by the plan that was carried out and by what it did, or it is an
//! error with a hint. What is expected is worked out here, from the flags alone.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use loader::synth::SynthSpec;
use serde_json::{Value, json};

use crate::common::{Made, Run, make, run, tiny};

const LAYERS: usize = 6;
const TOKENS: usize = 2;

/// One value each of several flags; empty where a flag is not typed.
type Combination<'a> = BTreeMap<&'a str, &'a str>;

fn all<'a>(choices: &[(&'a str, &[&'a str])]) -> Vec<Combination<'a>> {
    let mut combinations = vec![Combination::new()];
    for &(flag, values) in choices {
        let with = |combination: &Combination<'a>, value: &'a str| {
            let mut combination = combination.clone();
            combination.insert(flag, value);
            combination
        };
        combinations = (combinations.iter())
            .flat_map(|combination| values.iter().map(move |value| with(combination, value)))
            .collect();
    }
    combinations
}

fn line(combination: &Combination<'_>) -> String {
    let words = combination.iter().filter(|(_, value)| !value.is_empty());
    let words = words.map(|(flag, value)| match *value {
        "yes" => (*flag).to_owned(),
        value => format!("{flag} {value}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn generate(made: &Made, rest: &str) -> Run {
    let line =
        format!("--prompt-tokens 1,2,3 --max-new-tokens {TOKENS} --ignore-eos --json {rest}");
    made.run("generate", &line)
}

/// `check` over all of them, on a few threads.
fn for_each(combinations: &[Combination<'_>], check: impl Fn(&Combination<'_>) + Sync) {
    let next = Mutex::new(combinations.iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let combination = next.lock().unwrap().next();
                    let Some(combination) = combination else {
                        return;
                    };
                    check(combination);
                }
            });
        }
    });
}

/// How many layers stay, where the flags say it and memory is plenty.
fn resident(combination: &Combination<'_>) -> usize {
    match (combination["--no-offload"], combination["--num-gpu-layers"]) {
        ("yes", _) | (_, "" | "all" | "auto") => LAYERS,
        (_, number) => number.parse().unwrap(),
    }
}

/// What is wrong with these flags: the exit code and a word of the message.
fn expected_error(combination: &Combination<'_>) -> Option<(i32, &'static str)> {
    let get = |flag: &str| combination.get(flag).copied().unwrap_or_default();
    if get("--no-offload") == "yes" && !get("--num-gpu-layers").is_empty() {
        return Some((2, "cannot be used with"));
    }
    if get("--link-gbps") == "0" {
        return Some((2, "0 GB/s"));
    }
    if !get("--link-gbps").is_empty() && get("--weights") == "disk" {
        return Some((2, "--weights disk"));
    }
    if get("--slots") == "0" {
        return Some((2, "at least one slot"));
    }
    let resident = resident(combination);
    if resident > LAYERS {
        return Some((2, "the model has 6"));
    }
    let automatic =
        get("--no-offload").is_empty() && ["", "auto"].contains(&get("--num-gpu-layers"));
    let slots = get("--slots").parse().unwrap_or(0);
    let streamed = LAYERS - resident;
    match streamed {
        _ if automatic => None,
        0 if !idle(combination).is_empty() => Some((2, "nothing is streamed")),
        1.. if slots > streamed => Some((2, "no more layers are streamed")),
        _ => None,
    }
}

/// What says how to stream.
fn idle(combination: &Combination<'_>) -> Vec<&'static str> {
    let streaming = ["--no-prefetch", "--slots", "--weights", "--link-gbps"];
    let typed = |flag: &&str| {
        !combination
            .get(flag)
            .copied()
            .unwrap_or_default()
            .is_empty()
    };
    streaming.into_iter().filter(typed).collect()
}

fn streamed_layers(resident: usize, placement: &str) -> Vec<usize> {
    let count = LAYERS - resident;
    let at = |index| match placement {
        "first" => resident + index,
        "last" => index,
        _ => index * LAYERS / count,
    };
    (0..count).map(at).collect()
}

/// The plan that was carried out is the one that was asked for, and what was counted agrees.
fn holds(
    combination: &Combination<'_>,
    run: &Value,
    resident: usize,
    block_bytes: &BTreeMap<&str, u64>,
) {
    let get = |flag: &str| combination.get(flag).copied().unwrap_or_default();
    let said = line(combination);
    let plan = &run["plan"];
    let is = |field: &str, expected: Value| assert_eq!(plan[field], expected, "{field}: {said}");
    let placement = match get("--resident") {
        "" => "spread",
        typed => typed,
    };
    let streamed = streamed_layers(resident, placement);
    let stays = |layer: &usize| !streamed.contains(layer);
    is("placement", json!(placement));
    is("streamed_layers", json!(streamed));
    is(
        "resident_layers",
        json!((0..LAYERS).filter(stays).collect::<Vec<_>>()),
    );
    let slots = get("--slots").parse().unwrap_or(2).min(streamed.len());
    is("slots", json!(slots));
    is("prefetch", json!(get("--no-prefetch") != "yes"));
    let no_effect = match (streamed.len(), get("--slots").parse().unwrap_or(0)) {
        (0, _) => idle(combination),
        (streamed, slots) if slots > streamed => vec!["--slots"],
        _ => Vec::new(),
    };
    is("no_effect", json!(no_effect));
    let (emulated, home) = match (get("--link-gbps"), get("--weights")) {
        ("", "ram") => (Value::Null, "ram"),
        ("", _) => (Value::Null, "disk"),
        (gbps, _) => (json!(gbps.parse::<f64>().unwrap()), "ram"),
    };
    if streamed.is_empty() {
        for field in ["weights", "access", "emulated_gbps"] {
            is(field, Value::Null);
        }
    } else {
        is("weights", json!(home));
        is("emulated_gbps", emulated);
        let access = plan["access"].as_str().unwrap();
        let possible: &[&str] = match home {
            "ram" => &["memory copy"],
            _ => &["direct I/O", "page cache"],
        };
        assert!(possible.contains(&access), "{access}: {said}");
    }
    let offload = &run["offload"];
    let count = |field: &str| offload[field].as_u64().unwrap();
    let loads = (streamed.len() * TOKENS) as u64;
    assert_eq!(count("loads_async") + count("loads_sync"), loads, "{said}");
    assert_eq!(count("bytes"), loads * block_bytes[home], "{said}");
    if get("--no-prefetch") == "yes" {
        assert_eq!(count("loads_async"), 0, "{said}");
    }
}

#[test]
fn every_combination_of_offload_flags_is_in_effect_or_refused() {
    let made = make(&tiny().with_layers(LAYERS));
    let combinations = all(&[
        ("--num-gpu-layers", &["", "0", "2", "5", "6", "7"]),
        ("--no-offload", &["", "yes"]),
        ("--slots", &["", "1", "3", "0"]),
        ("--resident", &["", "first", "last"]),
        ("--weights", &["", "ram", "disk"]),
        ("--link-gbps", &["", "0.5", "0"]),
        ("--no-prefetch", &["", "yes"]),
    ]);
    // Two flags that clap refuses together need no third.
    let refused_by_clap =
        |c: &Combination<'_>| c["--no-offload"] == "yes" && !c["--num-gpu-layers"].is_empty();
    let alone = |c: &Combination<'_>| c.values().filter(|value| !value.is_empty()).count() == 2;
    let combinations: Vec<_> = (combinations.into_iter())
        .filter(|c| !refused_by_clap(c) || alone(c))
        .collect();
    // From disk come the bytes as stored, from RAM a whole slab.
    let block_bytes = |home: &str| {
        let rest = format!("--num-gpu-layers 0 --weights {home}");
        let run = generate(&made, &rest).ok().json();
        run["offload"]["bytes"].as_u64().unwrap() / (LAYERS * TOKENS) as u64
    };
    let block_bytes = BTreeMap::from(["disk", "ram"].map(|home| (home, block_bytes(home))));
    let tokens = generate(&made, "").ok().json()["tokens"].clone();
    let counts = Mutex::new((0, 0));
    for_each(&combinations, |combination| {
        let run = generate(&made, &line(combination));
        match expected_error(combination) {
            // Clap's own errors show the usage instead of a hint.
            Some((code, word @ "cannot be used with")) => {
                assert_eq!(run.code, code, "{run:?}");
                assert!(run.stderr.contains(word), "{run:?}");
            }
            Some((code, word)) => {
                run.fails(code, &[word]);
                counts.lock().unwrap().1 += 1;
            }
            None => {
                let run = run.ok().json();
                assert_eq!(run["tokens"], tokens, "{}", line(combination));
                holds(combination, &run, resident(combination), &block_bytes);
                counts.lock().unwrap().0 += 1;
            }
        }
    });
    let (in_effect, refused) = counts.into_inner().unwrap();
    println!("{in_effect} in effect, {refused} refused");
    assert!(in_effect > 200 && refused > 200);
}

/// `--memory` decides what `auto` comes to, and what else is refused: as `plan` says beforehand.
#[test]
fn a_memory_limit_is_kept_as_the_plan_says() {
    let made = make(&tiny().with_layers(LAYERS));
    let choices = all(&[
        ("--slots", &["", "1", "3"]),
        ("--resident", &["", "last"]),
        ("--weights", &["", "ram"]),
        ("--link-gbps", &["", "0.5"]),
        ("--context", &["", "64"]),
        ("--dtype", &["", "f16"]),
    ]);
    for_each(&choices, |combination| {
        let typed = line(combination);
        let plan = |limit: &str| made.run("plan", &format!("--json {typed} {limit}"));
        let unlimited = plan("--memory 1TiB").ok().json();
        let total = |n: usize| unlimited["plans"][n]["total_bytes"].as_u64().unwrap();
        // Between what two neighbours need, whichever of them needs more.
        let limit = (total(2) + total(3)) / 2;
        let limited = plan(&format!("--memory {limit}")).ok().json();
        let most = limited["auto"].as_u64().unwrap();
        let fits = |n: u64| limited["plans"][n as usize]["fits"] == json!(true);
        for n in (0..=LAYERS as u64).map(Some).chain([None]) {
            let typed_n = n.map_or("auto".into(), |n| n.to_string());
            let rest = format!("--num-gpu-layers {typed_n} --memory {limit} {typed}");
            let run = generate(&made, &rest);
            let resident = n.unwrap_or(most);
            let streamed = LAYERS as u64 - resident;
            let slots = combination["--slots"].parse().unwrap_or(0);
            let idle = streamed == 0 && !idle(combination).is_empty() || slots > streamed;
            match n {
                Some(n) if !fits(n) => {
                    run.fails(4, &[" are available", &format!("--num-gpu-layers {most}")]);
                }
                Some(_) if idle => {
                    run.fails(2, &["streamed"]);
                }
                _ => {
                    let run = run.ok().json();
                    let plan = &run["plan"];
                    let row = &limited["plans"][resident as usize];
                    assert_eq!(plan["memory_bytes"], json!(limit), "{rest}");
                    assert_eq!(plan["total_bytes"], row["total_bytes"], "{rest}");
                    assert_eq!(plan["slots"], row["slots"], "{rest}");
                    assert_eq!(run["offload"]["resident"], json!(resident), "{rest}");
                    let context = if combination["--context"] == "64" {
                        64
                    } else {
                        512
                    };
                    assert_eq!(plan["context"], json!(context), "{rest}");
                }
            }
        }
    });
}

#[test]
fn every_combination_of_compute_flags_is_in_effect_or_refused() {
    let made = make(&tiny().with_layers(LAYERS));
    let combinations = all(&[
        ("--dtype", &["", "bf16", "f16", "f32"]),
        ("--kernels", &["", "fast", "clear"]),
        ("--threads", &["", "1", "3", "2000"]),
        ("--device", &["", "cpu", "auto", "cuda", "cuda:1"]),
        ("--num-gpu-layers", &["", "2"]),
    ]);
    // A device would compute where there is one, and this is about the CPU.
    if generate(&made, "").ok().json()["plan"]["device"] != json!("cpu") {
        println!("skipped: a device computes here");
        return;
    }
    let stored = generate(&made, "").ok().json()["plan"]["dtype"].clone();
    let cores = thread::available_parallelism().unwrap().get();
    for_each(&combinations, |combination| {
        let run = generate(&made, &line(combination));
        let clear = combination["--kernels"] == "clear";
        if combination["--threads"] == "2000" {
            run.fails(2, &["2000 compute threads"]);
            return;
        }
        if clear && !combination["--threads"].is_empty() {
            run.fails(2, &["--threads", "--kernels fast"]);
            return;
        }
        if combination["--device"].starts_with("cuda") {
            run.fails(2, &["CUDA", "--device cpu"]);
            return;
        }
        let run = run.ok().json();
        let is = |field: &str, expected: Value| {
            assert_eq!(
                run["plan"][field],
                expected,
                "{field}: {}",
                line(combination)
            );
        };
        is("device", json!("cpu"));
        is("kernels", json!(if clear { "clear" } else { "fast" }));
        match combination["--dtype"] {
            "" => is("dtype", stored.clone()),
            dtype => is("dtype", json!(dtype)),
        }
        match clear {
            true => is("threads", Value::Null),
            false => is(
                "threads",
                json!(combination["--threads"].parse().unwrap_or(cores)),
            ),
        }
    });
}

/// `--resident-form` is kept by the plan, carried out, and refused where it could not be.
#[test]
fn the_form_of_resident_layers_is_in_effect_or_refused() {
    let made = make(&SynthSpec {
        hidden_size: 128,
        intermediate_size: 256,
        ..tiny().with_layers(LAYERS)
    });
    let tokens = generate(&made, "").ok().json()["tokens"].clone();
    let resident_bytes = |form: &str| {
        let flags = format!("--num-gpu-layers 4 --resident-form {form}");
        let run = generate(&made, &flags).ok().json();
        assert_eq!(run["tokens"], tokens);
        assert_eq!(run["plan"]["resident_form"], json!(form));
        let plan = made.run("plan", &format!("--json --resident-form {form}"));
        let plan = plan.ok().json();
        assert_eq!(plan["resident_form"], json!(form));
        assert_eq!(plan["plans"][4]["total_bytes"], run["plan"]["total_bytes"]);
        plan["plans"][4]["resident_bytes"].as_f64().unwrap()
    };
    let share = resident_bytes("compact") / resident_bytes("plain");
    // The output projection's rows are 64 numbers: it stays plain.
    assert!((0.75..0.85).contains(&share), "{share}");
    for flags in ["--kernels clear", "--dtype f32"] {
        let flags = format!("--resident-form compact {flags}");
        generate(&made, &flags).fails(2, &["--resident-form compact", "leave out"]);
    }
    let none = "--num-gpu-layers 0 --resident-form plain";
    generate(&made, none).fails(2, &["nothing is resident"]);
    let none = generate(&made, "--num-gpu-layers 0").ok().json();
    assert_eq!(none["plan"]["resident_form"], Value::Null);
    let narrow = make(&tiny());
    generate(&narrow, "--resident-form compact").fails(2, &["multiple of 128"]);
    let tuned = "--tokens 4 --repeats 1 --verify 1 --memory 64MiB --resident-form compact";
    let tuned = made.run("tune", tuned).ok();
    assert!(
        tuned.stdout.contains("--resident-form compact"),
        "{tuned:?}"
    );
}

/// `--cache-type` halves what the plan counts, is carried out and kept by `tune`, and rounds.
#[test]
fn the_type_of_the_cache_is_planned_carried_out_and_said() {
    let made = make(&tiny().with_layers(LAYERS));
    let cache_bytes = |flags: &str| {
        let plan = made.run("plan", &format!("--json {flags}")).ok().json();
        let bytes = plan["plans"][4]["cache_bytes"].as_u64().unwrap();
        (plan["cache_type"].as_str().unwrap().to_owned(), bytes)
    };
    let (kind, whole) = cache_bytes("");
    assert_eq!(kind, "f32");
    let logits = |flags: &str| {
        let logits = made.run("logits", &format!("--prompt-tokens 1,2,3,4,5 {flags}"));
        logits.ok().json()["logits"].clone()
    };
    let exact = logits("");
    assert_eq!(logits("--cache-type f32"), exact);
    for kind in ["f16", "bf16"] {
        let flags = format!("--cache-type {kind}");
        let (named, half) = cache_bytes(&flags);
        assert_eq!(named, kind);
        let buffers = 2 * LAYERS as u64;
        // Each buffer has a line of 64 bytes more, in any type.
        assert_eq!(half, whole / 2 + 32 * buffers, "{kind}");
        assert_ne!(logits(&flags), exact, "{kind}");
        let run = generate(&made, &format!("{flags} --num-gpu-layers 3"));
        let run = run.ok().json();
        assert_eq!(run["plan"]["cache_type"], json!(kind));
        let brief = "--prompt-tokens 1 --max-new-tokens 1";
        let text = made.run("generate", &format!("{flags} {brief}")).ok();
        let said = format!("in {kind}\n");
        assert!(text.stderr.contains(&said), "{text:?}");
        let clear = format!("{flags} --kernels clear {brief}");
        let clear = made.run("generate", &clear).ok();
        let said = format!("in f32, rounded to {kind}\n");
        assert!(clear.stderr.contains(&said), "{clear:?}");
    }
    let unknown = made.run("plan", "--cache-type q8");
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("f32, f16, bf16"), "{unknown:?}");
    let tuned = "--tokens 4 --repeats 1 --verify 1 --memory 64MiB --cache-type bf16";
    let tuned = made.run("tune", tuned).ok();
    assert!(tuned.stdout.contains("--cache-type bf16"), "{tuned:?}");
}

/// Where memory limits `auto`, `plan` says how far a smaller cache would move it.
#[test]
fn a_plan_says_what_a_smaller_cache_would_give() {
    let plan = |flags: &str| run(&format!("plan --json {flags}")).ok().json();
    let bytes = plan("--memory 1TiB")["plans"][10]["total_bytes"].clone();
    let limited = format!("--memory {bytes}");
    let smaller = plan(&limited)["smaller_cache"].clone();
    let resident = smaller["resident"].as_u64().unwrap();
    let with = plan(&format!("{limited} --cache-type f16"));
    assert_eq!(with["auto"].as_u64(), Some(resident));
    assert_eq!(with["smaller_cache"], Value::Null);
    let text = run(&format!("plan {limited}")).ok().stdout;
    assert!(
        text.contains(&format!("N = {resident} would fit")),
        "{text}"
    );
    // Nothing to gain: all layers stay, or the cache is kept whole for another reason.
    assert_eq!(plan("--memory 1TiB")["smaller_cache"], Value::Null);
}

/// The other commands that run a model refuse the same, and `plan` shows what it is asked for.
#[test]
fn the_other_commands_ignore_nothing_either() {
    let made = make(&tiny().with_layers(LAYERS));
    for (command, rest) in [
        ("logits", "--prompt-tokens 1"),
        ("diagnose", ""),
        ("bench", ""),
    ] {
        let run = |flags: &str| made.run(command, &format!("{rest} {flags}"));
        run("--no-offload --slots 2").fails(2, &["nothing is streamed, so --slots"]);
        run("--num-gpu-layers 6 --no-prefetch").fails(2, &["--no-prefetch has no effect"]);
        run("--num-gpu-layers 4 --slots 3").fails(2, &["--slots 3 comes to 2"]);
        run("--kernels clear --threads 2").fails(2, &["--threads"]);
        run("--link-gbps 1 --weights disk").fails(2, &["--weights disk"]);
    }
    let noted = made.run("logits", "--prompt-tokens 1 --slots 2").ok();
    assert!(
        noted
            .stderr
            .contains("note: nothing is streamed, so --slots"),
        "{noted:?}"
    );
    let every = made.run("generate", "--prompt-tokens 1 --profile-every 5");
    assert_eq!(every.code, 2, "{every:?}");
    assert!(every.stderr.contains("--profile"), "{every:?}");

    let plan = |flags: &str| made.run("plan", &format!("--json {flags}")).ok().json();
    let asked = plan("--slots 3 --resident last --weights ram --dtype f16");
    assert_eq!(asked["placement"], "last");
    assert_eq!(
        (&asked["weights"], &asked["access"]),
        (&json!("ram"), &json!("memory copy"))
    );
    assert_eq!(
        (&asked["plans"][0]["slots"], &asked["dtype"]),
        (&json!(3), &json!("f16"))
    );
    assert_eq!(plan("--link-gbps 2")["link_gbps"], json!(2.0));
    made.run("plan", "--device cuda").fails(2, &["CUDA"]);
}

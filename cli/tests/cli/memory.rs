//! The point of it all: a model runs in a fraction of its size.

use crate::common::{make, tiny, write_tokenizer};
use loader::synth::SynthSpec;

const RESIDENT_SHARE_MAX: f64 = 0.40;
/// Compact layers, one plain block while it is packed, and what every run takes.
const COMPACT_SHARE_MAX: f64 = 0.85;
/// The program, its threads and its tokenizer.
const PROCESS_BYTES_MAX: u64 = 24 << 20;

#[test]
fn streaming_everything_from_disk_peaks_under_40_percent_of_a_resident_run() {
    let spec = SynthSpec {
        hidden_size: 1024,
        intermediate_size: 4096,
        heads: 16,
        kv_heads: 16,
        head_dim: 64,
        ..tiny()
    }
    .with_layers(16);
    assert!(spec.weight_bytes() > 500_000_000, "{}", spec.weight_bytes());
    let made = make(&spec);
    let run = |rest: &str| {
        let args = format!(
            "--prompt-tokens 1,2,3 --context 64 --max-new-tokens 2 --ignore-eos --json {rest}"
        );
        made.run("generate", &args).ok().json()
    };
    let peak = |run: &serde_json::Value| run["peak_memory_bytes"].as_u64().unwrap();
    let resident = run("--no-offload --resident-form plain");
    let compact = run("--no-offload --resident-form compact");
    let streamed = run("--num-gpu-layers 0 --weights disk");
    assert_eq!(streamed["tokens"], resident["tokens"]);
    assert!(peak(&resident) > spec.weight_bytes());
    let planned = compact["plan"]["total_bytes"].as_u64().unwrap();
    let share = peak(&compact) as f64 / peak(&resident) as f64;
    assert_eq!(compact["tokens"], resident["tokens"]);
    println!(
        "compact {} of resident {} bytes: {share:.3}, {planned} planned",
        peak(&compact),
        peak(&resident)
    );
    assert!(share < COMPACT_SHARE_MAX, "{share:.2}");
    let packing =
        |plan: &str| made.run("plan", &format!("--json --context 64 --memory 4GiB {plan}"));
    let packing =
        packing("--resident-form compact").ok().json()["plans"][16]["packing_bytes"].clone();
    assert!(packing.as_u64() > Some(0), "{packing}: nothing to see");
    assert!(peak(&compact) < planned + PROCESS_BYTES_MAX);
    let share = peak(&streamed) as f64 / peak(&resident) as f64;
    assert!(
        share < RESIDENT_SHARE_MAX,
        "{share:.2} of {} bytes",
        peak(&resident)
    );
    println!(
        "streamed {} of resident {} bytes: {share:.3}",
        peak(&streamed),
        peak(&resident)
    );
}

/// The RAM that an emulated device's weights come from is beside its memory, and in the plan.
#[test]
fn homes_of_an_emulated_link_are_a_line_of_the_plan_and_the_hosts_to_give() {
    let spec = SynthSpec {
        hidden_size: 512,
        intermediate_size: 4096,
        head_dim: 128,
        ..tiny()
    };
    let made = make(&spec.with_layers(16));
    // What is timed may differ from one process to the next: both plans are of one form.
    let typed = "--context 64 --memory 100MiB --link-gbps 50 --resident-form compact --slots 2";
    let plans = made.run("plan", &format!("--json {typed}")).ok().json();
    let auto = plans["auto"].as_u64().unwrap();
    let row = &plans["plans"][auto as usize];
    let bytes = |value: &serde_json::Value| value.as_u64().unwrap();
    let homes = (16 - auto) * bytes(&plans["block_bytes"]);
    assert!(homes > 0 && bytes(&row["home_bytes"]) == homes, "{row}");
    assert!(bytes(&row["total_bytes"]) <= 100 << 20, "{row}");
    let rest = "--prompt-tokens 1,2,3 --max-new-tokens 2 --ignore-eos";
    let run = made.run("generate", &format!("{typed} {rest} --json")).ok();
    let line = run
        .stderr
        .lines()
        .find(|line| line.trim_start().starts_with("homes "));
    assert!(
        line.unwrap()
            .contains("in RAM, where streamed layers come from"),
        "{run:?}"
    );
    let json = run.json();
    assert_eq!(bytes(&json["plan"]["home_bytes"]), homes);
    let planned = bytes(&row["total_bytes"]) + homes;
    let peak = bytes(&json["peak_memory_bytes"]);
    println!("peak {peak}, planned {planned} with {homes} of homes");
    assert!(peak < planned + PROCESS_BYTES_MAX, "{peak} of {planned}");
    assert!(peak > planned - (32 << 20), "{peak} of {planned}");
    // What the host cannot give is refused, with numbers.
    let name = made.name();
    let line = format!("ulimit -v 200000; exec $0 generate --model {name} {typed} {rest}");
    let engine = env!("CARGO_BIN_EXE_engine");
    let output = std::process::Command::new("sh")
        .args(["-c", &line, engine])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{told}");
    for words in [
        "MiB of RAM to be streamed from and the rest of the run",
        "hint: use --weights disk",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Without --memory both are within the one limit.
    let json = made
        .run("plan", "--json --context 64 --link-gbps 50")
        .ok()
        .json();
    assert!(json["host_bytes"].is_null(), "{json}");
    let row = &json["plans"][0];
    assert!(
        bytes(&row["total_bytes"]) > 16 * bytes(&json["block_bytes"]),
        "{row}"
    );
}

/// Of the plan, or 16 MiB, whichever is more: what a plan may be off.
const PLAN_SHARE_OFF: f64 = 0.02;
const PLAN_BYTES_OFF: f64 = (16 << 20) as f64;

/// Families, caches and kernels: `bench/planned` has all of them.
#[test]
fn the_peak_is_the_one_that_the_plan_expected() {
    let spec = SynthSpec {
        hidden_size: 768,
        intermediate_size: 2304,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocab_size: 32_000,
        max_positions: 2048,
        ..tiny()
    };
    let made = make(&spec.with_layers(8));
    // A large vocabulary takes more memory than the program.
    write_tokenizer(&made.dir, 32_000);
    let prompt: Vec<String> = (1..=1016).map(|token| token.to_string()).collect();
    let prompt = prompt.join(",");
    for case in [
        "--num-gpu-layers 4 --cache-type f32",
        "--num-gpu-layers all --cache-type bf16 --resident-form plain",
        "--num-gpu-layers 0 --cache-type f16",
    ] {
        // The whole context: of a cache only what was written to is held.
        let run = made
            .run(
                "generate",
                &format!(
                    "{case} --memory 3GiB --context 1024 --prompt-tokens {prompt} \
                     --max-new-tokens 7 --ignore-eos --json"
                ),
            )
            .ok();
        for line in ["program", "tokenizer", "peak"] {
            let is_there = |told: &str| told.trim_start().starts_with(&format!("{line} "));
            assert!(run.stderr.lines().any(is_there), "{line}: {run:?}");
        }
        let json = run.json();
        let bytes = |value: &serde_json::Value| value.as_f64().unwrap();
        let planned = bytes(&json["plan"]["peak_bytes"]);
        let off = bytes(&json["peak_memory_bytes"]) - planned;
        println!("{case}: {planned} planned, {off} more held");
        assert!(
            off.abs() <= PLAN_BYTES_OFF.max(PLAN_SHARE_OFF * planned),
            "{case}: {off} of {}",
            json["plan"]
        );
    }
}

//! The point of it all: a model runs in a fraction of its size.

use crate::common::{make, tiny};
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

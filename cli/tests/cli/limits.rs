//! The limit on memory that a shell sets, at every height: the run works within it, or says with
//! numbers what it would need. It is never aborted.

use std::process::Command;

use crate::common::{Run, make, tiny};
use crate::process::UnderWay;
use loader::synth::SynthSpec;

/// The engine under `ulimit -v`.
fn limited(kib: u64, line: &str) -> Run {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v $0; exec \"$@\""]);
    shell.arg(kib.to_string());
    shell.arg(env!("CARGO_BIN_EXE_engine"));
    UnderWay::start(shell.args(line.split_whitespace())).ends_soon()
}

#[test]
fn whatever_the_limit_a_run_works_or_says_what_it_lacks() {
    // 8 layers of 21 MB.
    let spec = SynthSpec {
        hidden_size: 512,
        intermediate_size: 4096,
        head_dim: 128,
        ..tiny()
    };
    let made = make(&spec.with_layers(8));
    let generate = |rest: &str| {
        format!(
            "generate --model {} --prompt-tokens 1,2,3 --max-new-tokens 3 --ignore-eos {rest}",
            made.name()
        )
    };
    let whole = crate::common::run(&generate("")).ok().stdout;
    let (mut worked, mut planned, mut refused) = (0, 0, 0);
    // Below the first of these the program itself cannot be loaded.
    let loadable = |kib: &u64| limited(*kib, "--version").code == 0;
    let least = (10..).map(|mib| mib << 10).find(loadable).unwrap();
    for step in 0..24 {
        let kib = least + (step * step * 1800);
        for rest in ["--num-gpu-layers 6 --weights disk", "--num-gpu-layers auto"] {
            let run = limited(kib, &generate(rest));
            let from = run.stderr.find("error: ").unwrap_or(0);
            let told = &run.stderr[from..];
            match run.code {
                0 => {
                    assert_eq!(run.stdout, whole, "{kib} KiB, {rest}");
                    worked += 1;
                }
                4 if told.contains("resident layers need") => {
                    assert!(told.contains(" MiB are available\nhint: "), "{run:?}");
                    planned += 1;
                }
                1 | 4 => {
                    let words = ["system refused", "thread", "memory"];
                    assert!(words.iter().any(|word| told.contains(word)), "{run:?}");
                    assert!(told.contains("hint: "), "{kib} KiB, {rest}: {run:?}");
                    refused += 1;
                }
                _ => panic!("{kib} KiB, {rest}: {run:?}"),
            }
        }
    }
    println!("{worked} worked, {planned} refused by the plan, {refused} by the system");
    assert!(worked > 0 && planned > 0, "{worked} {planned} {refused}");
}

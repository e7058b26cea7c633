//! `engine checksum` and `--verify`, and NaN among weights, on the built binary.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Stdio;

use loader::Checkpoint;
use loader::synth::SynthSpec;

use crate::common::{Made, Run, command, engine, make, tiny};

const UP: &str = "model.layers.1.mlp.up_proj.weight";
const RUN: &str = "--prompt-tokens 1,2,3 --max-new-tokens 8 --ignore-eos --num-gpu-layers";

fn checksum(made: &Made, more: &str) -> Run {
    let name = made.name();
    let words = ["checksum", &name];
    engine(words.into_iter().chain(more.split_whitespace()))
}

/// Writes `bytes` over the start of a tensor, in place.
fn overwrite(made: &Made, tensor: &str, bytes: &[u8]) {
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let at = checkpoint.tensor(tensor).unwrap().offset;
    let path = made.file("model.safetensors");
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn sums_are_written_and_damage_is_found_by_check_and_by_verify() {
    let made = make(&tiny());
    checksum(&made, "--check").fails(3, &["no checksums.json", "engine checksum DIR"]);
    let wrote = checksum(&made, "").ok();
    assert!(
        wrote.stderr.contains("Wrote ") && wrote.stderr.contains("xxh3-128"),
        "{wrote:?}"
    );
    checksum(&made, "--check").ok();
    let json = checksum(&made, "--check --json").ok().json();
    assert_eq!(json["mismatches"], serde_json::json!([]));
    made.run("generate", &format!("{RUN} 1 --verify")).ok();

    overwrite(&made, UP, &[1, 2]);
    let shard = made.file("model.safetensors").display().to_string();
    checksum(&made, "--check").fails(3, &[UP, &shard, "1 of "]);
    // Streamed: by the link, while running. Resident: while loading.
    let streamed = made.run("generate", &format!("{RUN} 0 --verify"));
    streamed.fails(
        1,
        &[
            "layer 1",
            UP,
            &shard,
            "checksums.json",
            "engine checksum DIR",
        ],
    );
    let resident = made.run("generate", &format!("{RUN} all --verify"));
    resident.fails(3, &[UP, &shard, "checksums.json"]);
    made.run("generate", &format!("{RUN} all")).ok();

    // Replaced on purpose.
    checksum(&made, "").ok();
    made.run("generate", &format!("{RUN} 0 --verify")).ok();
}

#[test]
fn a_manifest_of_other_files_is_refused() {
    let made = make(&tiny());
    checksum(&made, "").ok();
    let sums = fs::read(made.file("checksums.json")).unwrap();
    let other = make(&tiny().with_layers(4));
    fs::write(other.file("checksums.json"), sums).unwrap();
    let stale = other.run("generate", &format!("{RUN} 0 --verify"));
    stale.fails(
        3,
        &[
            "checksums.json",
            "was made from other files",
            "engine checksum DIR",
        ],
    );
    checksum(&other, "--check").fails(3, &["was made from other files"]);
    // It is not checked unasked.
    other.run("generate", &format!("{RUN} 0")).ok();
}

#[test]
fn every_report_says_what_verifying_was_against_and_what_it_cost() {
    let made = make(&tiny());
    let run = |flags: &str| made.run("generate", &format!("{RUN} {flags}")).ok();
    let plain = run("0 --json");
    assert!(plain.json()["offload"]["verify"].is_null());
    assert!(!plain.stderr.contains("erif"), "{plain:?}");
    for (flags, reference, words) in [
        ("0", "first_read", "against its first read"),
        (
            "0 --weights ram",
            "packed",
            "against the copy that was packed into RAM",
        ),
    ] {
        let verified = run(&format!("{flags} --verify --json --profile"));
        let verify = &verified.json()["offload"]["verify"];
        assert_eq!(verify["reference"], reference);
        assert_eq!(verify["manifest"], false);
        assert!(verify["ms_per_pass"].as_f64().unwrap() > 0.0, "{verify}");
        assert!(
            verify["share_of_passes"].as_f64().unwrap() > 0.0,
            "{verify}"
        );
        for words in [
            words,
            "no checksums.json",
            "\nVerify: ",
            "ms/token for checksums",
            "verified in ",
        ] {
            assert!(verified.stderr.contains(words), "{words:?}: {verified:?}");
        }
    }
    checksum(&made, "").ok();
    let verified = run("0 --verify --json");
    assert_eq!(
        verified.json()["offload"]["verify"]["reference"],
        "manifest"
    );
    assert!(
        verified.stderr.contains("against checksums.json"),
        "{verified:?}"
    );
    let all = run("all --verify --json");
    let verify = &all.json()["offload"]["verify"];
    assert!(
        verify["reference"].is_null() && verify["manifest"] == true,
        "{verify}"
    );
    assert!(
        all.stderr.contains("nothing is streamed; what stays"),
        "{all:?}"
    );
}

#[test]
fn a_shard_that_changes_under_the_run_is_caught_with_and_without_a_manifest() {
    for with_manifest in [false, true] {
        let spec = SynthSpec {
            max_positions: 20_000,
            ..tiny()
        };
        let made = make(&spec);
        if with_manifest {
            checksum(&made, "").ok();
        }
        let name = made.name();
        let args = "--prompt-tokens 1,2,3 --max-new-tokens 19000 --context 20000 --ignore-eos \
                    --num-gpu-layers 1 --weights disk --verify";
        let mut child = command()
            .args(["generate", "--model", &name])
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Under way: every layer came once.
        let mut first = [0; 8];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        // Whichever layer stays, two others stream.
        for layer in 0..3 {
            overwrite(&made, &UP.replace(".1.", &format!(".{layer}.")), &[1, 2]);
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let error = stderr
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap();
        let shard = made.file("model.safetensors").display().to_string();
        let reference = if with_manifest {
            "checksums.json"
        } else {
            "its first read"
        };
        for word in ["error: layer ", &shard, "mlp.up_proj.weight", reference] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn a_poisoned_weight_stops_the_run_with_its_layer() {
    let made = make(&tiny());
    // A NaN in bf16, little end first.
    overwrite(&made, UP, &[0xc0, 0x7f]);
    for flags in ["0", "all", "0 --kernels clear"] {
        let run = made.run("generate", &format!("{RUN} {flags}"));
        run.fails(
            1,
            &[
                "NaN or infinity",
                "layer 1 is the first",
                "GateUp",
                "position 2",
            ],
        );
    }
    made.run("logits", "--prompt-tokens 1,2,3")
        .fails(1, &["layer 1 is the first"]);
}

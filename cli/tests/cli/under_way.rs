//! What happens to a run under way: Ctrl-C, a reader that leaves, a file that changes.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{Run, command, make, tiny};
use loader::synth::SynthSpec;

/// A run that would last for minutes; returns when the first text has come.
fn start(args: &[&str]) -> (Child, String) {
    let mut child = command()
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    let got = child.stdout.as_mut().unwrap().read(&mut first).unwrap();
    let first = String::from_utf8(first[..got].to_vec()).unwrap();
    (child, first)
}

fn end(child: Child, first: String) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: first + &String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Long: many positions and layers that crawl over a slow link.
fn long() -> SynthSpec {
    SynthSpec {
        max_positions: 20_000,
        ..tiny()
    }
}

const FOREVER: [&str; 8] = [
    "--prompt-tokens",
    "1,2,3",
    "--max-new-tokens",
    "19000",
    "--context",
    "20000",
    "--ignore-eos",
    "--num-gpu-layers",
];

#[test]
fn the_first_ctrl_c_keeps_the_text_and_says_how_it_went() {
    let made = make(&long());
    let name = made.name();
    let mut args = vec!["generate", "--model", &name];
    args.extend(FOREVER);
    args.extend(["0", "--link-gbps", "0.02"]);
    let (child, first) = start(&args);
    std::thread::sleep(Duration::from_millis(200));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let run = end(child, first);
    assert_eq!(run.code, 130, "{run:?}");
    assert!(
        run.stdout.ends_with('\n') && run.stdout.contains(','),
        "{run:?}"
    );
    let tokens = run.stdout.trim_end().split(',').count();
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("{tokens} tokens, ")), "{last}");
    assert!(last.ends_with("interrupted"), "{last}");
}

#[test]
fn a_shard_that_shrinks_under_the_run_is_named_with_its_layer() {
    let made = make(&long());
    let name = made.name();
    let mut args = vec!["generate", "--model", &name];
    args.extend(FOREVER);
    args.extend(["0", "--weights", "disk"]);
    let (child, first) = start(&args);
    let weights = made.file("model.safetensors");
    let file = File::options().write(true).open(&weights).unwrap();
    file.set_len(100_000).unwrap();
    let run = end(child, first);
    assert_eq!(run.code, 1, "{run:?}");
    let error = run
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap();
    assert!(error.starts_with("error: layer "), "{error}");
    assert!(
        error.contains(weights.to_str().unwrap()) && error.contains("shrank"),
        "{error}"
    );
    assert!(run.stderr.contains("\nhint: "), "{run:?}");
    // What came before is still text, and ends where it ended.
    assert!(
        run.stdout
            .trim_end()
            .split(',')
            .all(|id| id.parse::<u32>().is_ok()),
        "{run:?}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let made = make(&long());
    let name = made.name();
    let mut args = vec!["generate", "--quiet", "--model", &name];
    args.extend(FOREVER);
    args.push("3");
    let (mut child, first) = start(&args);
    drop(child.stdout.take());
    let run = end(child, first);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    // It ended because of the reader, not because it was done.
    assert!(run.stdout.len() == 1, "{run:?}");
}

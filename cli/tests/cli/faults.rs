//! What the system can do to a run: reads that fail, come short or hang, files that change, disks
//! that fill, threads that are refused. Each ends soon, with a clear message, or goes on and gives
//! the same tokens.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use loader::synth::{self, SynthSpec};

use crate::common::{Made, Run, make, run, tiny};
use crate::files::names_in;
use crate::process::UnderWay;
use crate::shim::faulty;

const WEIGHTS: &str = "model.safetensors";

/// Runs for minutes if it is not ended; every layer is read again for every token.
fn endless(command: &mut Command, made: &Made) -> UnderWay {
    endless_with("--context 100003 --weights disk", command, made)
}

fn endless_with(rest: &str, command: &mut Command, made: &Made) -> UnderWay {
    let line = "--prompt-tokens 1,2,3 --max-new-tokens 100000 --ignore-eos --num-gpu-layers 0";
    command.args(["generate", "--model", &made.name()]);
    command.args(line.split_whitespace());
    UnderWay::start(command.args(rest.split_whitespace()))
}

fn long() -> SynthSpec {
    SynthSpec {
        max_positions: 100_003,
        hidden_size: 16,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        ..tiny()
    }
}

fn generate(made: &Made, rest: &str, faults: &[(&str, &str)]) -> Run {
    let line = format!("--prompt-tokens 1,2,3 --max-new-tokens 20 --ignore-eos --quiet {rest}");
    let mut command = faulty(faults);
    command.args(["generate", "--model", &made.name()]);
    UnderWay::start(command.args(line.split_whitespace())).ends_soon()
}

/// The error and its hint, among what was said before.
#[track_caller]
fn says(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    let from = run
        .stderr
        .find("error: ")
        .unwrap_or_else(|| panic!("{run:?}"));
    let told = &run.stderr[from..];
    assert!(told.contains("\nhint: "), "{run:?}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing: {run:?}");
    }
}

#[test]
fn a_read_error_while_streaming_names_the_layer_the_file_and_the_reason() {
    let made = make(&long());
    let mut of_rows = 0;
    // A token's row and its three layers are in there, one after the other.
    for skip in 400..412 {
        let reads = format!("eio:{skip}");
        let faults = [("FAULT_FILE", WEIGHTS), ("FAULT_READS", reads.as_str())];
        let rest = "--context 100003 --weights disk --no-prefetch";
        let run = endless_with(rest, &mut faulty(&faults), &made).ends_soon();
        let row = run.stderr.contains("error: rows of the embedding ");
        of_rows += usize::from(row);
        let what = if row { "error: rows " } else { "error: layer " };
        says(
            &run,
            1,
            &[what, &made.name(), WEIGHTS, "Input/output error"],
        );
        // What came before is text, and ends where it ended.
        let ids: Vec<u32> = (run.stdout.trim_end().split(','))
            .map(|id| id.parse().unwrap())
            .collect();
        assert!(ids.len() > 50, "{run:?}");
    }
    assert!((1..12).contains(&of_rows), "{of_rows} of 12");
}

/// The runs that fail at each of the first reads: at the header and while loading, before the first
/// token, and after it.
fn failed_reads(made: &Made, rest: &str) -> [usize; 3] {
    let mut outcomes = [0; 3];
    for skip in 0..45 {
        let reads = format!("eio:{skip}");
        let faults = [("FAULT_FILE", WEIGHTS), ("FAULT_READS", reads.as_str())];
        let run = generate(made, rest, &faults);
        assert!([1, 3].contains(&run.code), "{skip}: {run:?}");
        says(&run, run.code, &[WEIGHTS, "Input/output error"]);
        outcomes[usize::from(run.code != 3) + usize::from(!run.stdout.is_empty())] += 1;
    }
    outcomes
}

#[test]
fn a_read_error_at_any_read_of_a_run_is_told() {
    let made = make(&tiny());
    // Read ahead: whether the first token is out by then is the machine's to say.
    let [loading, first, later] = failed_reads(&made, "--num-gpu-layers 1");
    assert!(
        loading > 0 && first + later > 0,
        "{loading} {first} {later}"
    );
    // Read at need, it is the reads' own order.
    let outcomes = failed_reads(&made, "--num-gpu-layers 1 --no-prefetch");
    assert!(outcomes.iter().all(|&count| count > 0), "{outcomes:?}");
}

#[test]
fn short_reads_change_nothing() {
    let made = make(&SynthSpec {
        hidden_size: 192,
        intermediate_size: 512,
        shard_bytes: 1_000_000,
        ..tiny()
    });
    let expected = generate(&made, "--no-offload", &[]).ok().stdout;
    let faults = [("FAULT_FILE", ".safetensors"), ("FAULT_READS", "short:0")];
    for rest in [
        "--no-offload",
        "--num-gpu-layers 0",
        "--num-gpu-layers 1 --weights ram",
    ] {
        assert_eq!(
            generate(&made, rest, &faults).ok().stdout,
            expected,
            "{rest}"
        );
    }
}

#[test]
fn a_shard_that_is_truncated_is_named_with_its_sizes() {
    let made = make(&long());
    let mut under_way = endless(&mut faulty(&[]), &made);
    under_way.text_has_come();
    let weights = made.file(WEIGHTS);
    let bytes = fs::metadata(&weights).unwrap().len();
    let file = File::options().write(true).open(&weights).unwrap();
    file.set_len(10_000).unwrap();
    let run = under_way.ends_soon();
    let had = format!("it had {bytes} bytes, now 10000");
    // A layer, or a row of the embedding, whichever is read first.
    says(&run, 1, &["could not be ", WEIGHTS, "shrank", &had]);
}

/// The engine holds the file that it opened; a download that puts another one in its place
/// changes nothing for a run under way.
#[test]
fn a_shard_that_is_replaced_is_read_on_as_it_was() {
    let made = make(&tiny());
    let line = "--prompt-tokens 1,2,3 --max-new-tokens 300 --ignore-eos --num-gpu-layers 0 \
                --weights disk --quiet";
    let mut command = crate::common::command();
    command.args(["generate", "--model", &made.name()]);
    command.args(line.split_whitespace());
    let (undisturbed, _) = UnderWay::start(&mut command).end();
    let undisturbed = undisturbed.ok().stdout;

    let other = made.dir.with_file_name("other");
    synth::write(&other, &tiny().with_seed(1), &mut |_, _| {}).unwrap();
    let mut command = faulty(&[("FAULT_FILE", WEIGHTS), ("FAULT_READS", "slow:0:1")]);
    command.args(["generate", "--model", &made.name()]);
    let mut under_way = UnderWay::start(command.args(line.split_whitespace()));
    under_way.text_has_come();
    fs::rename(other.join(WEIGHTS), made.file(WEIGHTS)).unwrap();
    let (run, _) = under_way.end();
    assert_eq!(run.ok().stdout, undisturbed);
    // The next run has the new one.
    let (next, _) = UnderWay::start(&mut {
        let mut command = crate::common::command();
        command.args(["generate", "--model", &made.name()]);
        command.args(line.split_whitespace());
        command
    })
    .end();
    assert_ne!(next.ok().stdout, undisturbed);
}

fn story(command: &mut Command, rest: &[&str]) -> Run {
    let line = "generate --num-gpu-layers 20 --max-new-tokens 8 --prompt Once";
    UnderWay::start(command.args(line.split_whitespace()).args(rest)).ends_soon()
}

#[test]
fn a_disk_that_fills_leaves_what_was_there_and_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let trace = temp.path().join("trace.json");
    let path = trace.to_str().unwrap();
    let text = story(&mut faulty(&[]), &[]).ok().stdout;
    fs::write(&trace, "of the run before").unwrap();
    for room in ["0", "1000", "9000"] {
        let room = format!("full:{room}");
        let faults = [("FAULT_FILE", "trace.json"), ("FAULT_WRITES", &room)];
        let tsv = temp.path().join("timing.tsv");
        let _ = fs::remove_file(&tsv);
        let options = ["--trace", path, "--timing-tsv", tsv.to_str().unwrap()];
        let run = story(&mut faulty(&faults), &options);
        says(
            &run,
            1,
            &[path, "cannot be written", "No space left on device"],
        );
        assert_eq!(run.stdout, text, "{run:?}");
        assert_eq!(fs::read_to_string(&trace).unwrap(), "of the run before");
        // The other file is there, and no third one.
        assert_eq!(names_in(temp.path()), ["timing.tsv", "trace.json"]);
    }
}

#[test]
fn a_device_takes_a_report_and_stays_a_device() {
    let run = story(&mut crate::common::command(), &["--trace", "/dev/full"]);
    says(
        &run,
        1,
        &["/dev/full cannot be written", "No space left on device"],
    );
    story(
        &mut crate::common::command(),
        &["--stats-json", "/dev/null"],
    )
    .ok();
    for device in ["/dev/full", "/dev/null"] {
        let kind = fs::metadata(device).unwrap().file_type();
        assert!(kind.is_char_device(), "{device}");
    }
    // A link stays a link, and what it leads to is written.
    let temp = tempfile::tempdir().unwrap();
    let (link, behind) = (temp.path().join("link"), temp.path().join("behind"));
    fs::write(&behind, "").unwrap();
    std::os::unix::fs::symlink(&behind, &link).unwrap();
    story(
        &mut crate::common::command(),
        &["--stats-json", link.to_str().unwrap()],
    )
    .ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&behind).unwrap().starts_with('{'));
}

#[test]
fn a_stdout_that_is_full_is_an_error_and_one_that_is_closed_is_none() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = crate::common::command();
    command.args(["generate", "--quiet", "--prompt", "Once"]);
    let output = command.stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: stdout cannot be written"),
        "{stderr}"
    );
    assert!(stderr.contains("No space left on device") && stderr.contains("\nhint: "));
    // A reader that has left before the first word, for every command that writes.
    let endless = "generate --quiet --prompt Once --max-new-tokens 1000 --ignore-eos";
    let bench = "bench --quiet --tokens 2 --warmup 0";
    for line in [
        endless,
        "plan",
        "plan --json",
        "inspect",
        "logits --prompt-tokens 1",
        bench,
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = crate::common::command();
        let started = std::time::Instant::now();
        let output = command
            .args(line.split_whitespace())
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        assert_eq!(output.stderr, b"", "{line}: {output:?}");
        if line != bench {
            assert!(started.elapsed() < crate::process::SOON, "{line}");
        }
    }
}

/// Whichever thread the system refuses, the run does without it or says that it cannot.
#[test]
fn a_thread_that_is_refused_is_told() {
    let made = make(&tiny());
    let expected = generate(&made, "--num-gpu-layers 1", &[]).ok().stdout;
    let mut told = Vec::new();
    let mut count = 0;
    loop {
        let most = count.to_string();
        let rest = "--num-gpu-layers 1 --threads 3";
        let run = generate(&made, rest, &[("FAULT_THREADS", &most)]);
        if run.code == 0 {
            assert_eq!(run.stdout, expected);
            break;
        }
        says(&run, 1, &["Resource temporarily unavailable", "ulimit -u"]);
        told.push(run.stderr.lines().next().unwrap().to_owned());
        count += 1;
        assert!(count < 100, "{told:?}");
    }
    for thread in [
        "Ctrl-C",
        "disk-",
        "prefetch",
        "compute threads",
        "embedding",
    ] {
        assert!(
            told.iter().any(|line| line.contains(thread)),
            "{thread}: {told:?}"
        );
    }
    // Reading what stays resident takes as many threads as there are, and one is enough.
    let faults = [("FAULT_THREADS", "1")];
    let alone = generate(&made, "--no-offload --threads 1", &faults).ok();
    assert_eq!(alone.stdout, expected);
}

#[test]
fn a_read_that_hangs_does_not_hold_up_ctrl_c() {
    let made = make(&long());
    let faults = [("FAULT_FILE", WEIGHTS), ("FAULT_READS", "slow:60:20000")];
    for rest in ["--weights disk", "--weights disk --verify"] {
        let mut under_way = endless_with(rest, &mut faulty(&faults), &made);
        under_way.text_has_come();
        thread::sleep(Duration::from_millis(200));
        under_way.signal("INT");
        interrupted_soon(under_way);
    }
}

#[track_caller]
fn interrupted_soon(under_way: UnderWay) {
    let run = under_way.ends_soon();
    assert_eq!(run.code, 130, "{run:?}");
    let last = run.stderr.lines().last().unwrap();
    assert!(last.ends_with("interrupted"), "{last}");
}

/// On a device there are more places to wait: for a staged copy, and for the token.
#[cfg(feature = "cuda")]
#[test]
fn on_a_device_neither_disk_nor_link_holds_up_ctrl_c() {
    if std::env::var_os("CUDA_STAND_IN").is_none() {
        return;
    }
    // 86 kB a layer: at this rate a token takes nearly three seconds.
    let made = make(&tiny().with_layers(6));
    let crawls = ("CUDA_STAND_IN_LINK_GBPS", "0.0002");
    let hangs = [("FAULT_FILE", WEIGHTS), ("FAULT_READS", "slow:60:20000")];
    let unpinned = [crawls, ("CUDA_STAND_IN_PINNED_BYTES", "400000")];
    for (home, faults) in [
        ("disk", &hangs[..]),
        ("disk", &[crawls]),
        ("ram", &unpinned),
        ("ram", &[crawls]),
    ] {
        let rest = format!("--device cuda --weights {home}");
        let mut under_way = endless_with(&rest, &mut faulty(faults), &made);
        under_way.text_has_come();
        thread::sleep(Duration::from_millis(200));
        under_way.signal("INT");
        interrupted_soon(under_way);
    }
}

#[test]
fn a_link_that_crawls_does_not_hold_up_ctrl_c() {
    // 13 MB a layer at 1 MB/s.
    let made = make(&SynthSpec {
        hidden_size: 512,
        intermediate_size: 3072,
        head_dim: 128,
        ..tiny()
    });
    for signal in ["INT", "TERM"] {
        let line = "--prompt-tokens 1,2,3 --num-gpu-layers 0 --link-gbps 0.001";
        let mut command = crate::common::command();
        command.args(["generate", "--model", &made.name()]);
        let mut under_way = UnderWay::start(command.args(line.split_whitespace()));
        thread::sleep(Duration::from_millis(700));
        under_way.signal(signal);
        let run = under_way.ends_soon();
        assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{run:?}");
        assert!(
            run.stderr.contains("Loaded"),
            "it was not under way: {run:?}"
        );
        assert!(run.stderr.ends_with("interrupted\n"), "{run:?}");
    }
}

#[test]
fn what_is_asked_of_memory_is_refused_with_its_numbers() {
    let plan = run("plan --memory 1TiB --json").ok().json();
    let total = |n: usize| plan["plans"][n]["total_bytes"].as_u64().unwrap();
    let limit = total(11) + 1000;
    let line = format!("generate --prompt Once --num-gpu-layers 20 --memory {limit}");
    let (needs, has) = loader::units::needed_of(total(20), limit);
    let needs = format!("20 resident layers need {needs}");
    let has = format!("{has} are available");
    run(&line).fails(4, &[&needs, &has, "try --num-gpu-layers 11"]);
}

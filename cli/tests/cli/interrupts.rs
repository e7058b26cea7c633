//! Signals at any moment: the text so far is kept, the exit code says what happened, report files
//! are whole or absent, and nothing half-written stays.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Run, command, make, tiny};
use crate::files::{check, names_in};
use crate::process::{SOON, UnderWay};
use crate::shim::faulty;

const STORY: &str = "generate --prompt Once --max-new-tokens 60 --num-gpu-layers 20";

fn story(command: &mut Command, folder: &Path) -> UnderWay {
    command.args(STORY.split_whitespace());
    UnderWay::start(command.arg("--profile-dir").arg(folder))
}

fn has_part(folder: &Path) -> bool {
    let found = || Some(fs::read_dir(folder).ok()?.flatten());
    let mut found = found().into_iter().flatten();
    found.any(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
}

/// Before a run could look at it, a signal ends the process at once, and that is said.
#[test]
fn a_signal_before_the_run_begins_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let pipe = temp.path().join("prompt");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // It has no writer.
    let mut under_way = UnderWay::start(command().arg("generate").arg("--txt-path").arg(&pipe));
    thread::sleep(Duration::from_millis(300));
    under_way.signal("INT");
    let run = under_way.ends_soon();
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(run.stderr, "interrupted\n");
}

/// `timeout` signals the process and then its group, which has it in as well.
#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("run");
    let mut under_way = story(&mut command(), &folder);
    under_way.text_has_come().signal("INT").signal("INT");
    let run = under_way.ends_soon();
    assert_eq!(run.code, 130, "{run:?}");
    assert!(!run.stdout.is_empty(), "{run:?}");
    assert!(run.stderr.ends_with("interrupted\n"), "{run:?}");
    assert_eq!(names_in(&folder).len(), 5, "{run:?}");
}

#[test]
fn the_second_ctrl_c_while_files_are_written_leaves_no_part_of_one() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("run");
    // Trying the place writes nothing, so what is slow is the file itself.
    let faults = [
        ("FAULT_FILE", "report.html"),
        ("FAULT_WRITES", "slow:30000"),
    ];
    let mut under_way = story(&mut faulty(&faults), &folder);
    under_way.text_has_come().signal("INT");
    under_way.until("the report is being written", || {
        has_part(&folder) && folder.join("trace.json").exists()
    });
    thread::sleep(Duration::from_millis(150));
    under_way.signal("INT");
    let run = under_way.ends_soon();
    assert_eq!(run.code, 130, "{run:?}");
    let names = names_in(&folder);
    assert!(!names.contains(&"report.html".into()), "{names:?}");
    for name in &names {
        check(&folder.join(name), name);
    }
}

/// Over a slow bus a run takes a second or so: a signal after two finds one that is whole.
fn measuring(line: &str, after: Duration) -> Run {
    let mut command = command();
    let mut under_way = UnderWay::start(command.args(line.split_whitespace()));
    thread::sleep(after);
    under_way.signal("INT");
    let run = under_way.end().0;
    assert_eq!(run.code, 130, "{run:?}");
    assert!(!run.stderr.contains("error:"), "{run:?}");
    run
}

#[test]
fn a_bench_that_is_interrupted_says_what_it_measured() {
    let temp = tempfile::tempdir().unwrap();
    let line = format!(
        "bench --num-gpu-layers 20 --link-gbps 0.02 --tokens 6 --warmup 0 --repeats 500 --save {}",
        temp.path().display()
    );
    let run = measuring(&line, Duration::from_secs(4));
    for words in ["Interrupted: ", "Label     Words", "short ", "AGGREGATE"] {
        assert!(run.stdout.contains(words), "{words}: {run:?}");
    }
    assert!(!run.stdout.contains("NaN"), "{run:?}");
    assert!(run.stderr.contains("Saved "), "{run:?}");
}

#[test]
fn a_bench_that_is_interrupted_at_once_says_that_nothing_was_measured() {
    let line = "bench --num-gpu-layers 0 --link-gbps 0.001 --tokens 6";
    let run = measuring(line, Duration::from_secs(2));
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr, "interrupted before anything was measured\n");
}

#[test]
fn a_tune_that_is_interrupted_says_what_it_measured() {
    let line = "tune --memory 17MiB --link-gbps 0.02 --repeats 500 --tokens 4";
    let run = measuring(line, Duration::from_secs(8));
    for words in [
        "compute ",
        "Interrupted: ",
        "Recommended:\n  engine generate",
    ] {
        assert!(run.stdout.contains(words), "{words}: {run:?}");
    }
    assert!(!run.stdout.contains("NaN"), "{run:?}");
}

#[test]
fn a_place_that_takes_no_file_is_refused_before_measuring() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.display();
    // Measuring would take longer than the test may.
    for line in [
        format!("bench --link-gbps 0.001 --num-gpu-layers 0 --save {file}/runs"),
        format!("tune --link-gbps 0.001 --memory 17MiB --plot {file}/plot.svg"),
        format!(
            "tune --link-gbps 0.001 --memory 17MiB --plot {}",
            temp.path().display()
        ),
    ] {
        let mut command = command();
        let under_way = UnderWay::start(command.args(line.split_whitespace()));
        let (run, took) = under_way.end();
        assert!(took < SOON, "{took:?}");
        run.fails(1, &["cannot be written", "check that the folder exists"]);
    }
}

#[test]
fn a_checkpoint_that_is_half_made_is_taken_away() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let mut synth = command();
    // Large enough that the signal comes before its end, small enough for a full disk.
    synth.arg("synth").arg(&dir);
    synth.args(["--shape", "bench-1.3b", "--layers", "6"]);
    let mut under_way = UnderWay::start(&mut synth);
    under_way.until("weights", || {
        let partial = fs::read_dir(temp.path()).unwrap().flatten().next();
        partial.is_some_and(|partial| partial.path().join("model.safetensors").exists())
    });
    under_way.signal("INT");
    let run = under_way.ends_soon();
    assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{run:?}");
    assert_eq!(names_in(temp.path()), [""; 0]);
}

/// What a run may look like whenever a signal came. Whether it was interrupted.
#[track_caller]
fn holds(run: &Run, whole: &str, folder: &Path) -> bool {
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    assert!(!run.stderr.contains("error:"), "{run:?}");
    let names = match folder.exists() {
        true => names_in(folder),
        false => Vec::new(),
    };
    for name in &names {
        check(&folder.join(name), name);
    }
    match run.code {
        0 => {
            assert_eq!(run.stdout, whole, "{run:?}");
            assert_eq!(names.len(), 5, "{names:?}");
        }
        130 => {
            assert!(whole.starts_with(run.stdout.trim_end()), "{run:?}");
            // The line of a run that could look at the signal; before that it is the word alone.
            if run.stderr.ends_with(", interrupted\n") {
                assert_eq!(names.len(), 5, "{names:?}");
            }
        }
        // Before the program listens, which is the first thing it does.
        _ => {
            let silent = run.stdout.is_empty() && run.stderr.is_empty() && names.is_empty();
            assert!(silent, "{run:?}");
        }
    }
    run.code != 0
}

/// Part of the soak: see the Makefile.
#[test]
fn soak_signals_at_seeded_moments() {
    let runs = match std::env::var("SOAK").as_deref() {
        Ok("full") => 1000,
        _ => 24,
    };
    let made = make(&tiny());
    let disk = format!(
        "generate --model {} --prompt-tokens 1,2,3 --max-new-tokens 200 --ignore-eos \
         --num-gpu-layers 0 --weights disk",
        made.name()
    );
    let slow = format!("{disk} --link-gbps 0.02").replace("--weights disk", "");
    let lines = [STORY, &disk, &slow];
    let temp = tempfile::tempdir().unwrap();
    let start = |line: &str, folder: &Path| {
        let mut command = command();
        command.args(line.split_whitespace());
        UnderWay::start(command.arg("--profile-dir").arg(folder))
    };
    let whole = lines.map(|line| {
        let folder = temp.path().join("whole");
        let started = Instant::now();
        let (run, _) = start(line, &folder).end();
        let took = started.elapsed();
        fs::remove_dir_all(&folder).unwrap();
        (run.ok().stdout, took)
    });
    let mut interrupted = 0;
    let mut longest = Duration::ZERO;
    for seed in 0..runs {
        let mut random = Random(seed);
        let of = random.below(lines.len() as u64) as usize;
        let (text, took) = &whole[of];
        let most = (took.as_micros() * 11 / 10) as u64;
        let after = Duration::from_micros(random.below(most));
        let name = ["INT", "TERM"][random.below(2) as usize];
        let again = random.below(3) == 0;
        let folder = temp.path().join("run");
        let mut under_way = start(lines[of], &folder);
        thread::sleep(after);
        under_way.signal(name);
        if again {
            thread::sleep(Duration::from_micros(random.below(300_000)));
            under_way.signal(name);
        }
        let (run, took) = under_way.end();
        println!(
            "seed {seed}: {name} after {after:?}, again: {again}: {} in {took:?}",
            run.code
        );
        longest = longest.max(took);
        interrupted += u64::from(holds(&run, text, &folder));
        let _ = fs::remove_dir_all(&folder);
        assert_eq!(names_in(temp.path()), [""; 0], "seed {seed}");
    }
    println!("soak: {runs} runs with signals, {interrupted} ended by one, longest end {longest:?}");
    assert!(interrupted * 2 > runs, "{interrupted} of {runs}");
    assert!(longest < SOON, "{longest:?}");
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

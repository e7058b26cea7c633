//! Busy programs beside the engine: more threads are never much slower than one, and the report
//! says that the cores were not free. A crate of its own, so that no other test runs beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::Value;

/// Of one thread's rate. On a quiet machine it is 1.0 and more; less is asked here, because test
/// machines have neighbours of their own. Before threads stopped waiting for each other at every
/// phase, it was 0.35 and under.
const RATE_LEAST: f64 = 0.7;
const ROUNDS: usize = 9;

/// One test at a time: they are each other's neighbours.
static ALONE: Mutex<()> = Mutex::new(());

/// A model whose blocks are large enough to be shared by threads (two megabytes each).
struct Shared(tempfile::TempDir);

impl Shared {
    fn made() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shape = "--hidden 256 --intermediate 1024 --layers 8 --heads 8 --kv-heads 2 \
                     --head-dim 32 --vocab 1024";
        let mut synth = Command::new(env!("CARGO_BIN_EXE_engine"));
        synth.arg("synth").arg(folder.path().join("model"));
        assert!(
            synth
                .args(shape.split_whitespace())
                .output()
                .unwrap()
                .status
                .success()
        );
        Self(folder)
    }

    fn flags(&self) -> String {
        let model = self.0.path().join("model");
        format!("--model {} --prompt-tokens 1,2,3", model.display())
    }
}

/// The engine, on these processors if any are named.
fn engine(processors: Option<&str>, rest: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_engine");
    let mut command = match processors {
        Some(list) => {
            let mut command = Command::new("taskset");
            command.args(["-c", list, binary]);
            command
        }
        None => Command::new(binary),
    };
    command.args("generate --max-new-tokens 300 --ignore-eos".split(' '));
    command.args(rest.split_whitespace());
    command
}

fn json(mut command: Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The median of the rates of several threads over that of one, run in turns.
fn share_of_one_thread(model: &str, processors: Option<&str>, threads: usize) -> f64 {
    let rate = |threads: usize| {
        let run = json(engine(processors, &format!("{model} --threads {threads}")));
        run["timing"]["tokens_per_s"].as_f64().unwrap()
    };
    let mut ratios: Vec<f64> = (0..ROUNDS).map(|_| rate(threads) / rate(1)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ROUNDS / 2]
}

fn check(what: &str, model: &str, processors: Option<&str>, threads: usize) {
    // A neighbour may come and go in the middle of it.
    let tries: Vec<f64> = (0..3)
        .map(|_| share_of_one_thread(model, processors, threads))
        .scan(false, |done, share| {
            (!std::mem::replace(done, share >= RATE_LEAST)).then_some(share)
        })
        .collect();
    println!("{what}, {threads} threads: {tries:.2?} of one thread's rate");
    assert!(
        tries.iter().any(|&share| share >= RATE_LEAST),
        "{what}: {threads} threads run at {tries:.2?} of one thread's rate"
    );
}

/// Runs `work` beside so many busy loops.
fn beside<R>(loops: usize, work: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..loops {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Raised also when the work panics, or the loops would go on for ever.
        struct Raise<'a>(&'a AtomicBool);
        impl Drop for Raise<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _raise = Raise(&over);
        work()
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The first processor that this process may use.
fn a_processor() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.unwrap().trim().split([',', '-']).next();
    first.unwrap().to_owned()
}

#[test]
fn threads_do_not_wait_for_one_whose_core_is_taken() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cores = cores();
    let shared = Shared::made();
    let model = &shared.flags();
    // The demo's blocks are so small that one thread takes them, however many there are.
    check("the demo", "--prompt Once", None, cores + 1);
    check("more threads than cores", model, None, cores + 1);
    beside(1, || {
        check("beside one busy loop", model, None, cores.max(2))
    });
    if Command::new("taskset").arg("--version").output().is_err() {
        println!("skipped: one core, because there is no taskset here");
        return;
    }
    check("on one core", model, Some(&a_processor()), 2);
}

#[test]
fn a_report_says_that_the_cores_were_not_free() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = |rest: &str| {
        let rest = format!("--profile --max-new-tokens 900 {rest}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args("generate --ignore-eos".split(' '));
        let output = command.args(rest.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let cores = cores();
    let shared = Shared::made();
    let told = beside(2 * cores, || profile(&shared.flags()));
    let line = told.lines().rfind(|line| line.starts_with("Verdict: "));
    let line = line.unwrap_or_else(|| panic!("no verdict in {told}"));
    assert!(
        line.starts_with("Verdict: disturbed. The compute threads waited for a core "),
        "{line}"
    );
    assert!(line.contains("other programs used"), "{line}");
    assert!(told.contains("floor not known"), "{told}");
}

//! Limits on memory that a shell or a control group sets: the run works within them, or says with
//! numbers what it would need. It is never aborted, and never killed.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};

use crate::common::{Made, Run, make, run, tiny};
use crate::process::UnderWay;
use loader::synth::SynthSpec;

/// The engine after a line of the shell's, `$0` of which is `value`.
fn after(shell_line: &str, value: &str, line: &str) -> UnderWay {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{shell_line}; exec \"$@\""), value]);
    shell.arg(env!("CARGO_BIN_EXE_engine"));
    UnderWay::start(shell.args(line.split_whitespace()))
}

/// The engine under `ulimit -v`.
fn limited(kib: u64, line: &str) -> Run {
    after("ulimit -v $0", &kib.to_string(), line).ends_soon()
}

/// Layers of 13 MB each.
fn model(layers: usize) -> Made {
    let spec = SynthSpec {
        hidden_size: 512,
        intermediate_size: 4096,
        head_dim: 128,
        ..tiny()
    };
    make(&spec.with_layers(layers))
}

fn line(made: &Made, rest: &str) -> String {
    format!(
        "generate --model {} --prompt-tokens 1,2,3 --max-new-tokens 3 --ignore-eos {rest}",
        made.name()
    )
}

#[test]
fn whatever_the_limit_a_run_works_or_says_what_it_lacks() {
    let made = model(8);
    let generate = |rest: &str| line(&made, rest);
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
                    assert!(told.contains(" are available\nhint: "), "{run:?}");
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
    assert!(
        worked > 0 && planned > 0 && refused > 0,
        "{worked} {planned} {refused}"
    );
}

/// Measuring a rate takes memory, too.
#[test]
fn a_plan_under_a_limit_leaves_out_the_rates_and_says_so() {
    let made = model(8);
    for mib in [200, 400] {
        let line = format!("plan --model {} --context 64", made.name());
        let run = limited(mib << 10, &line).ok();
        let words = "not measured, because less than 512 MiB of memory are available";
        assert!(run.stdout.contains(words), "{mib} MiB: {run:?}");
        assert!(!run.stdout.contains("disk tok/s"), "{mib} MiB: {run:?}");
        let json = limited(mib << 10, &format!("{line} --json")).ok().json();
        assert!(json["disk_gbps"].is_null() && json["unmeasured"].is_string());
    }
    let json = made.run("plan", "--context 64 --json").ok().json();
    assert!(json["disk_gbps"].as_f64() > Some(0.0), "{json}");
    assert!(json["unmeasured"].is_null(), "{json}");
}

/// The default takes what there is, of every limit that the shell can set, and no more.
#[test]
fn under_every_limit_of_the_shell_the_default_runs_to_the_end() {
    // 24 layers, 330 MB.
    let made = model(24);
    let whole = run(&line(&made, "")).ok().stdout;
    let mut resident_before = 0;
    for mib in [220, 300, 380] {
        for (limit, name) in [
            ("ulimit -v $0", "address_space"),
            ("ulimit -d $0", "data_size"),
        ] {
            let under_way = after(limit, &(mib << 10).to_string(), &line(&made, "--json"));
            let json = under_way.end().0.ok().json();
            let plan = &json["plan"];
            assert_eq!(plan["memory_limit"], name, "{mib} MiB: {plan}");
            assert!(plan["reserve_bytes"].as_u64() > Some(32 << 20), "{plan}");
            assert!(plan["lowered_from"].is_null(), "{plan}");
            let resident = json["offload"]["resident"].as_u64().unwrap();
            // More than before, and not all.
            assert!(
                (resident_before..24).contains(&resident),
                "{mib} MiB: {plan}"
            );
            resident_before = resident;
            let text = after(limit, &(mib << 10).to_string(), &line(&made, ""));
            assert_eq!(text.end().0.ok().stdout, whole, "{mib} MiB");
        }
    }
    assert!(resident_before > 8, "{resident_before}");
}

/// Where `--memory` says more than the system gives, `auto` plans again, and a number that was
/// typed is answered with one that works.
#[test]
fn memory_that_is_refused_while_loading_is_planned_anew() {
    let made = model(24);
    let whole = run(&line(&made, "")).ok().stdout;
    let under = |rest: &str| {
        let line = line(&made, &format!("--memory 8GiB {rest}"));
        after("ulimit -v $0", &(300 << 10).to_string(), &line)
            .end()
            .0
    };
    let run = under("").ok();
    assert_eq!(run.stdout, whole);
    let words = [
        "the system refused some of that memory",
        "instead of 24",
        "carried out",
    ];
    for word in words {
        assert!(run.stderr.contains(word), "{word}: {run:?}");
    }
    let json = under("--json").ok().json();
    let resident = json["offload"]["resident"].as_u64().unwrap();
    assert!((1..24).contains(&resident), "{json}");
    assert_eq!(json["plan"]["lowered_from"], 24);
    // The number that is named is the one that works.
    let named = format!("try --num-gpu-layers {resident}");
    let run = under("--num-gpu-layers 23");
    let run = run.fails(
        4,
        &["system refused some of the", "with 23 resident", &named],
    );
    assert!(!run.stderr.contains("carried out"), "{run:?}");
    under(&format!("--num-gpu-layers {resident}")).ok();
}

/// A control group of our own, where the system lets us have one.
struct Group(PathBuf);

impl Group {
    /// Of the first version, or of the second.
    fn new(bytes: u64) -> Result<Self, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = |found: &dyn Fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                found(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let mut why = "no hierarchy".to_owned();
        let name = format!("engine-test-{}-{bytes}", process::id());
        let first = own(&|controllers| controllers.split(',').any(|name| name == "memory"));
        let second = own(&str::is_empty);
        let places = [
            ("/sys/fs/cgroup/memory", first, "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", second, "memory.max"),
        ];
        for (mount, own, limit) in places {
            let Some(own) = own else { continue };
            // Two below: a limit that is not the process's own group's is seen as well.
            let group = Self(PathBuf::from(mount).join(own).join(&name));
            let made = fs::create_dir(&group.0)
                .and_then(|()| fs::write(group.0.join(limit), bytes.to_string()))
                .and_then(|()| fs::create_dir(group.0.join("below")));
            match made {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}: {error}", group.0.display()),
            }
        }
        Err(why)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // They are empty, or other processes still use them.
        let _ = fs::remove_dir(self.0.join("below"));
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn in_a_control_group_the_default_plans_within_it_and_is_not_killed() {
    let made = model(24);
    let whole = run(&line(&made, "")).ok().stdout;
    for mib in [140_u64, 240] {
        let group = match Group::new(mib << 20) {
            Ok(group) => group,
            Err(why) => {
                println!("skipped: no control group can be made here ({why})");
                return;
            }
        };
        let below = group.0.join("below").display().to_string();
        let enter = "echo $$ > $0/cgroup.procs || exit 99";
        let json = after(enter, &below, &line(&made, "--json")).end().0;
        let json = json.ok().json();
        let plan = &json["plan"];
        assert_eq!(plan["memory_limit"], "control_group", "{plan}");
        let limit = plan["memory_bytes"].as_u64().unwrap();
        assert!(limit > (mib - 20) << 20 && limit < mib << 20, "{plan}");
        assert!(plan["total_bytes"].as_u64().unwrap() <= limit, "{plan}");
        let resident = json["offload"]["resident"].as_u64().unwrap();
        assert!((1..24).contains(&resident), "{plan}");
        let text = after(enter, &below, &line(&made, "")).end().0;
        assert_eq!(text.ok().stdout, whole, "{mib} MiB");
        println!(
            "{}: {resident} of 24 layers in {mib} MiB",
            group.0.display()
        );
    }
}

//! The same work, over and over, in one process: memory stays flat, files and threads stay as
//! many, and the tokens are those of the fully resident run. A short version runs with every test
//! run; `make soak` runs the whole and prints what it found.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::{GenerationOptions, Model, ModelOptions, Source, memory};
use loader::Family;
use loader::huge_pages::HUGE_PAGE_BYTES;
use loader::synth::{self, SynthSpec};
use offload::{Home, Prefetch, Residency};

/// How much of it there is.
struct Soak {
    /// Tokens on the demo model, for each N.
    demo_tokens: usize,
    /// Of one session.
    demo_each: usize,
    demo_resident: &'static [usize],
    /// Tokens on a model from disk, and the model.
    disk_tokens: usize,
    disk_each: usize,
    disk: SynthSpec,
    starts: usize,
}

fn soak() -> Soak {
    let full = std::env::var("SOAK").as_deref() == Ok("full");
    let spec = SynthSpec::tiny(Family::QWEN2);
    // 16 layers of 32 MB.
    let large = SynthSpec {
        hidden_size: 1024,
        intermediate_size: 4096,
        heads: 16,
        kv_heads: 16,
        head_dim: 64,
        ..spec.clone()
    };
    let small = SynthSpec {
        hidden_size: 512,
        intermediate_size: 2048,
        heads: 8,
        kv_heads: 8,
        head_dim: 64,
        ..spec
    };
    match full {
        true => Soak {
            demo_tokens: 20_000,
            demo_each: 500,
            demo_resident: &[0, 14, 20, 28],
            disk_tokens: 500,
            disk_each: 20,
            disk: large.with_layers(16),
            starts: 1000,
        },
        false => Soak {
            demo_tokens: 1500,
            demo_each: 100,
            demo_resident: &[0, 20],
            disk_tokens: 60,
            disk_each: 4,
            disk: small.with_layers(6),
            starts: 60,
        },
    }
}

/// What a process holds and could leak.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        let count = |folder: &str| fs::read_dir(folder).unwrap().count();
        Self {
            bytes: memory::held_bytes().unwrap(),
            files: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
        }
    }
}

/// Memory may move by this part of itself, or by one huge page, which the system makes of small
/// ones (and unmakes) when it sees fit.
const FLAT: f64 = 0.01;

/// What is held once everything has been used, and from then on.
#[derive(Debug, Default)]
struct Watch {
    held: Vec<Held>,
}

impl Watch {
    fn look(&mut self) {
        self.held.push(Held::now());
    }

    /// Flat from half-way on: by then every buffer has been used.
    #[track_caller]
    fn is_flat(&self, what: &str) -> String {
        let settled = &self.held[self.held.len() / 2..];
        let bytes = settled.iter().map(|held| held.bytes);
        let (least, most) = (bytes.clone().min().unwrap(), bytes.max().unwrap());
        let first = settled[0];
        let moved = (most - least) as f64 / first.bytes as f64;
        let flat = FLAT.max(HUGE_PAGE_BYTES as f64 / first.bytes as f64);
        let (files, threads) = (first.files, first.threads);
        let told = format!(
            "{what}: {:.1} to {:.1} MiB held ({:.2} %) over {} looks, {files} files, {threads} threads",
            least as f64 / f64::from(1 << 20),
            most as f64 / f64::from(1 << 20),
            moved * 100.0,
            settled.len(),
        );
        println!("{told}");
        assert!(moved <= flat, "{told}");
        for held in settled {
            assert_eq!((held.files, held.threads), (files, threads), "{told}");
        }
        told
    }
}

fn options(resident: usize) -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(resident),
        ..ModelOptions::default()
    }
}

/// `count` tokens in sessions of `each`. Looks at what is held at the end of each: always at the
/// same place, because the pages of the cache are touched as it fills.
fn tokens(model: &mut Model, count: usize, each: usize, watch: &mut Watch) -> Vec<u32> {
    let vocab_size = model.config().vocab_size as u32;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let begin = all.len() as u32;
        let prompt = (0..4).map(|at| (begin + at * 31) % vocab_size).collect();
        let options = GenerationOptions {
            max_new_tokens: each,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let mut session = model.session().unwrap();
        let generation = session.generate(prompt, options).unwrap();
        all.extend(generation.map(|piece| piece.unwrap().token));
        watch.look();
    }
    all
}

fn demo(soak: &Soak) {
    let mut expected = None;
    for &resident in soak.demo_resident.iter().rev() {
        let started = Instant::now();
        let mut model = Model::open(&Source::Demo, options(resident)).unwrap();
        let mut watch = Watch::default();
        let made = tokens(&mut model, soak.demo_tokens, soak.demo_each, &mut watch);
        let seconds = started.elapsed().as_secs_f64();
        let what = format!(
            "demo, N = {resident}, {} tokens in {seconds:.0} s",
            made.len()
        );
        watch.is_flat(&what);
        // A run of its own: two that are wrong in one way would agree.
        let expected = expected.get_or_insert_with(|| {
            let mut model = Model::open(&Source::Demo, options(28)).unwrap();
            tokens(
                &mut model,
                soak.demo_tokens,
                soak.demo_each,
                &mut Watch::default(),
            )
        });
        assert!(
            made == *expected,
            "{what}: other tokens than with all layers resident"
        );
    }
}

fn from_disk(soak: &Soak) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    synth::write(&dir, &soak.disk, &mut |_, _| {}).unwrap();
    let source = Source::Directory(dir);
    let expected = {
        let mut model = Model::open(&source, options(soak.disk.layers)).unwrap();
        tokens(
            &mut model,
            soak.disk_tokens,
            soak.disk_each,
            &mut Watch::default(),
        )
    };
    let started = Instant::now();
    let options = ModelOptions {
        home: Some(Home::Disk),
        ..options(0)
    };
    let mut model = Model::open(&source, options).unwrap();
    let mut watch = Watch::default();
    let made = tokens(&mut model, soak.disk_tokens, soak.disk_each, &mut watch);
    let what = format!(
        "{} MB from disk, N = 0, {} tokens in {:.0} s",
        soak.disk.weight_bytes() / 1_000_000,
        made.len(),
        started.elapsed().as_secs_f64()
    );
    watch.is_flat(&what);
    assert!(
        made == expected,
        "{what}: other tokens than with all layers resident"
    );
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Opens a model, perhaps runs it, perhaps interrupts that at a random moment, and closes it.
fn start_and_stop(source: &Source, layers: usize, seed: u64) -> bool {
    let mut state = seed;
    let mut below = |end: u64| random(&mut state) % end;
    let options = ModelOptions {
        slots: Some(1 + below(3) as usize),
        home: [None, Some(Home::Disk), Some(Home::Ram)][below(3) as usize],
        prefetch: [Prefetch::Ahead, Prefetch::AtNeed][below(2) as usize],
        threads: Some(1 + below(3) as usize),
        ..options(below(layers as u64 + 1) as usize)
    };
    let mut model = Model::open(source, options).unwrap();
    if below(4) == 0 {
        return false;
    }
    let cancel = Arc::new(AtomicBool::new(false));
    let after = Duration::from_micros(below(6000));
    let interrupts = below(2) == 0;
    thread::scope(|scope| {
        if interrupts {
            let cancel = Arc::clone(&cancel);
            scope.spawn(move || {
                thread::sleep(after);
                cancel.store(true, Ordering::Relaxed);
            });
        }
        let mut session = model.session().unwrap();
        session.cancel_with(cancel);
        let options = GenerationOptions {
            max_new_tokens: 8,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let mut generation = session.generate(vec![1, 2, 3], options).unwrap();
        for piece in &mut generation {
            piece.unwrap();
        }
        generation.ended() == Some(engine::Ended::Interrupted)
    })
}

fn starts(soak: &Soak) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let spec = SynthSpec::tiny(Family::QWEN3).with_layers(5);
    synth::write(&dir, &spec, &mut |_, _| {}).unwrap();
    let made = files_in(&dir);
    let sources = [(Source::Directory(dir.clone()), 5), (Source::Demo, 28)];
    let before = Held::now();
    let mut interrupted = 0;
    for seed in 0..soak.starts as u64 {
        let (source, layers) = &sources[seed as usize % 2];
        interrupted += u32::from(start_and_stop(source, *layers, seed));
        // A thread that was joined may be counted until the system has buried it.
        let patience = Instant::now();
        while Held::now().threads != before.threads && patience.elapsed() < Duration::from_secs(2) {
            thread::yield_now();
        }
        let now = Held::now();
        assert_eq!(
            (now.files, now.threads),
            (before.files, before.threads),
            "seed {seed}"
        );
    }
    assert_eq!(files_in(&dir), made);
    assert!(interrupted > 0);
    println!(
        "{} models opened and closed, {interrupted} of them while they ran: {} files, {} threads",
        soak.starts, before.files, before.threads
    );
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// One test, because what a process holds is shared by all its tests.
#[test]
fn soak_memory_files_and_threads_stay() {
    let soak = soak();
    starts(&soak);
    demo(&soak);
    from_disk(&soak);
}

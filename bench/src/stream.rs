//! Streaming from disk: bytes a second, as a share of what direct reads of the same files reach on
//! a quiet machine; with `--beside` also of what they reach beside a decode's reads of memory,
//! which is less where disk and memory share a path, as they do in a virtual machine whose disk is
//! a copy by its host.
//!
//! Disks of shared machines change their speed within seconds. So the engine is a process of its
//! own, which goes on generating for a slice of time and is stopped for the next, while the peak is
//! measured: each slice is held against the peaks before and after it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use engine::profile::Sample;
use engine::{Blueprint, ModelOptions, Source};
use loader::{Arrangement, Checkpoint, Whole};
use offload::{Home, Residency};

use crate::ceiling::Ceiling;

/// More than any number of slices takes.
const TOKENS: &str = "4000";

/// Loading is over, and the ring runs as it will.
const WARM_UP_TOKENS: usize = 3;

/// The time from going on, or stopping, until the disk is at work, or quiet.
const SETTLE: Duration = Duration::from_millis(150);

#[derive(Debug, Args)]
pub struct Stream {
    /// A checkpoint folder (`engine synth DIR --shape bench-1.3b` makes one)
    #[arg(long)]
    model: PathBuf,
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// Seconds of each slice
    #[arg(long, default_value_t = 1.2)]
    seconds: f64,
    /// Resident layers
    #[arg(long, default_value_t = 0)]
    num_gpu_layers: usize,
    /// Slots of the ring [default: as many as the engine takes by itself]
    #[arg(long)]
    slots: Option<usize>,
    #[arg(long)]
    threads: Option<usize>,
    /// Measure the peak beside a decode's reads of memory, too
    #[arg(long)]
    beside: bool,
    /// The program to start; without it the `engine` beside this one
    #[arg(long)]
    engine: Option<PathBuf>,
}

pub fn run(args: &Stream) -> Result<()> {
    ensure!(
        args.seconds.is_finite() && args.seconds > 0.0,
        "--seconds is a time"
    );
    let slice = Duration::from_secs_f64(args.seconds);
    let source = Source::Directory(args.model.clone());
    let options = ModelOptions {
        residency: Residency::Layers(args.num_gpu_layers),
        home: Some(Home::Disk),
        slots: args.slots,
        ..ModelOptions::default()
    };
    let blueprint = Blueprint::new(&source, options)?;
    let checkpoint = source.open()?;
    let streamed = blueprint.plan.streamed_count();
    ensure!(
        streamed > 0,
        "with {} resident layers nothing is streamed",
        args.num_gpu_layers
    );
    let token_bytes = streamed_bytes(&blueprint);
    let memory = match args.beside {
        true => Some(decode_reads(args, &blueprint, &checkpoint)?),
        false => None,
    };
    println!(
        "{streamed} layers from disk through {} slots, {:.3} GB a token; {}",
        blueprint.plan.slots(),
        token_bytes / 1e9,
        blueprint.link.access
    );

    let engine = Engine::start(args)?;
    let (mut peaks, mut besides) = (Sample::default(), Sample::default());
    let (mut rates, mut speeds) = (Sample::default(), Sample::default());
    let (mut shares, mut shares_beside) = (Sample::default(), Sample::default());
    // Over the whole slice, as the engine's rate is; not the best stretch of it.
    let measure = || -> Result<f64> {
        let read = loader::measure_read_gbps(&checkpoint, slice)?;
        Ok(read.bytes as f64 / read.seconds / 1e9)
    };
    let mut before = measure()?;
    for round in 1..=args.rounds {
        let gbps = engine.slice(slice)?;
        let tokens_per_s = gbps * 1e9 / token_bytes;
        let after = measure()?;
        let peak = f64::midpoint(before, after);
        let share = gbps / peak * 100.0;
        print!(
            "round {round:2}: peak {peak:5.2} GB/s, streamed {gbps:5.2} GB/s, {tokens_per_s:6.2} tok/s, {share:5.1}%",
        );
        before = match &memory {
            None => after,
            Some(memory) => {
                let layers = blueprint.plan.layers();
                let beside = peak_beside(&checkpoint, slice, memory, layers, tokens_per_s)?;
                let share = gbps / beside * 100.0;
                print!("; beside memory reads {beside:5.2} GB/s, {share:5.1}%");
                besides.push(beside);
                shares_beside.push(share);
                measure()?
            }
        };
        println!();
        peaks.push(peak);
        rates.push(gbps);
        speeds.push(tokens_per_s);
        shares.push(share);
    }
    println!("direct-read peak, GB/s:       {peaks}");
    println!("streamed, GB/s:               {rates}");
    println!("tok/s:                        {speeds}");
    println!("share of peak, %:             {shares}");
    if memory.is_some() {
        println!("peak beside a decode's reads: {besides}");
        println!("  share of that, %:           {shares_beside}");
    }
    Ok(())
}

/// The memory that a token reads: layers and head.
fn decode_reads(args: &Stream, blueprint: &Blueprint, checkpoint: &Checkpoint) -> Result<Ceiling> {
    let head = checkpoint.weight(Whole::LmHead, None, Arrangement::Packed)?;
    let plan = &blueprint.plan;
    let bytes = plan.resident_bytes() + plan.streamed_bytes_per_pass() + head.slab_bytes() as u64;
    let threads = args.threads.unwrap_or_else(engine::physical_cores);
    Ok(Ceiling::new(threads, bytes as usize))
}

/// Bytes streamed for a token.
fn streamed_bytes(blueprint: &Blueprint) -> f64 {
    let blocks = &blueprint.blocks;
    let bytes = (blueprint.plan.streamed()).map(|layer| blocks.packed(layer).stored_bytes() as f64);
    bytes.sum()
}

/// The direct-read peak while memory is read as often as a decode of this speed reads it: all
/// weights once a token, layer by layer.
fn peak_beside(
    checkpoint: &Checkpoint,
    slice: Duration,
    memory: &Ceiling,
    layers: usize,
    tokens_per_s: f64,
) -> Result<f64> {
    let between = Duration::from_secs_f64(1.0 / tokens_per_s / layers as f64);
    let measured = AtomicBool::new(false);
    thread::scope(|scope| {
        let disk = scope.spawn(|| {
            let rate = loader::measure_read_gbps(checkpoint, slice);
            measured.store(true, Ordering::Relaxed);
            rate
        });
        let mut due = Instant::now();
        for turn in 0.. {
            if measured.load(Ordering::Relaxed) {
                break;
            }
            memory.read_part(turn % layers, layers);
            due += between;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        match disk.join() {
            Ok(rate) => Ok(rate?.gbps),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A process that generates, and is stopped but for its slices.
struct Engine(Child);

impl Engine {
    fn start(args: &Stream) -> Result<Self> {
        let program = match &args.engine {
            Some(engine) => engine.clone(),
            None => std::env::current_exe()?.with_file_name("engine"),
        };
        let mut command = Command::new(&program);
        command
            .args(["generate", "--weights", "disk", "--quiet", "--ignore-eos"])
            .args(["--prompt-tokens", "1,2,3,4", "--max-new-tokens", TOKENS])
            .args(["--num-gpu-layers", &args.num_gpu_layers.to_string()])
            .arg("--model")
            .arg(&args.model)
            .stdout(Stdio::piped());
        if let Some(slots) = args.slots {
            command.args(["--slots", &slots.to_string()]);
        }
        if let Some(threads) = args.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let child = command.spawn();
        let mut engine =
            Self(child.with_context(|| format!("cannot start {}", program.display()))?);
        let tokens = engine.count_tokens()?;
        while tokens.load(Ordering::Relaxed) < WARM_UP_TOKENS {
            if let Some(status) = engine.0.try_wait()? {
                bail!("it ended before it was warm, with {status}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        engine.send("STOP")?;
        thread::sleep(SETTLE);
        Ok(engine)
    }

    /// Token ids are printed with a comma after each.
    fn count_tokens(&mut self) -> Result<Arc<AtomicUsize>> {
        let mut out = self.0.stdout.take().context("no output to read from")?;
        let tokens = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tokens);
        thread::spawn(move || {
            let mut said = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut said) {
                let commas = said[..len].iter().filter(|&&byte| byte == b',').count();
                count.fetch_add(commas, Ordering::Relaxed);
            }
        });
        Ok(tokens)
    }

    /// Goes on for so long, and returns the GB/s that it read from disk.
    fn slice(&self, slice: Duration) -> Result<f64> {
        self.send("CONT")?;
        thread::sleep(SETTLE);
        let (from, bytes) = (Instant::now(), self.read_bytes()?);
        thread::sleep(slice);
        let (seconds, bytes) = (from.elapsed().as_secs_f64(), self.read_bytes()? - bytes);
        self.send("STOP")?;
        thread::sleep(SETTLE);
        ensure!(bytes > 0, "it reads nothing from disk any more");
        Ok(bytes as f64 / seconds / 1e9)
    }

    fn send(&self, signal: &str) -> Result<()> {
        let kill = format!("kill -{signal} {}", self.0.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        ensure!(sent.context("no shell")?.success(), "it is gone");
        Ok(())
    }

    /// Bytes read from disk so far, whatever was in the page cache.
    fn read_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/io", self.0.id());
        let io = fs::read_to_string(Path::new(&path));
        let io = io.with_context(|| format!("cannot read {path}"))?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes: "));
        line.context("no read_bytes in it")?.parse().context(path)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

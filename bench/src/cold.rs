//! A cold start: the time from the start of the process to its first token, with the whole page
//! cache dropped before, over the time that reading the model's files takes at the disk's peak; and
//! over the time for those bytes that a first token needs, which are fewer where the embedding is
//! not the head as well.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use engine::Source;
use engine::profile::Sample;
use loader::{Arrangement, Whole};

const DROP: &str = "/proc/sys/vm/drop_caches";

const PEAK_BUDGET: Duration = Duration::from_millis(1000);

#[derive(Debug, Args)]
pub struct Cold {
    /// A checkpoint folder (`engine synth DIR --shape bench-1.3b` makes one)
    #[arg(long)]
    model: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Resident layers
    #[arg(long, default_value_t = 0)]
    num_gpu_layers: usize,
    /// Pause after the page cache was dropped, in milliseconds. A virtual machine may hand free
    /// memory back to its host within seconds, which then has to be found again: 10000 measures
    /// that, too
    #[arg(long, default_value_t = 500)]
    rest_ms: u64,
    /// The program to start; without it the `engine` beside this one
    #[arg(long)]
    engine: Option<PathBuf>,
}

pub fn run(args: &Cold) -> Result<()> {
    let engine = match &args.engine {
        Some(engine) => engine.clone(),
        None => std::env::current_exe()?.with_file_name("engine"),
    };
    let checkpoint = Source::Directory(args.model.clone()).open()?;
    let bytes: u64 = checkpoint.sources().iter().map(|file| file.len()).sum();
    let embedding = checkpoint.weight(Whole::Embedding, None, Arrangement::Packed)?;
    let needed = match checkpoint.config.tied_embeddings {
        true => bytes,
        false => bytes - embedding.stored_bytes(),
    };
    let measure = || loader::measure_read_gbps(&checkpoint, PEAK_BUDGET);
    let (mut firsts_ms, mut exits_ms) = (Sample::default(), Sample::default());
    let (mut peaks, mut ratios) = (Sample::default(), Sample::default());
    let mut ratios_needed = Sample::default();
    let mut before = measure()?.gbps;
    for round in 1..=args.rounds {
        fs::write(DROP, "3").with_context(|| format!("cannot write {DROP}"))?;
        std::thread::sleep(Duration::from_millis(args.rest_ms));
        let (first, exit) = start(args, &engine)?;
        let after = measure()?.gbps;
        let peak = f64::midpoint(before, after);
        before = after;
        let over = |bytes: u64| first.as_secs_f64() / (bytes as f64 / 1e9 / peak);
        let (ratio, ratio_needed) = (over(bytes), over(needed));
        println!(
            "round {round}: first token after {:.0} ms, exit after {:.0} ms, peak {peak:.2} GB/s, {ratio:.2} times files/peak, {ratio_needed:.2} times what it needs",
            first.as_secs_f64() * 1e3,
            exit.as_secs_f64() * 1e3,
        );
        firsts_ms.push(first.as_secs_f64() * 1e3);
        exits_ms.push(exit.as_secs_f64() * 1e3);
        peaks.push(peak);
        ratios.push(ratio);
        ratios_needed.push(ratio_needed);
    }
    println!("direct-read peak, GB/s:     {peaks}");
    println!("start to first token, ms:   {firsts_ms}");
    println!("start to exit, ms:          {exits_ms}");
    println!(
        "first token over {:.3} GB of files/peak: {ratios}",
        bytes as f64 / 1e9
    );
    println!(
        "  over {:.3} GB that it needs/peak:   {ratios_needed}",
        needed as f64 / 1e9
    );
    Ok(())
}

/// When the first byte of the first token came, and when the process had ended.
fn start(args: &Cold, engine: &PathBuf) -> Result<(Duration, Duration)> {
    let mut command = Command::new(engine);
    command
        .args(["generate", "--weights", "disk", "--quiet"])
        .args(["--prompt-tokens", "1,2,3,4", "--max-new-tokens", "1"])
        .args(["--num-gpu-layers", &args.num_gpu_layers.to_string()])
        .arg("--model")
        .arg(&args.model)
        .stdout(Stdio::piped());
    let started = Instant::now();
    let mut process = command
        .spawn()
        .with_context(|| format!("cannot start {}", engine.display()))?;
    let mut out = process.stdout.take().context("no output to read from")?;
    let read = out.read(&mut [0])?;
    let first = started.elapsed();
    let status = process.wait()?;
    let exit = started.elapsed();
    ensure!(
        read == 1 && status.success(),
        "it gave no token and ended with {status}"
    );
    Ok((first, exit))
}

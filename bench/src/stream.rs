//! Streaming from disk: bytes a second, as a share of what direct reads of the same files reach, on
//! a quiet machine and beside a decode's reads of memory. The second is what can be reached where
//! disk and memory share a path, as they do in a virtual machine whose disk is a copy by its host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use engine::profile::Sample;
use engine::{Model, ModelOptions, Source};
use loader::Checkpoint;
use offload::{Home, Residency};

use crate::Run;
use crate::ceiling::Ceiling;

/// Long enough to read about as much as a token streams.
const PEAK_BUDGET: Duration = Duration::from_millis(1500);

pub fn run(run: &Run, num_gpu_layers: usize, slots: usize) -> Result<()> {
    let source = Source::Directory(run.model.clone());
    let options = ModelOptions {
        residency: Residency::Layers(num_gpu_layers),
        home: Some(Home::Disk),
        threads: run.threads,
        resident_form: run.form(),
        slots,
        ..ModelOptions::default()
    };
    let (mut peaks, mut rates, mut shares) =
        (Sample::default(), Sample::default(), Sample::default());
    let (mut besides, mut shares_beside) = (Sample::default(), Sample::default());
    // The ring reads ahead as soon as it can, so the disk is only quiet while no model is open:
    // peak and streaming take turns with a fresh model in each round, and a round is held against
    // the peaks before and after it.
    let checkpoint = source.open()?;
    let measure = || loader::measure_read_gbps(&checkpoint, PEAK_BUDGET);
    let mut memory = None;
    let mut before = measure()?.gbps;
    for round in 0..=run.rounds {
        let streamed = stream(&source, &options, run.tokens)?;
        let (gbps, tokens_per_s, access) = (streamed.gbps, streamed.tokens_per_s, streamed.access);
        let memory = memory.get_or_insert_with(|| {
            let threads = run.threads.unwrap_or_else(engine::physical_cores);
            Ceiling::new(threads, streamed.weight_bytes)
        });
        let beside = peak_beside(&checkpoint, memory, streamed.layers, tokens_per_s)?;
        let after = measure()?.gbps;
        let peak = f64::midpoint(before, after);
        before = after;
        let (share, share_beside) = (gbps / peak * 100.0, gbps / beside * 100.0);
        println!(
            "{:>8}: {access}, peak {peak:5.2} GB/s, beside memory reads {beside:5.2}, streamed {gbps:5.2} GB/s, {tokens_per_s:6.2} tok/s, {share:5.1}%, {share_beside:5.1}%",
            if round == 0 {
                "warm-up".into()
            } else {
                format!("round {round}")
            },
        );
        if round > 0 {
            peaks.push(peak);
            rates.push(tokens_per_s);
            shares.push(share);
            besides.push(beside);
            shares_beside.push(share_beside);
        }
    }
    println!("direct-read peak, GB/s:       {peaks}");
    println!("  beside a decode's reads:    {besides}");
    println!("tok/s:                        {rates}");
    println!("share of peak, %:             {shares}");
    println!("  of that beside the reads:   {shares_beside}");
    Ok(())
}

/// The direct-read peak while memory is read as often as a decode of this speed reads it: all
/// weights once a token, layer by layer.
fn peak_beside(
    checkpoint: &Checkpoint,
    memory: &Ceiling,
    layers: usize,
    tokens_per_s: f64,
) -> Result<f64> {
    let between = Duration::from_secs_f64(1.0 / tokens_per_s / layers as f64);
    let measured = AtomicBool::new(false);
    thread::scope(|scope| {
        let disk = scope.spawn(|| {
            let rate = loader::measure_read_gbps(checkpoint, PEAK_BUDGET);
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

struct Streamed {
    gbps: f64,
    tokens_per_s: f64,
    access: String,
    layers: usize,
    /// That a token reads from memory.
    weight_bytes: usize,
}

fn stream(source: &Source, options: &ModelOptions, tokens: usize) -> Result<Streamed> {
    let mut model = Model::open(source, options.clone())?;
    let access = model.blueprint().link.access.clone();
    let layers = model.config().layers;
    let weight_bytes = model.weight_bytes() as usize;
    let mut session = model.session()?;
    session.pass(&[1, 2, 3, 4])?;
    let started = Instant::now();
    let mut bytes = 0;
    for token in 0..tokens {
        session.pass(&[token as u32 + 5])?;
        bytes += session.loads().iter().map(|load| load.bytes).sum::<u64>();
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Streamed {
        gbps: bytes as f64 / seconds / 1e9,
        tokens_per_s: tokens as f64 / seconds,
        access,
        layers,
        weight_bytes,
    })
}

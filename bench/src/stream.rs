//! Streaming from disk: bytes a second, as a share of what direct reads of the same files reach.

use std::time::{Duration, Instant};

use anyhow::Result;
use engine::profile::Sample;
use engine::{Model, ModelOptions, Source};
use offload::{Home, Residency};

use crate::Run;

/// Long enough to read about as much as a token streams.
const PEAK_BUDGET: Duration = Duration::from_millis(1500);

pub fn run(run: &Run, num_gpu_layers: usize, slots: usize) -> Result<()> {
    let source = Source::Directory(run.model.clone());
    let options = ModelOptions {
        residency: Residency::Layers(num_gpu_layers),
        home: Some(Home::Disk),
        threads: run.threads,
        slots,
        ..ModelOptions::default()
    };
    let (mut peaks, mut rates, mut shares) =
        (Sample::default(), Sample::default(), Sample::default());
    // The ring reads ahead as soon as it can, so the disk is only quiet while no model is open:
    // peak and streaming take turns with a fresh model in each round, and a round is held against
    // the peaks before and after it.
    let checkpoint = source.open()?;
    let measure = || loader::measure_read_gbps(&checkpoint, PEAK_BUDGET);
    let mut before = measure()?.gbps;
    for round in 0..=run.rounds {
        let (gbps, tokens_per_s, access) = stream(&source, &options, run.tokens)?;
        let after = measure()?.gbps;
        let peak = f64::midpoint(before, after);
        before = after;
        let share = gbps / peak * 100.0;
        println!(
            "{:>8}: {access}, peak {peak:5.2} GB/s, streamed {gbps:5.2} GB/s, {tokens_per_s:6.2} tok/s, {share:5.1}%",
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
        }
    }
    println!("direct-read peak, GB/s: {peaks}");
    println!("tok/s:                  {rates}");
    println!("share of peak, %:       {shares}");
    Ok(())
}

fn stream(source: &Source, options: &ModelOptions, tokens: usize) -> Result<(f64, f64, String)> {
    let mut model = Model::open(source, options.clone())?;
    let access = model.blueprint().link.access.clone();
    let mut session = model.session()?;
    session.pass(&[1, 2, 3, 4])?;
    let started = Instant::now();
    let mut bytes = 0;
    for token in 0..tokens {
        session.pass(&[token as u32 + 5])?;
        bytes += session.loads().iter().map(|load| load.bytes).sum::<u64>();
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok((
        bytes as f64 / seconds / 1e9,
        tokens as f64 / seconds,
        access,
    ))
}

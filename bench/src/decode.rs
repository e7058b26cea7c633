//! Decode with everything resident: weight bytes a second, as a share of the read ceiling.

use std::time::Instant;

use anyhow::Result;
use engine::profile::Sample;
use engine::{Model, ModelOptions, Source};
use offload::Residency;

use crate::Run;
use crate::ceiling::Ceiling;

pub fn run(run: &Run) -> Result<()> {
    let options = ModelOptions {
        residency: Residency::All,
        threads: run.threads,
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Directory(run.model.clone()), options)?;
    let bytes = weight_bytes_per_token(&model);
    let threads = run.threads.unwrap_or_else(engine::physical_cores);
    let ceiling = Ceiling::new(threads, bytes);
    let bytes = bytes as f64;
    println!(
        "{threads} threads, {:.3} GB of weights a token",
        bytes / 1e9
    );
    let mut session = model.session()?;
    session.pass(&[1, 2, 3, 4])?;
    let (mut ceilings, mut rates, mut shares) =
        (Sample::default(), Sample::default(), Sample::default());
    for round in 0..=run.rounds {
        let before = ceiling.measure_gbps();
        let started = Instant::now();
        for token in 0..run.tokens {
            session.pass(&[token as u32 + 5])?;
        }
        let tokens_per_s = run.tokens as f64 / started.elapsed().as_secs_f64();
        let limit = f64::midpoint(before, ceiling.measure_gbps());
        let gbps = tokens_per_s * bytes / 1e9;
        println!(
            "{:>8}: ceiling {limit:5.1} GB/s, decode {gbps:5.1} GB/s, {tokens_per_s:6.2} tok/s, {:5.1}%",
            if round == 0 {
                "warm-up".into()
            } else {
                format!("round {round}")
            },
            gbps / limit * 100.0
        );
        if round > 0 {
            ceilings.push(limit);
            rates.push(tokens_per_s);
            shares.push(gbps / limit * 100.0);
        }
    }
    println!("read ceiling, GB/s:  {ceilings}");
    println!("decode, tok/s:       {rates}");
    println!("share of ceiling, %: {shares}");
    Ok(())
}

/// What one token must read: every block, and the head. One row of the embedding is nothing.
pub fn weight_bytes_per_token(model: &Model) -> usize {
    let config = model.config();
    let dtype = model.blueprint().dtype().bytes();
    let head = config.vocab_size * config.hidden_size * dtype;
    config.layers * model.blueprint().layout.weight_bytes() + head
}

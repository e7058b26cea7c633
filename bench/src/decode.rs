//! Decode with everything resident: bytes of memory and of weights a second, as shares of the read
//! ceiling. The second is larger where resident layers are compact.

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
        resident_form: run.form(),
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Directory(run.model.clone()), options)?;
    // What is read, and the numbers that it stands for.
    let bytes = model.weight_bytes() as f64;
    let plain = plain_bytes(&model) as f64;
    let threads = run.threads.unwrap_or_else(engine::physical_cores);
    let ceiling = Ceiling::new(threads, bytes as usize);
    println!(
        "{threads} threads, {:.3} GB of weights a token, in {:.3} GB of memory",
        plain / 1e9,
        bytes / 1e9
    );
    let mut session = model.session()?;
    session.pass(&[1, 2, 3, 4])?;
    let (mut ceilings, mut rates) = (Sample::default(), Sample::default());
    let (mut shares, mut plain_shares) = (Sample::default(), Sample::default());
    for round in 0..=run.rounds {
        let before = ceiling.measure_gbps();
        let started = Instant::now();
        for token in 0..run.tokens {
            session.pass(&[token as u32 + 5])?;
        }
        let tokens_per_s = run.tokens as f64 / started.elapsed().as_secs_f64();
        let limit = f64::midpoint(before, ceiling.measure_gbps());
        let gbps = tokens_per_s * bytes / 1e9;
        let plain_gbps = tokens_per_s * plain / 1e9;
        println!(
            "{:>8}: ceiling {limit:5.1} GB/s, decode {gbps:5.1} GB/s, {tokens_per_s:6.2} tok/s, {:5.1}%, of weights {plain_gbps:5.1} GB/s, {:5.1}%",
            if round == 0 {
                "warm-up".into()
            } else {
                format!("round {round}")
            },
            gbps / limit * 100.0,
            plain_gbps / limit * 100.0
        );
        if round > 0 {
            ceilings.push(limit);
            rates.push(tokens_per_s);
            shares.push(gbps / limit * 100.0);
            plain_shares.push(plain_gbps / limit * 100.0);
        }
    }
    println!("read ceiling, GB/s:  {ceilings}");
    println!("decode, tok/s:       {rates}");
    println!("share of ceiling, %: {shares}");
    println!("  weights over it, %: {plain_shares}");
    Ok(())
}

/// The weights of a token as the checkpoint has them: every block, and the head.
fn plain_bytes(model: &Model) -> usize {
    let blueprint = model.blueprint();
    let blocks = &blueprint.blocks;
    let layers = blocks
        .layers()
        .map(|layer| blocks.packed(layer).layout().weight_bytes());
    layers.sum::<usize>() + model.head_bytes()
}

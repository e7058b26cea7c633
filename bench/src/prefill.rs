//! A whole prompt in one pass, with everything resident: time and arithmetic rate.

use std::time::Instant;

use anyhow::Result;
use engine::profile::Sample;
use engine::{Model, ModelOptions, Source};
use offload::Residency;

use crate::Run;

pub fn run(run: &Run, prompt_tokens: usize) -> Result<()> {
    let options = ModelOptions {
        residency: Residency::All,
        threads: run.threads,
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Directory(run.model.clone()), options)?;
    let layout = &model.blueprint().layout;
    let weights = model.config().layers * layout.weight_bytes() / layout.dtype().bytes();
    let operations = 2.0 * weights as f64 * prompt_tokens as f64;
    let vocab_size = model.config().vocab_size as u32;
    let prompt: Vec<u32> = (0..prompt_tokens as u32)
        .map(|at| at * 31 % vocab_size)
        .collect();
    let mut times_ms = Sample::default();
    let mut rates = Sample::default();
    for round in 0..=run.rounds {
        let mut session = model.session()?;
        let started = Instant::now();
        session.pass(&prompt)?;
        let seconds = started.elapsed().as_secs_f64();
        if round > 0 {
            times_ms.push(seconds * 1e3);
            rates.push(operations / seconds / 1e9);
        }
    }
    println!("prefill of {prompt_tokens} tokens, ms: {times_ms}");
    println!("GFLOP/s of the projections:   {rates}");
    Ok(())
}

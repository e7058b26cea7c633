//! A whole prompt in one pass, with everything resident: time, and the share of what the processor
//! reaches in registers.

use anyhow::Result;
use engine::profile::Sample;
use engine::{Model, ModelOptions, Source};
use offload::Residency;

use crate::Run;

pub fn run(run: &Run, prompt_tokens: usize) -> Result<()> {
    let options = ModelOptions {
        residency: Residency::All,
        threads: run.threads,
        resident_form: run.form(),
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Directory(run.model.clone()), options)?;
    let vocab_size = model.config().vocab_size as u32;
    let prompt: Vec<u32> = (0..prompt_tokens as u32)
        .map(|at| at * 31 % vocab_size)
        .collect();
    let mut times_ms = Sample::default();
    let (mut rates, mut shares) = (Sample::default(), Sample::default());
    for round in 0..=run.rounds {
        let mut session = model.session()?;
        let pass = session.pass(&prompt)?;
        drop(session);
        if round == 0 {
            continue;
        }
        times_ms.push(pass.total.as_secs_f64() * 1e3);
        let limit = model.measure_arithmetic();
        if let Some(rate) = limit.and_then(|limit| limit.utilisation(&pass)) {
            rates.push(rate.gflops);
            shares.push(rate.share * 100.0);
        }
    }
    println!("prefill of {prompt_tokens} tokens, ms: {times_ms}");
    println!("GFLOP/s: {rates}");
    println!("share of the peak, %: {shares}");
    Ok(())
}

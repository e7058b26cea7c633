//! What this machine reaches with this model, and the plans that would make the most of it.
//! Predictions are the planner's; a caller that recommends one verifies it by running it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loader::Form;
use offload::{Candidate, Choices, Home, HomeChoice, Spread, search};

use crate::error::EngineError;
use crate::machine::CoreShares;
use crate::model::Blueprint;
use crate::model::options::{ModelOptions, Source};
use crate::run::generation::GenerationOptions;
use crate::study::trial::Trial;

/// How long each rate may take to measure.
const BUDGET: Duration = Duration::from_millis(500);

/// Tokens of the run that measures compute: enough to leave the first ones' page faults behind.
const TOKENS: usize = 8;

/// More slots than this never helped: one copies, one computes, two take up jitter.
const SLOTS_MAX: usize = 4;

/// Measured rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineRates {
    /// The model's own files, by the reads that streaming uses.
    pub disk_gbps: f64,
    /// What a copy from there takes longer on its own.
    pub disk_start_ms: f64,
    /// Copies within memory.
    pub ram_gbps: f64,
    /// Compute of one layer for one token.
    pub layer_ms: f64,
    /// What a token costs outside the layers.
    pub other_ms: f64,
    /// Layers that stay are not compact, as was planned: their numbers are too varied.
    pub kept_plain: bool,
    /// The cores were not free meanwhile: the machine is faster than this, by an unknown amount.
    pub lacking: Option<CoreShares>,
}

/// What is settled; the rest is searched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settled {
    pub slots: Option<usize>,
    pub spread: Option<Spread>,
    pub home: Option<Home>,
}

impl MachineRates {
    /// Measures this machine with this model, as many layers resident as fit.
    pub fn measure(
        source: &Source,
        options: &ModelOptions,
        prompt: Vec<u32>,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let in_time = || match cancel.load(Ordering::Relaxed) {
            true => Err(EngineError::Interrupted),
            false => Ok(()),
        };
        in_time()?;
        let checkpoint = source.open()?;
        let disk_gbps = loader::measure_read_gbps(&checkpoint, BUDGET)?.gbps;
        in_time()?;
        let block = checkpoint.block(0, options.dtype, loader::Arrangement::Paged)?;
        let block_bytes = block.stored_bytes();
        let alone = loader::measure_lone_read(&checkpoint, block_bytes, BUDGET)?;
        let disk_start_ms = alone.start_ms(disk_gbps);
        drop(checkpoint);
        in_time()?;
        let ram_gbps = offload::measure_copy_gbps(BUDGET);
        in_time()?;
        let generation = GenerationOptions {
            max_new_tokens: TOKENS,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let trial = Trial {
            options: options.clone(),
            prompt,
            generation,
        };
        let run = trial.run(source, cancel)?;
        let layers = run.streaming.plan.layers() as f64;
        Ok(Self {
            disk_gbps,
            disk_start_ms,
            ram_gbps,
            layer_ms: run.decode.compute_ms() / layers,
            other_ms: run.decode.other_ms(),
            kept_plain: run.loaded.kept_plain,
            lacking: run.cores.lacking(),
        })
    }
}

impl Blueprint {
    /// The best plan for every N that fits into `memory_bytes`, fastest first. `faster`: how many
    /// times the link's measured rate, 1 for the link there is.
    pub fn candidates(
        &self,
        rates: &MachineRates,
        settled: Settled,
        memory_bytes: Option<u64>,
        faster: f64,
    ) -> Result<Vec<Candidate>, EngineError> {
        let emulated = self.options.link_gbps;
        let homes: &[Home] = match (settled.home, emulated) {
            (_, Some(_)) | (Some(Home::Ram), None) => &[Home::Ram],
            (Some(Home::Disk), None) => &[Home::Disk],
            (None, None) => &[Home::Disk, Home::Ram],
        };
        let homes = homes.iter().map(|&home| {
            let gbps = match (emulated, home) {
                (Some(gbps), _) => gbps,
                (None, Home::Disk) => rates.disk_gbps,
                (None, Home::Ram) => rates.ram_gbps,
            };
            Ok(HomeChoice {
                home,
                costs: self.costs_in(home),
                link_bytes_per_s: gbps * faster * 1e9,
                start_ms: match home {
                    Home::Disk => rates.disk_start_ms,
                    Home::Ram => 0.0,
                },
            })
        });
        let all = [Spread::Even, Spread::ResidentFirst, Spread::ResidentLast];
        let choices = Choices {
            slots: settled
                .slots
                .map_or_else(|| (1..=SLOTS_MAX).collect(), |slots| vec![slots]),
            spreads: settled
                .spread
                .map_or_else(|| all.to_vec(), |spread| vec![spread]),
            homes: homes.collect::<Result<_, EngineError>>()?,
        };
        let request = offload::PlanRequest {
            memory_bytes,
            ..self.request.clone()
        };
        Ok(search(&request, &choices, rates.layer_ms, rates.other_ms))
    }
}

/// The options that carry a candidate out, with resident layers in the form that it was planned
/// with.
pub fn options_of(candidate: &Candidate, form: Form, base: &ModelOptions) -> ModelOptions {
    let streams = candidate.plan.streamed_count() > 0;
    ModelOptions {
        residency: offload::Residency::Layers(candidate.plan.resident_count()),
        spread: candidate.plan.spread(),
        slots: Some(candidate.plan.slots().max(1)),
        resident_form: Some(form),
        home: streams.then_some(candidate.home).or(base.home),
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_interrupted_measures_nothing_more() {
        let cancel = Arc::new(AtomicBool::new(true));
        let started = Instant::now();
        let options = ModelOptions::default();
        let ended = MachineRates::measure(&Source::Demo, &options, vec![1], &cancel);
        assert!(matches!(ended, Err(EngineError::Interrupted)), "{ended:?}");
        assert!(started.elapsed() < BUDGET);
    }
}

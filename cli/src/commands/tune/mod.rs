//! `engine tune`: measure, predict, verify, recommend.

mod advice;
mod sweep;
mod tables;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::profile::files::Origin;
use engine::profile::{CoreShares, Sample};
use engine::{
    Blueprint, EngineError, GenerationOptions, Machine, MachineRates, ModelOptions, Source, Trial,
    in_turns, options_of,
};
use loader::Form;
use offload::{Candidate, PlanError, Residency};

use self::advice::Advice;
use self::sweep::Sweep;
use super::{origin, preface};
use crate::args::TuneArgs;
use crate::failure::Failure;
use crate::output::{Console, Stdout, Steps, try_place, write_whole};
use crate::{interrupt, prompt};

/// Tokens of the prompt of every run.
const PROMPT_TOKENS: usize = 16;

/// Every run should take about this long, in this many tokens.
const RUN_MS: f64 = 3000.0;
const TOKENS: (f64, f64) = (4.0, 64.0);

/// A candidate, and what it did when it was run.
#[derive(Debug)]
struct Verified {
    candidate: Candidate,
    tokens_per_s: Sample,
    /// The cores were not free in one of its runs.
    lacking: Option<CoreShares>,
}

/// All that came of it.
#[derive(Debug)]
struct Tuned {
    origin: Origin,
    /// The model's.
    name: String,
    machine: Machine,
    rates: MachineRates,
    emulated_gbps: Option<f64>,
    memory_bytes: Option<u64>,
    /// Each ran at least once.
    verified: Vec<Verified>,
    /// Index of the fastest in fact; `None` where none was run.
    best: Option<usize>,
    advice: Option<Advice>,
    sweep: Option<Sweep>,
    /// It was ended before all of it was measured.
    interrupted: bool,
}

impl Tuned {
    /// Where the cores were not free while rates were measured or plans were run.
    fn disturbed(&self) -> Option<CoreShares> {
        let runs = self.verified.iter().map(|verified| verified.lacking);
        std::iter::once(self.rates.lacking)
            .chain(runs)
            .find_map(|lacking| lacking)
    }
}

struct Bench<'a> {
    args: &'a TuneArgs,
    source: Source,
    /// What is kept, with N as large as it fits.
    options: ModelOptions,
    blueprint: Blueprint,
    prompt: Vec<u32>,
    cancel: Arc<AtomicBool>,
    console: Console,
}

pub fn run(args: &TuneArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let plot_failed = |file: &Path, source| Failure::Write {
        file: file.display().to_string(),
        source,
    };
    if let Some(file) = &args.plot {
        try_place(file).map_err(|source| plot_failed(file, source))?;
    }
    let (source, options) = (args.source(), args.options());
    let blueprint = Blueprint::new(&source, options.clone())?;
    let prompt = prompt::ids(PROMPT_TOKENS, blueprint.config.vocab_size);
    blueprint.check_tokens(&prompt, 0)?;
    let mut bench = Bench {
        args,
        source,
        options,
        blueprint,
        prompt,
        cancel: interrupt::flag(),
        console,
    };
    let (tuned, ended) = bench.tune()?;
    if let (Some(file), Some(sweep)) = (&args.plot, &tuned.sweep) {
        let svg = sweep.svg(&tuned);
        write_whole(file, svg.as_bytes()).map_err(|source| plot_failed(file, source))?;
        console.say(format_args!("Wrote {}", file.display()));
    }
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&tables::json(&tuned))?,
        false => out.show(tables::text(&tuned))?,
    }
    ended
}

impl Bench<'_> {
    /// What was measured, and how that ended. Without rates there is nothing to show.
    fn tune(&mut self) -> Result<(Tuned, Result<(), Failure>), Failure> {
        let steps = Steps::new(&self.console, 1);
        steps.next("measuring disk, memory and compute");
        let rates = MachineRates::measure(
            &self.source,
            &self.options,
            self.prompt.clone(),
            &self.cancel,
        );
        drop(steps);
        if matches!(rates, Err(EngineError::Interrupted)) {
            self.console.say("interrupted before anything was measured");
        }
        let rates = rates?;
        if rates.kept_plain {
            self.options.resident_form = Some(Form::Plain);
            self.blueprint = Blueprint::new(&self.source, self.options.clone())?;
        }
        let memory_bytes = self.blueprint.memory_bytes;
        let candidates =
            (self.blueprint).candidates(&rates, self.args.settled(), memory_bytes, 1.0)?;
        if candidates.is_empty() {
            // The blueprint fits with the slots that are settled, or there would be none.
            return Err(EngineError::from(PlanError::NoSlots).into());
        }
        let few = candidates.iter().take(self.args.verify).cloned().collect();
        let (verified, mut ended) = self.verify(few, "verifying");
        let best = fastest(&verified);
        let advice = best
            .map(|best| Advice::new(self, &rates, &verified[best]))
            .transpose()?;
        let mut sweep = None;
        if ended.is_ok() && (self.args.benchmark || self.args.plot.is_some()) {
            let points;
            (points, ended) = self.verify(sweep::points(&candidates), "sweeping");
            sweep = (!points.is_empty()).then_some(Sweep { points });
        }
        let tuned = Tuned {
            origin: origin::of_this_run(None),
            name: preface::short_name(self.blueprint.checkpoint.location()),
            machine: Machine::here(),
            rates,
            emulated_gbps: self.options.link_gbps,
            memory_bytes,
            verified,
            best,
            advice,
            sweep,
            interrupted: ended.is_err(),
        };
        Ok((tuned, ended.map_err(Failure::from)))
    }

    /// Runs the candidates in turns. Those that ran at least once, and how it ended.
    fn verify(
        &self,
        candidates: Vec<Candidate>,
        what: &'static str,
    ) -> (Vec<Verified>, Result<(), EngineError>) {
        let trials: Vec<Trial> = candidates.iter().map(|c| self.trial(c)).collect();
        let steps = Steps::new(&self.console, trials.len() * self.args.repeats);
        let (runs, ended) = in_turns(
            &self.source,
            &trials,
            self.args.repeats,
            &self.cancel,
            &mut |trial, _round| steps.next(format!("{what} N = {}", resident(&trials[trial]))),
        );
        let verified = candidates
            .into_iter()
            .zip(runs)
            .filter(|(_, runs)| !runs.is_empty())
            .map(|(candidate, runs)| Verified {
                candidate,
                tokens_per_s: runs.iter().filter_map(|run| run.tokens_per_s()).collect(),
                lacking: runs.iter().find_map(|run| run.cores.lacking()),
            })
            .collect();
        (verified, ended)
    }

    fn trial(&self, candidate: &Candidate) -> Trial {
        let fitting = (RUN_MS / candidate.prediction.token_ms).clamp(TOKENS.0, TOKENS.1);
        // The prompt's pass gives the first token, and none of the rate.
        let tokens = 1 + self.args.tokens.unwrap_or(fitting as usize);
        let room = self.blueprint.context - self.prompt.len();
        Trial {
            options: options_of(candidate, self.blueprint.resident_form(), &self.options),
            prompt: self.prompt.clone(),
            generation: GenerationOptions {
                max_new_tokens: tokens.min(room),
                ignore_eos: true,
                ..GenerationOptions::default()
            },
        }
    }
}

fn resident(trial: &Trial) -> usize {
    match trial.options.residency {
        Residency::Layers(count) => count,
        Residency::All | Residency::Auto => 0,
    }
}

fn fastest(verified: &[Verified]) -> Option<usize> {
    let rate = |index: &usize| verified[*index].tokens_per_s.median();
    (0..verified.len()).max_by(|a, b| rate(a).total_cmp(&rate(b)))
}

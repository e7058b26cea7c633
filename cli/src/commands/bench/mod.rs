//! `engine bench`: rounds over a set of prompts, one side or two in turns, and what came of them.

mod c2c;
pub mod prompts;
mod results;
mod save;
mod speech;
mod spoken;
mod tables;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{
    Blueprint, EngineError, GenerationOptions, Machine, ModelOptions, Source, Together, TrialRun,
};

use self::prompts::Prompt;
use self::results::{Results, Row, SideResults};
use super::origin;
use super::preface;
use crate::args::{BenchArgs, bench_side};
use crate::failure::{Failure, Usage};
use crate::interrupt;
use crate::output::{Console, Stdout, Steps};

/// One set of flags.
struct Side {
    name: &'static str,
    flags: String,
    source: Source,
    options: ModelOptions,
    prompts: Vec<Prompt>,
}

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    if let Some([base, teacher, fuser]) = args.c2c.as_deref() {
        return c2c::run(args, [base, teacher, fuser], &console);
    }
    if let Some(file) = &args.speech {
        return speech::run(args, file, &console);
    }
    if let Some(flag) = args.saying.typed() {
        return Err(Usage::OfSpeech { flag }.into());
    }
    let sides = sides(args, &console)?;
    let cancel = interrupt::flag();
    let (date, machine) = (engine::text::today(), Machine::here());
    if let Some(folder) = &args.save {
        save::try_folder(folder, &date, &machine)?;
    }
    let mut results = Results {
        origin: origin::of_this_run(None),
        date,
        machine,
        tokens: args.tokens(),
        warmup: args.warmup,
        sides: sides.iter().map(Side::no_results).collect(),
        interrupted: false,
    };
    let measured = measure(args, &sides, &mut results, &cancel, &console);
    if measured.is_err() {
        // What was measured is shown, whatever then went wrong.
        results.interrupted = true;
        results.keep_measured();
        if results.is_empty() {
            if matches!(&measured, Err(failure) if failure.is_silent()) {
                console.say("interrupted before anything was measured");
            }
            return measured;
        }
    }
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&results.json())?,
        false => out.show(tables::text(&results))?,
    }
    if let Some(folder) = &args.save {
        let saved = save::save(folder, &results)?;
        console.say(format_args!("Saved {}", saved.display()));
    }
    measured
}

fn sides(args: &BenchArgs, console: &Console) -> Result<Vec<Side>, Failure> {
    let typed: Vec<_> = std::env::args_os().skip(2).collect();
    let named = match args.compare.as_deref() {
        Some([a, b]) => vec![("A", a.clone()), ("B", b.clone())],
        _ => vec![("", String::new())],
    };
    named
        .into_iter()
        .map(|(name, flags)| {
            let setup = bench_side(&typed, &flags).map_err(|error| Usage::Side {
                name,
                reason: error.render().to_string(),
            })?;
            let (source, mut options) = (setup.source(), setup.options());
            options.sequences = args.parallel.unwrap_or(1);
            let blueprint = Blueprint::new(&source, options.clone())?;
            preface::note(setup.idle(&blueprint.plan)?.as_ref(), console);
            let prompts = prompts::read(args, &blueprint, console)?;
            Ok(Side {
                name,
                flags,
                source,
                options,
                prompts,
            })
        })
        .collect()
}

/// Warm-up rounds, then the rounds that count; every round has each side once.
fn measure(
    args: &BenchArgs,
    sides: &[Side],
    results: &mut Results,
    cancel: &Arc<AtomicBool>,
    console: &Console,
) -> Result<(), Failure> {
    let rounds = args.warmup + args.repeats;
    let steps = Steps::new(console, rounds * sides.len());
    for round in 0..rounds {
        for (side, done) in sides.iter().zip(&mut results.sides) {
            let phase = match round.checked_sub(args.warmup) {
                None => format!("warm-up {}", round + 1),
                Some(round) => format!("round {} of {}", round + 1, args.repeats),
            };
            steps.next(format!("{phase} {}", side.name));
            side.round(args.tokens(), cancel, &mut |prompt, run, together| {
                if round >= args.warmup {
                    let row = &mut done.rows[prompt];
                    row.runs.push(run);
                    row.together.extend(together);
                }
            })?;
        }
    }
    Ok(())
}

impl Side {
    fn no_results(&self) -> SideResults {
        let row = |prompt: &Prompt| Row {
            label: prompt.label.clone(),
            words: prompt.words,
            runs: Vec::new(),
            together: Vec::new(),
        };
        SideResults {
            name: self.name,
            flags: self.flags.clone(),
            rows: self.prompts.iter().map(row).collect(),
        }
    }

    /// Opens the model and continues each prompt once; `on_run` gets each by its number.
    fn round(
        &self,
        tokens: usize,
        cancel: &Arc<AtomicBool>,
        on_run: &mut dyn FnMut(usize, TrialRun, Option<Together>),
    ) -> Result<(), EngineError> {
        let (mut model, peak) = engine::open_measured(&self.source, self.options.clone())?;
        model.cancel_with(cancel);
        model.measure_memory()?;
        model.measure_arithmetic();
        let options = GenerationOptions {
            max_new_tokens: tokens,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        for (index, prompt) in self.prompts.iter().enumerate() {
            let (ids, options) = (prompt.ids.clone(), options.clone());
            let run = TrialRun::measure(&mut model, peak, ids, options, cancel)?;
            let streams = self.options.sequences;
            let together = match streams {
                1 => None,
                _ => {
                    let how = (streams, tokens);
                    Some(Together::measure(&mut model, &prompt.ids, how, cancel)?)
                }
            };
            on_run(index, run, together);
        }
        Ok(())
    }
}

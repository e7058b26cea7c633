//! `engine bench --speech`: texts, spoken several times each.

use std::path::Path;

use engine::speech::{AnyBlueprint, Limits};
use engine::{EngineError, Machine};
use serde_json::json;

use super::prompts;
use super::spoken::{self, Row};
use crate::args::BenchArgs;
use crate::commands::speak::saying;
use crate::failure::{Failure, Usage};
use crate::interrupt;
use crate::output::{Console, Stdout, Steps};

pub fn run(args: &BenchArgs, file: &Path, console: &Console) -> Result<(), Failure> {
    let texts = prompts::texts(file)?;
    let path = args.setup.path()?;
    // Whether it can run at all shows before anything is measured.
    let system = open(args, &path)?;
    if let (AnyBlueprint::Coded(_), false) = (&system, args.cfg_scale.is_empty()) {
        let (flag, system) = ("--cfg-scale", loader::SpeechSystem::Qwen3Tts.name());
        return Err(Usage::OfOtherSystem { flag, system }.into());
    }
    let scales: Vec<_> = match args.cfg_scale.is_empty() {
        true => vec![None],
        false => args.cfg_scale.iter().copied().map(Some).collect(),
    };
    let mut rows = Vec::new();
    let spoken = texts
        .iter()
        .flat_map(|text| scales.iter().map(move |scale| (text, scale)));
    for ((label, text), &guidance) in spoken {
        let mut saying = saying::of_text(text, &args.saying, &system)?;
        saying.guidance = guidance;
        if let Some(tokens) = args.tokens {
            saying.limits = Limits {
                max_new_tokens: tokens,
                only_frames: true,
                expected_s: None,
                ..saying.limits
            };
        }
        rows.push(Row {
            label: label.clone(),
            words: text.split_whitespace().count(),
            saying,
            runs: Vec::new(),
        });
    }
    drop(system);
    let measured = measure(args, &path, &mut rows, console);
    rows.retain(|row| !row.runs.is_empty());
    if rows.is_empty() {
        return measured;
    }
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&json!({
            "machine": Machine::here().to_string(),
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "interrupted": measured.is_err(),
        }))?,
        false => {
            out.show(spoken::table(&rows))?;
        }
    }
    measured
}

fn open(args: &BenchArgs, path: &Path) -> Result<AnyBlueprint, EngineError> {
    let tokenizer = args.saying.tokenizer.clone();
    let stages = args.saying.stages.stages();
    AnyBlueprint::new(path, args.setup.options(), tokenizer, None, stages)
}

fn measure(
    args: &BenchArgs,
    path: &Path,
    rows: &mut [Row],
    console: &Console,
) -> Result<(), Failure> {
    let cancel = interrupt::flag();
    let rounds = args.warmup + args.repeats;
    let steps = Steps::new(console, rounds * rows.len());
    for round in 0..rounds {
        let blueprint = open(args, path)?;
        let peak = blueprint.language().measure_peak()?;
        let mut system = blueprint.load(&mut |_| {})?;
        system.measure_memory()?;
        // What comes first is not always the same.
        let turned: Vec<_> = match round % 2 {
            0 => rows.iter_mut().collect(),
            _ => rows.iter_mut().rev().collect(),
        };
        for row in turned {
            steps.next(match round.checked_sub(args.warmup) {
                None => format!("warm-up {}, {}", round + 1, row.label),
                Some(round) => format!("round {} of {}, {}", round + 1, args.repeats, row.label),
            });
            let run = system.measure(peak, &row.saying, &cancel)?;
            if run.frames == 0 {
                let label = row.label.clone();
                return Err(EngineError::NothingSpoken { label }.into());
            }
            if round >= args.warmup {
                row.runs.push(run);
            }
        }
    }
    Ok(())
}

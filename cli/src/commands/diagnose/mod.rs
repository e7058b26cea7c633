//! `engine diagnose`: three runs in turns, and what they say. Measures and prints; the rules are
//! the engine's.

mod json;
mod text;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::diagnosis::Runs;
use engine::speech::{AnyBlueprint, SpeechTrials};
use engine::{Blueprint, Checkup, CheckupRun, EngineError, LeftOut, Machine, Subject};
use loader::units;

use super::bench::prompts;
use super::preface;
use super::speak::saying;
use crate::args::DiagnoseArgs;
use crate::failure::{Failure, Usage};
use crate::interrupt;
use crate::output::{Console, Stdout, Steps, write_whole};

/// How long measuring what memory copies reach may take.
const COPY_BUDGET: Duration = Duration::from_millis(200);

/// Tokens of the prompt where none is given: known to any vocabulary, and no tokenizer is needed.
const PROMPT_TOKENS: u32 = 8;

/// What the report is made from.
struct Report {
    facts: Facts,
    machine: Machine,
    memory_copy_gbps: f64,
    left_out: Vec<LeftOut>,
    runs: Runs,
    /// Rounds that are complete.
    rounds: usize,
    interrupted: bool,
}

/// What was asked for.
struct Facts {
    model: String,
    family: String,
    dtype: &'static str,
    layers: usize,
    block_bytes: u64,
    access: String,
    new_tokens: usize,
    prompt_tokens: usize,
    repeats: usize,
}

pub fn run(args: &DiagnoseArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    check_save(args.save.as_deref())?;
    let source = args.setup.source();
    let (blueprint, subject, prompt): Checked = match Blueprint::new(&source, args.setup.options())
    {
        Err(error) if error.is_speech() => speech(args)?,
        blueprint => {
            let blueprint = blueprint?;
            if let Some(flag) = args.saying.typed() {
                return Err(Usage::OfSpeech { flag }.into());
            }
            let prompt = prompt(args, &blueprint)?;
            (blueprint, Box::new(source), prompt)
        }
    };
    preface::note(args.setup.idle(&blueprint.plan)?.as_ref(), &console);
    let facts = Facts::of(args, &blueprint, prompt.len());
    let mut checkup = Checkup::new(subject, &blueprint, prompt, args.tokens);
    drop(blueprint);
    for left_out in checkup.left_out() {
        console.say(format_args!("note: {}", why(left_out)));
    }
    let interrupted = measure(&mut checkup, args.repeats, &console)?;
    let Some(runs) = checkup.findings() else {
        console.say("interrupted before the first round was complete: nothing to tell");
        return Err(Failure::Interrupted);
    };
    let report = Report {
        facts,
        machine: Machine::here(),
        memory_copy_gbps: offload::measure_copy_gbps(COPY_BUDGET),
        left_out: checkup.left_out().to_vec(),
        runs,
        rounds: checkup.rounds(),
        interrupted,
    };
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&json::of(&report))?,
        false => out.show(text::of(&report))?,
    }
    if let Some(path) = &args.save {
        save(path, &text::bundle(&report))?;
    }
    match interrupted {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

/// All rounds, or those until Ctrl-C: whether it came.
fn measure(checkup: &mut Checkup, repeats: usize, console: &Console) -> Result<bool, Failure> {
    let cancel: Arc<AtomicBool> = interrupt::flag();
    let steps = Steps::new(console, repeats * checkup.planned().len());
    for round in 1..=repeats {
        let done = checkup.round(&cancel, &mut |which| {
            steps.next(format!("round {round} of {repeats}, {}", run_name(which)));
        });
        match done {
            Ok(()) => {}
            Err(EngineError::Interrupted) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn prompt(args: &DiagnoseArgs, blueprint: &Blueprint) -> Result<Vec<u32>, Failure> {
    let vocab_size = u32::try_from(blueprint.config.vocab_size).unwrap_or(u32::MAX);
    let built_in = || (1..=PROMPT_TOKENS).map(|id| id % vocab_size).collect();
    let prompt = args.prompt_tokens.clone().unwrap_or_else(built_in);
    blueprint.check_tokens(&prompt, 0)?;
    // The last token is made, and not seen.
    let (needed, context) = (prompt.len() + args.tokens - 1, blueprint.context);
    if needed > context {
        return Err(Usage::TooManyTokens { needed, context }.into());
    }
    Ok(prompt)
}

/// What is planned, what runs, and the prompt's tokens, where these are known.
type Checked = (Blueprint, Box<dyn Subject>, Vec<u32>);

/// A system that speaks: its language model is what is planned, and the prompt a line of text.
fn speech(args: &DiagnoseArgs) -> Result<Checked, Failure> {
    if args.prompt_tokens.is_some() {
        let flag = "--prompt-tokens";
        return Err(Usage::OfText { flag }.into());
    }
    let path = args.setup.path()?;
    let (model, tokenizer) = (args.setup.options(), args.saying.tokenizer.clone());
    let stages = args.saying.stages.stages();
    let blueprint = AnyBlueprint::new(&path, model.clone(), tokenizer.clone(), None, stages)?;
    let trials = SpeechTrials {
        saying: saying::of_text(prompts::SHORT, &args.saying, &blueprint)?,
        path,
        model,
        tokenizer,
        steps: None,
        stages,
    };
    // How long the prompt is depends on voices; what is planned does not depend on it.
    Ok((blueprint.into_language(), Box::new(trials), Vec::new()))
}

/// This is done before minutes of measuring, not after.
fn check_save(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if path.is_dir() || parent.is_some_and(|parent| !parent.is_dir()) {
        let path = path.to_owned();
        return Err(Usage::SaveIsNoFile { path }.into());
    }
    Ok(())
}

fn save(path: &Path, bundle: &str) -> Result<(), Failure> {
    write_whole(path, bundle.as_bytes()).map_err(|source| Failure::Write {
        file: path.display().to_string(),
        source,
    })
}

impl Facts {
    fn of(args: &DiagnoseArgs, blueprint: &Blueprint, prompt_tokens: usize) -> Self {
        Self {
            model: blueprint.checkpoint.location().to_owned(),
            family: blueprint.config.family.to_string(),
            dtype: blueprint.encoding().name(),
            layers: blueprint.config.layers,
            block_bytes: blueprint.blocks.largest_bytes() as u64,
            access: preface::whereabouts(&blueprint.link),
            new_tokens: args.tokens,
            prompt_tokens,
            repeats: args.repeats,
        }
    }
}

/// A run as people call it.
fn run_name(which: CheckupRun) -> &'static str {
    match which {
        CheckupRun::AsGiven => "as given",
        CheckupRun::NoOffload => "no offload",
        CheckupRun::More => "N+4",
        CheckupRun::Fewer => "N-4",
    }
}

/// Why a run is left out, with its numbers.
fn why(left_out: &LeftOut) -> String {
    match *left_out {
        LeftOut::TooLarge {
            which,
            resident,
            needed_bytes,
            memory_bytes,
        } => {
            let (needed, available) = units::needed_of(needed_bytes, memory_bytes);
            format!(
                "without the run `{}`: {resident} resident layers need {needed}, {available} are \
                 available",
                run_name(which)
            )
        }
        LeftOut::SameAs { which, other } => format!(
            "without a run `{}` of its own: it is the run `{}` again",
            run_name(which),
            run_name(other)
        ),
    }
}

impl Report {
    fn named_runs(&self) -> Vec<(CheckupRun, &engine::diagnosis::Symptoms)> {
        let Runs {
            as_given,
            no_offload,
            more,
            fewer,
        } = &self.runs;
        let others = [
            (CheckupRun::NoOffload, no_offload),
            (CheckupRun::More, more),
            (CheckupRun::Fewer, fewer),
        ];
        let others = others.into_iter();
        std::iter::once((CheckupRun::AsGiven, as_given))
            .chain(others.filter_map(|(which, run)| Some((which, run.as_ref()?))))
            .collect()
    }

    fn emulated_gbps(&self) -> Option<f64> {
        self.runs.as_given.emulated_gbps()
    }
}

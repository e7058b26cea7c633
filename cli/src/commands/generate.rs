//! `engine generate`: plan, say so, load, continue the prompt, say how it went.

use engine::profile::Streaming;
use engine::profile::files::{Origin, RunRecord, Unit};
use engine::text::{Logprob, Logprobs};
use engine::{Blueprint, Ended, Generation, GenerationOptions, Model, Report, Session};

use super::files::Files;
use super::origin;
use super::preface;
use super::report::{Facts, Finished, Likely, ended};
use super::telling::{Profile, Writer, tell};
use crate::args::GenerateArgs;
use crate::failure::Failure;
use crate::output::{Bar, Console, PromptBar, gigabytes, memory, seconds, three_digits};
use crate::{grammar, interrupt, prompt};

pub fn run(args: GenerateArgs) -> Result<(), Failure> {
    let console = Console::new(args.output.quiet);
    let input = args.prompt.input()?;
    let files = Files::prepare(&args.files)?;
    let blueprint = Blueprint::new(&args.setup.source(), args.setup.options())?;
    let idle = args.setup.idle(&blueprint.plan)?;
    let options = GenerationOptions {
        max_new_tokens: args.length.max_new_tokens,
        sampling: args.sampling.over(&blueprint.checkpoint.generation),
        stop: args.length.stop,
        show: Vec::new(),
        ignore_eos: args.length.ignore_eos,
        logprobs: args.output.logprobs,
        bias: Vec::new(),
        // Before weights are loaded: a mistake should not take gigabytes to find.
        grammar: grammar::compile(args.grammar, &blueprint)?,
    };
    options
        .sampling
        .validate()
        .map_err(engine::EngineError::from)?;
    // Only where it is written: it takes a look at the machine.
    let told = files.any() || args.output.json;
    let drawn = options.sampling.temperature > 0.0;
    let seed = drawn.then_some(options.sampling.seed);
    let origin = told.then(|| origin::of_this_run(seed));
    let prompt = prompt::tokens(input, &blueprint, &console)?;
    // What reading it takes for a moment is then given back before weights need the memory. Without
    // one, tokens are printed as numbers.
    let _ = blueprint.tokenizer();

    preface::print(&blueprint, idle.as_ref(), &console);
    let measured = args.output.profile.is_some() || files.any();
    let peak = match measured {
        true => blueprint.measure_peak()?,
        false => None,
    };
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let model = Box::leak(Box::new(load(blueprint, measured, &console)?));
    let loaded = model.loaded();
    let idle = match loaded.kept_plain || loaded.lowered_from.is_some() {
        true => preface::plan_again(model.blueprint(), &args.setup, &console)?,
        false => idle,
    };
    let facts = Facts::of(model, idle.as_ref());
    let streaming = model.streaming(peak);
    let mut profile = (args.output.profile)
        .map(|how| Profile::new(how, console, &streaming, args.output.profile_every));
    let name = preface::name(model.blueprint());
    let mut writer = Writer::new(args.output.json, model.tokenizer().is_err());
    writer.make_room(profile.as_ref());

    let mut session = model.session()?;
    session.cancel_with(interrupt::flag());
    if measured || args.output.json {
        session.watch_cores();
    }
    if files.any() {
        session.record();
    }
    let bar = prompt_bar(&session, prompt.len(), &console);
    let mut generation = session.generate(prompt, options)?;
    let ran = tell(
        &mut generation,
        &mut writer,
        profile.as_mut(),
        bar,
        &mut |_| {},
    );
    // Whatever came is shown, whatever then went wrong.
    let rest = generation.rest();
    let report = generation.report();
    let shown = writer.end(&rest, &report);
    if let (Some(profile), true) = (&mut profile, shown.is_ok()) {
        profile.finish(&console);
    }
    let written = write_files(
        &files,
        (&name, &preface::short_name(&facts.model), origin.as_ref()),
        &mut generation,
        &report,
        &streaming,
        &console,
    );
    shown?;
    if let (Err(_), Err(failure)) = (&ran, &written) {
        // Two things went wrong: the run's is the exit code, and both are told.
        console.failure(failure);
    }
    ran?;
    let finished = Finished {
        facts,
        utilisation: streaming.utilisation(&report.totals),
        origin,
        report,
        text: writer.text,
        logprobs: (args.output.logprobs).map(|_| spelled(&writer.logprobs, generation.model())),
    };
    if let Some(Profile::Summaries(_)) = profile {
        console.print(format_args!("{}\n", finished.report.timing.tree()));
    }
    if args.output.json {
        writer.out.json(&finished.json())?;
    }
    console.say(finished.line());
    written?;
    match finished.report.ended {
        Some(Ended::Interrupted) => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

pub const KEPT_PLAIN: &str =
    "note: resident layers stay plain: their numbers are too varied for the compact form";

/// Loads the model, and says so.
pub fn load(blueprint: Blueprint, measured: bool, console: &Console) -> Result<Model, Failure> {
    load_telling(blueprint, measured, console, &mut |_| {})
}

/// The same for somebody else who is told of bytes as they arrive.
pub fn load_telling(
    blueprint: Blueprint,
    measured: bool,
    console: &Console,
    arrived: &mut dyn FnMut(u64),
) -> Result<Model, Failure> {
    let bar = Bar::new(console, "loading", Model::bytes_to_load(&blueprint)?);
    let model = Model::load(blueprint, &mut |bytes| {
        bar.add(bytes);
        arrived(bytes);
    })?;
    drop(bar);
    if measured {
        // Over the head, which is then there.
        model.measure_memory()?;
        model.measure_arithmetic();
    }
    let loaded = model.loaded();
    let peak = loaded
        .peak_bytes
        .map(|bytes| format!(", peak memory {}", memory(bytes)));
    let beside = match model.bytes_beside() {
        0 => String::new(),
        bytes => format!("; {} more are read during the first pass", gigabytes(bytes)),
    };
    console.say(format_args!(
        "Loaded {} in {} ({} GB/s){}{}",
        gigabytes(loaded.bytes),
        seconds(loaded.time),
        three_digits(loaded.bytes as f64 / loaded.time.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9),
        peak.unwrap_or_default(),
        beside,
    ));
    if let Some(planned) = loaded.lowered_from {
        console.say(format_args!(
            "note: {}: {} resident layers instead of {planned}",
            match model.blueprint().on_device() {
                true => "the device had less room than it said",
                false => "the system refused some of that memory",
            },
            model.blueprint().plan.resident_count()
        ));
    }
    if loaded.kept_plain {
        console.say(KEPT_PLAIN);
    }
    Ok(model)
}

/// The same with the tokens as the vocabulary spells them.
fn spelled(all: &[Logprobs], model: &Model) -> Vec<Likely> {
    let tokenizer = model.tokenizer().ok();
    let one = |found: &Logprob| Likely {
        token: found.token,
        piece: tokenizer.and_then(|tokenizer| tokenizer.token(found.token)),
        logprob: found.logprob,
        top: None,
    };
    all.iter()
        .map(|found| Likely {
            top: Some(found.top.iter().map(one).collect()),
            ..one(&found.chosen)
        })
        .collect()
}

/// Writes the files of all that was recorded, whatever then went wrong.
fn write_files(
    files: &Files,
    (model, name, origin): (&str, &str, Option<&Origin>),
    generation: &mut Generation<'_, '_>,
    report: &Report,
    streaming: &Streaming,
    console: &Console,
) -> Result<(), Failure> {
    let (Some(recording), Some(origin)) = (generation.take_recording(), origin) else {
        return Ok(());
    };
    let run = RunRecord {
        model,
        name,
        origin,
        unit: Unit::Token,
        // The reader of the text left, and the run ended with it.
        ended: report.ended.map_or("interrupted", ended),
        tokens: report.tokens.len(),
        recording: &recording,
        rows: &[],
        timing: &report.timing,
        streaming,
        peak_memory_bytes: engine::memory::peak_bytes(),
    };
    files.write(&run, console)
}

/// A device is only given its orders: how far it is with them is not known.
pub fn prompt_bar(session: &Session<'_>, tokens: usize, console: &Console) -> Option<PromptBar> {
    let blueprint = session.model().blueprint();
    let on_host = !blueprint.on_device();
    let done = session.layers_done();
    on_host
        .then(|| PromptBar::start(console, tokens, blueprint.config.layers, vec![done]))
        .flatten()
}

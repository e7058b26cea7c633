//! `engine c2c`: plan all stacks, load them, read the prompt with all, answer with one.

mod told;

use std::time::Duration;

use engine::c2c::{C2c, C2cBlueprint, C2cSession, Fused, Lead};
use engine::profile::PassTiming;
use engine::profile::files::{RunRecord, Unit};
use engine::{Blueprint, Ended, EngineError, GenerationOptions, Report};
use serde::Serialize;
use serde_json::{Value, json};

use super::files::Files;
use super::generate::KEPT_PLAIN;
use super::origin;
use super::report::ended;
use super::telling::{Profile, Writer, tell};
use crate::args::{C2cArgs, ChatInput, PromptInput};
use crate::failure::Failure;
use crate::output::{
    Bar, Console, Dump, PromptBar, gigabytes, memory, milliseconds, seconds, try_place,
};
use crate::{interrupt, prompt};
use told::{say_lead, say_plan, say_times};

pub fn run(args: C2cArgs) -> Result<(), Failure> {
    let console = Console::new(args.output.quiet);
    let input = args.prompt.input()?;
    let files = Files::prepare(&args.files)?;
    if let Some(path) = &args.dump {
        try_place(path).map_err(|source| Failure::not_written(path, source))?;
    }
    let sharers = args.models.sharers()?;
    let blueprint = C2cBlueprint::new(&args.models.base(), &sharers, args.models.options())?;
    let options = GenerationOptions {
        max_new_tokens: args.length.max_new_tokens,
        sampling: args.sampling.over(&blueprint.base().checkpoint.generation),
        stop: args.length.stop,
        ignore_eos: args.length.ignore_eos,
        logprobs: args.output.logprobs,
        ..GenerationOptions::default()
    };
    options.sampling.validate().map_err(EngineError::from)?;
    let drawn = options.sampling.temperature > 0.0;
    let seed = drawn.then_some(options.sampling.seed);
    let told = files.any() || args.output.json;
    let origin = told.then(|| origin::of_this_run(seed));
    let input = in_template(input, args.raw, blueprint.base())?;
    let prompt = prompt::tokens(input, blueprint.base(), &console)?;
    let _ = blueprint.base().tokenizer();

    let facts = Facts::of(&blueprint);
    say_plan(&blueprint, &console);
    let measured = args.output.profile.is_some() || files.any();
    let peak = match measured {
        true => blueprint.measure_peak()?,
        false => None,
    };
    let layers = blueprint.layers_of_lead();
    let targets = targets(&blueprint);
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let models = Box::leak(Box::new(load(blueprint, measured, &console)?));
    let streaming = models.streaming(peak);
    let load_time = models.loaded().time;
    let mut profile = (args.output.profile)
        .map(|how| Profile::new(how, console, &streaming, args.output.profile_every));
    let mut writer = Writer::new(args.output.json, models.base().tokenizer().is_err());
    writer.make_room(profile.as_ref());
    let on_host = !models.base().blueprint().on_device();

    let mut session = models.session()?;
    session.cancel_with(interrupt::flag());
    if measured || args.output.json {
        session.watch_cores();
    }
    if files.any() {
        session.record();
    }
    let done = session.layers_done();
    let bar = on_host
        .then(|| PromptBar::start(&console, prompt.len(), layers, done))
        .flatten();
    let read = session.read(&prompt).map(drop);
    drop(bar);
    read?;
    let mut dump = Dump::default();
    if args.dump.is_some() {
        keep_caches(&mut session, &targets, &mut dump)?;
    }
    let Fused {
        lead,
        mut generation,
    } = session.answer(prompt, options)?;
    if let Some(Profile::Summaries(_)) = profile {
        say_lead(lead, &streaming, &console);
    }
    let mut logits = Vec::new();
    if args.dump.is_some() {
        generation.keep_logits();
    }
    let ran = tell(
        &mut generation,
        &mut writer,
        profile.as_mut(),
        None,
        &mut |row| {
            logits.extend_from_slice(row);
        },
    );
    let rest = generation.rest();
    let report = generation.report();
    let (lead, vocabulary) = (lead.clone(), generation.model().config().vocab_size);
    let shown = writer.end(&rest, &report);
    if let (Some(profile), true) = (&mut profile, shown.is_ok()) {
        profile.finish(&console);
    }
    let rows = lead.rows(&report);
    let recording = session.take_recording();
    let written = match (&recording, &origin) {
        (Some(recording), Some(origin)) => files.write(
            &RunRecord {
                model: &facts.title,
                name: "c2c",
                origin,
                unit: Unit::Token,
                ended: report.ended.map_or("interrupted", ended),
                tokens: report.tokens.len(),
                recording,
                rows: &rows,
                timing: &report.timing,
                streaming: &streaming,
                peak_memory_bytes: engine::memory::peak_bytes(),
            },
            &console,
        ),
        _ => Ok(()),
    };
    let dumped = match &args.dump {
        Some(path) => {
            dump.add("logits", &[logits.len() / vocabulary, vocabulary], &logits);
            let written = dump.write(path);
            let written = written.map_err(|source| Failure::not_written(path, source));
            written.map(|bytes| {
                console.say(format_args!(
                    "Wrote {} ({})",
                    path.display(),
                    gigabytes(bytes)
                ));
            })
        }
        None => Ok(()),
    };
    shown?;
    if let (Err(_), Err(failure)) = (&ran, &written) {
        // Two things went wrong: the run's is the exit code, and both are told.
        console.failure(failure);
    }
    ran?;
    if let Some(Profile::Summaries(_)) = profile {
        console.print(format_args!("{}\n", report.timing.tree()));
    }
    if args.output.json {
        let json = facts.json(&lead, &report, &writer.text, load_time);
        writer.out.json(&json)?;
    }
    say_times(&lead, &report, &console);
    written?;
    dumped?;
    match report.ended {
        Some(Ended::Interrupted) => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

/// A text goes through the base's chat template, without thinking, as fusers are trained: unless
/// something else was asked for, or there is no template.
fn in_template(input: PromptInput, raw: bool, base: &Blueprint) -> Result<PromptInput, Failure> {
    let PromptInput::Text(text, None) = input else {
        return Ok(input);
    };
    const THINKING: &str = "enable_thinking";
    let names = base.checkpoint.chat_template_names();
    let names = names.map_err(EngineError::from)?;
    let Some(name) = names.first().filter(|_| !raw) else {
        return Ok(PromptInput::Text(text, None));
    };
    let template = base.checkpoint.chat_template(name);
    let template = template.map_err(EngineError::from)?;
    let thinks = template.is_some_and(|template| template.contains(THINKING));
    let chat = ChatInput {
        template_kwargs: thinks.then(|| json!({ THINKING: false }).to_string()),
        ..ChatInput::default()
    };
    Ok(PromptInput::Text(text, Some(chat)))
}

/// The base's layers that are rewritten.
fn targets(blueprint: &C2cBlueprint) -> Vec<usize> {
    let mapped = blueprint.fusers().flat_map(|fuser| fuser.mapped());
    let mut targets: Vec<usize> = mapped.map(|mapped| mapped.target).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn keep_caches(
    session: &mut C2cSession<'_>,
    targets: &[usize],
    dump: &mut Dump,
) -> Result<(), Failure> {
    for &target in targets {
        let kept = session.kept(target)?;
        let shape = [kept.heads, kept.positions, kept.dim];
        dump.add(format!("fuse.{target}.key.out"), &shape, &kept.keys);
        dump.add(format!("fuse.{target}.value.out"), &shape, &kept.values);
    }
    Ok(())
}

fn load(blueprint: C2cBlueprint, measured: bool, console: &Console) -> Result<C2c, Failure> {
    let bar = Bar::new(console, "loading", C2c::bytes_to_load(&blueprint)?);
    let models = C2c::load(blueprint, &mut |bytes| bar.add(bytes))?;
    drop(bar);
    if measured {
        models.base().measure_memory()?;
    }
    let loaded = models.loaded();
    let peak = loaded.peak_bytes;
    let peak = peak.map(|bytes| format!(", peak memory {}", memory(bytes)));
    console.say(format_args!(
        "Loaded {} in {}{}",
        gigabytes(loaded.bytes),
        seconds(loaded.time),
        peak.unwrap_or_default(),
    ));
    if loaded.kept_plain {
        console.say(KEPT_PLAIN);
    }
    Ok(models)
}

/// What is known before anything is loaded.
#[derive(Debug)]
struct Facts {
    title: String,
    base: String,
    teachers: Vec<String>,
    fusers: Vec<String>,
    stacks: Vec<Value>,
}

impl Facts {
    fn of(blueprint: &C2cBlueprint) -> Self {
        let location = |of: &Blueprint| of.checkpoint.location().to_owned();
        let base = location(blueprint.base());
        let teachers: Vec<_> = blueprint.teachers().iter().map(location).collect();
        let stacks = blueprint.stacks().map(|(name, plan)| {
            json!({
                "name": name,
                "resident": plan.resident_count(),
                "streamed": plan.streamed_count(),
            })
        });
        Self {
            title: format!("{base} with {}", teachers.join(" and ")),
            stacks: stacks.collect(),
            fusers: blueprint
                .fusers()
                .map(|fuser| fuser.location().to_owned())
                .collect(),
            base,
            teachers,
        }
    }

    fn json(&self, lead: &Lead, report: &Report, text: &str, load: Duration) -> impl Serialize {
        let totals = &report.totals;
        let pass = |timing: Option<&PassTiming>| timing.map(|it| milliseconds(it.total));
        let teachers: Vec<_> = lead.teachers().map(|it| milliseconds(it.total)).collect();
        json!({
            "base": self.base,
            "teachers": self.teachers,
            "fusers": self.fusers,
            "text": text,
            "tokens": report.tokens,
            "prompt_tokens": report.prompt_tokens,
            "ended": report.ended.map(ended),
            "timing": {
                "load_ms": milliseconds(load),
                "prefill_ms": milliseconds(lead.total()),
                "base_prefill_ms": pass(lead.base()),
                "teacher_prefill_ms": teachers,
                "projection_ms": pass(lead.projection()),
                "projections": lead.projections,
                "time_to_first_token_ms": report.time_to_first_token.map(milliseconds),
                "decode_ms": milliseconds(totals.decode.total),
                "tokens_per_s": totals.tokens_per_s(),
            },
            "stacks": self.stacks,
            "offload": {
                "loads_async": totals.loads_async,
                "loads_sync": totals.loads_sync,
                "async_percent": totals.async_percent(),
                "bytes": totals.bytes,
                "stalled_ms": milliseconds(totals.stalled),
            },
            "peak_memory_bytes": engine::memory::peak_bytes(),
        })
    }
}

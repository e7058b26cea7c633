//! `engine bench --c2c`: the base alone, the teacher alone and both in turns, over prompts of three
//! lengths.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::c2c::{C2c, C2cBlueprint, C2cOptions, C2cRun, Sharer};
use engine::profile::Sample;
use engine::{EngineError, GenerationOptions, Machine, ModelOptions, Source, TrialRun};
use offload::Residency;
use serde_json::json;

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Console, Stdout, Steps, milliseconds, three_digits};
use crate::prompt::ids;

/// Of the prompts.
const LENGTHS: [usize; 3] = [16, 128, 1024];

/// One after the other in a round.
const SIDES: [&str; 3] = ["base alone", "teacher alone", "both"];

/// What rounds came to, for prompts of one length.
#[derive(Debug, Default)]
struct Row {
    tokens: usize,
    /// Of each side, to the first token.
    first_ms: [Sample; 3],
    tokens_per_s: [Sample; 3],
    /// With both: of the base's pass, the teacher's, and the projectors'.
    parts_ms: [Sample; 3],
    projections: usize,
}

/// What to run.
struct Sides {
    base: Source,
    teacher: Source,
    sharer: Sharer,
    options: C2cOptions,
}

pub fn run(
    args: &BenchArgs,
    [base, teacher, fuser]: [&Path; 3],
    console: &Console,
) -> Result<(), Failure> {
    let residency = |typed: Option<crate::args::Layers>| typed.map_or(Residency::Auto, |it| it.0);
    let base = Source::Directory(base.into());
    let teacher = Source::Directory(teacher.into());
    let sides = Sides {
        sharer: Sharer {
            teacher: teacher.clone(),
            fuser: fuser.into(),
        },
        options: C2cOptions {
            base: args.setup.options(),
            teacher: residency(args.teacher_gpu_layers),
            projectors: residency(args.projector_gpu_layers),
            ..C2cOptions::default()
        },
        base,
        teacher,
    };
    // Whether it can run at all shows before anything is measured.
    let blueprint = sides.blueprint()?;
    let (context, vocabulary) = (blueprint.base().context, blueprint.base().config.vocab_size);
    drop(blueprint);
    let fits = |&length: &usize| length + args.tokens() <= context;
    let mut rows: Vec<Row> = LENGTHS
        .into_iter()
        .filter(fits)
        .map(|tokens| Row {
            tokens,
            ..Row::default()
        })
        .collect();
    if rows.is_empty() {
        let prompt = LENGTHS[0] + args.tokens();
        return Err(EngineError::PromptTooLong { prompt, context }.into());
    }
    let cancel = interrupt::flag();
    let measured = measure(args, &sides, vocabulary, &mut rows, (&cancel, console));
    rows.retain(|row| row.first_ms.iter().all(|sample| !sample.is_empty()));
    if rows.is_empty() {
        return measured;
    }
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&json!({
            "machine": Machine::here().to_string(),
            "tokens": args.tokens(),
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "interrupted": measured.is_err(),
        }))?,
        false => out.show(text(args, &rows))?,
    }
    measured
}

fn measure(
    args: &BenchArgs,
    sides: &Sides,
    vocabulary: usize,
    rows: &mut [Row],
    (cancel, console): (&Arc<AtomicBool>, &Console),
) -> Result<(), Failure> {
    let rounds = args.warmup + args.repeats;
    let steps = Steps::new(console, rounds * SIDES.len());
    for round in 0..rounds {
        let mut told: Vec<[(f64, Option<f64>); 3]> = vec![Default::default(); rows.len()];
        let mut parts = vec![([0.0; 3], 0); rows.len()];
        let generation = GenerationOptions {
            max_new_tokens: args.tokens(),
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        for (side, name) in SIDES.into_iter().enumerate() {
            steps.next(match round.checked_sub(args.warmup) {
                None => format!("warm-up {}, {name}", round + 1),
                Some(round) => format!("round {} of {}, {name}", round + 1, args.repeats),
            });
            let prompt = |row: &Row| ids(row.tokens, vocabulary);
            match side {
                0 | 1 => {
                    let (source, options) = sides.alone(side);
                    let (mut model, peak) = engine::open_measured(source, options)?;
                    for (row, told) in rows.iter().zip(&mut told) {
                        let options = generation.clone();
                        let run =
                            TrialRun::measure(&mut model, peak, prompt(row), options, cancel)?;
                        let first = run.timing.time_to_first_token_ms;
                        told[side] = (first.unwrap_or(f64::NAN), run.timing.tokens_per_s);
                    }
                }
                _ => {
                    let mut models = C2c::load(sides.blueprint()?, &mut |_| {})?;
                    for ((row, told), parts) in rows.iter().zip(&mut told).zip(&mut parts) {
                        let run =
                            C2cRun::measure(&mut models, prompt(row), generation.clone(), cancel)?;
                        let first = run.report.time_to_first_token.map(milliseconds);
                        let rate = run.report.totals.tokens_per_s();
                        told[side] = (first.unwrap_or(f64::NAN), rate);
                        *parts = (run.parts().map(milliseconds), run.lead.projections);
                    }
                }
            }
        }
        if round < args.warmup {
            continue;
        }
        // A round counts when it is whole.
        for ((row, told), (parts, projections)) in rows.iter_mut().zip(told).zip(parts) {
            for (side, (first, rate)) in told.into_iter().enumerate() {
                row.first_ms[side].push(first);
                row.tokens_per_s[side].push(rate.unwrap_or(f64::NAN));
                row.parts_ms[side].push(parts[side]);
            }
            row.projections = projections;
        }
    }
    Ok(())
}

impl Sides {
    fn blueprint(&self) -> Result<C2cBlueprint, EngineError> {
        let sharers = std::slice::from_ref(&self.sharer);
        C2cBlueprint::new(&self.base, sharers, self.options.clone())
    }

    /// The base by itself, or the teacher.
    fn alone(&self, side: usize) -> (&Source, ModelOptions) {
        let base = self.options.base.clone();
        match side {
            0 => (&self.base, base),
            _ => (
                &self.teacher,
                ModelOptions {
                    residency: self.options.teacher,
                    ..base
                },
            ),
        }
    }
}

impl Row {
    /// Both with the fuser over the base alone, round by round.
    fn decode_ratio(&self) -> Sample {
        self.tokens_per_s[2].over(&self.tokens_per_s[0])
    }

    fn json(&self) -> serde_json::Value {
        let medians = |samples: &[Sample; 3]| samples.each_ref().map(Sample::median);
        let [base, teacher, both] = medians(&self.first_ms);
        let [base_rate, teacher_rate, both_rate] = medians(&self.tokens_per_s);
        let [own, teachers, projection] = medians(&self.parts_ms);
        json!({
            "prompt_tokens": self.tokens,
            "base_alone": { "time_to_first_token_ms": base, "tokens_per_s": base_rate },
            "teacher_alone": { "time_to_first_token_ms": teacher, "tokens_per_s": teacher_rate },
            "both": { "time_to_first_token_ms": both, "tokens_per_s": both_rate },
            "parts_ms": { "base": own, "teacher": teachers, "projection": projection },
            "projections": self.projections,
            "decode_of_base_alone": self.decode_ratio().values(),
        })
    }
}

fn text(args: &BenchArgs, rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, args, rows);
    text
}

fn write(to: &mut String, args: &BenchArgs, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        to,
        "{}; {} tokens after each prompt, medians of {} rounds after {} to warm up",
        Machine::here(),
        args.tokens(),
        rows.first().map_or(0, |row| row.first_ms[0].len()),
        args.warmup
    )?;
    writeln!(
        to,
        "\n{:>6}  {:>22}  {:>22}  {:>22}\n{:>6}  {}\n----",
        "Prompt",
        SIDES[0],
        SIDES[1],
        SIDES[2],
        "tokens",
        vec![format!("{:>11}  {:>9}", "first (ms)", "tok/s"); 3].join("  ")
    )?;
    for row in rows {
        write!(to, "{:>6}", row.tokens)?;
        for (first, rate) in row.first_ms.iter().zip(&row.tokens_per_s) {
            let (first, rate) = (first.median(), rate.median());
            write!(to, "  {first:>11.1}  {:>9}", three_digits(rate))?;
        }
        writeln!(to)?;
    }
    writeln!(to, "\nThe first token of both, in its parts (ms):")?;
    for row in rows {
        let [base, teacher, projection] = row.parts_ms.each_ref().map(Sample::median);
        let rest = row.first_ms[2].median() - base - teacher - projection;
        let each = projection / row.projections.max(1) as f64;
        writeln!(
            to,
            "{:>6}  base {base:.1} + teacher {teacher:.1} + projection {projection:.1} ({each:.2} \
             each of {}) + the last token {rest:.1}",
            row.tokens, row.projections
        )?;
    }
    writeln!(
        to,
        "\nTokens/s of both over the base alone, round by round:"
    )?;
    for row in rows {
        let ratio = row.decode_ratio();
        let told = match ratio.is_noise() {
            true => "; the difference is noise",
            false => "",
        };
        let (least, median, most) = (ratio.least(), ratio.median(), ratio.most());
        writeln!(
            to,
            "{:>6}  {median:.3} ({least:.3} to {most:.3}){told}",
            row.tokens
        )?;
    }
    Ok(())
}

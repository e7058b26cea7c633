//! `engine bench --speech`: texts, spoken several times each.

use std::fmt::Write;
use std::path::Path;

use engine::profile::{Sample, Stage, StageTimes};
use engine::speech::{AnyBlueprint, Limits, Saying, SpokenRun};
use engine::{EngineError, Machine};
use serde_json::{Value, json};

use super::prompts;
use crate::args::BenchArgs;
use crate::commands::speak::saying;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Console, Stdout, Steps, milliseconds, three_digits};

/// A text, and what speaking it took.
struct Row {
    label: String,
    words: usize,
    saying: Saying,
    runs: Vec<SpokenRun>,
}

pub fn run(args: &BenchArgs, file: &Path, console: &Console) -> Result<(), Failure> {
    let texts = prompts::texts(file)?;
    let path = args.setup.path()?;
    // Whether it can run at all shows before anything is measured.
    let system = open(args, &path)?;
    let mut rows = Vec::new();
    for (label, text) in texts {
        let mut saying = saying::of_text(&text, &args.saying, &system)?;
        if let Some(tokens) = args.tokens {
            saying.limits = Limits {
                max_new_tokens: tokens,
                only_frames: true,
                expected_s: None,
                ..saying.limits
            };
        }
        rows.push(Row {
            label,
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
            let mut text = String::new();
            // Writing into a string cannot fail.
            let _ = write(&mut text, &rows);
            out.show(text)?;
        }
    }
    measured
}

fn open(args: &BenchArgs, path: &Path) -> Result<AnyBlueprint, EngineError> {
    let tokenizer = args.saying.tokenizer.clone();
    AnyBlueprint::new(path, args.setup.options(), tokenizer, None)
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
        for row in &mut *rows {
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

/// What a run took, in ms.
struct Parts {
    wall: f64,
    prefill: f64,
    generate: f64,
    /// The codec.
    decode: f64,
}

fn parts(run: &SpokenRun) -> Parts {
    let totals = run.run.timing.totals();
    let codec = |stages: &StageTimes| milliseconds(stages[Stage::Codec].wall);
    let (in_prompt, later) = (codec(&totals.prompt.stages), codec(&totals.decode.stages));
    Parts {
        wall: run.run.timing.prefill_ms + run.run.timing.generate_ms,
        prefill: run.run.timing.prefill_ms - in_prompt,
        generate: run.run.timing.generate_ms - later,
        decode: in_prompt + later,
    }
}

/// Time taken over sound made.
fn realtime_factor(run: &SpokenRun) -> f64 {
    parts(run).wall / 1e3 / run.audio_s
}

fn first_s(run: &SpokenRun) -> f64 {
    run.run.timing.time_to_first_token_ms.unwrap_or(f64::NAN) / 1e3
}

/// Of a frame after the first, in a stage.
fn stage_ms(run: &SpokenRun, stage: Stage) -> f64 {
    let totals = run.run.timing.totals();
    let wall = totals.decode.stages[stage].wall;
    milliseconds(wall) / run.frames.saturating_sub(1).max(1) as f64
}

/// Of what a token reads, over how fast memory can be read.
fn memory_share(run: &SpokenRun) -> Option<f64> {
    let limit = run.run.streaming.memory.as_ref()?;
    Some(limit.utilisation(&run.run.decode)?.share)
}

impl Row {
    fn sample(&self, of: impl Fn(&SpokenRun) -> f64) -> Sample {
        self.runs.iter().map(of).collect()
    }

    fn json(&self) -> Value {
        let values = |of: &dyn Fn(&SpokenRun) -> f64| self.sample(of).values().to_vec();
        let stages = Stage::OF_SPEECH.map(|stage| {
            let ms = values(&|run| stage_ms(run, stage));
            (format!("{}_ms_per_frame", stage.name()), json!(ms))
        });
        json!({
            "label": self.label,
            "words": self.words,
            "frames": self.runs.iter().map(|run| run.frames).collect::<Vec<_>>(),
            "audio_s": values(&|run| run.audio_s),
            "realtime_factor": values(&realtime_factor),
            "wall_ms": values(&|run| parts(run).wall),
            "prefill_ms": values(&|run| parts(run).prefill),
            "generate_ms": values(&|run| parts(run).generate),
            "decode_ms": values(&|run| parts(run).decode),
            "first_audio_s": values(&first_s),
            "hearing_s": values(&|run| run.hearing.as_secs_f64()),
            "tokens_per_s": values(&|run| run.run.tokens_per_s().unwrap_or(f64::NAN)),
            "stages": serde_json::Map::from_iter(stages),
            "share_of_memory": values(&|run| memory_share(run).unwrap_or(f64::NAN)),
            "memory_bytes": self.runs.iter().filter_map(|run| run.run.memory_bytes).max(),
        })
    }
}

fn write(to: &mut String, rows: &[Row]) -> std::fmt::Result {
    let rounds = rows.first().map_or(0, |row| row.runs.len());
    writeln!(to, "{}; medians of {rounds} rounds", Machine::here())?;
    writeln!(
        to,
        "\n{:<9} {:>5} {:>10} {:>10} {:>8} {:>8} {:>9} {:>10} {:>10} {:>10}\n----",
        "Label",
        "Words",
        "Wall (ms)",
        "Audio (s)",
        "RTF",
        "Tok/s",
        "Mem (MB)",
        "Prefill",
        "Generate",
        "Decode"
    )?;
    for row in rows {
        let median = |of: &dyn Fn(&SpokenRun) -> f64| row.sample(of).median();
        let wall = median(&|run| parts(run).wall);
        let part = |of: &dyn Fn(&SpokenRun) -> f64| {
            let ms = median(of);
            format!("{ms:.0}ms ({:.0}%)", 100.0 * ms / wall)
        };
        let held = row.runs.iter().filter_map(|run| run.run.memory_bytes).max();
        writeln!(
            to,
            "{:<9} {:>5} {wall:>10.1} {:>10.2} {:>8.3} {:>8} {:>9} {:>11} {:>12} {:>10}",
            row.label,
            row.words,
            median(&|run| run.audio_s),
            median(&realtime_factor),
            three_digits(median(&|run| run.run.tokens_per_s().unwrap_or(f64::NAN))),
            held.map_or("-".into(), |bytes| format!("{:.0}", bytes as f64 / 1e6)),
            part(&|run| parts(run).prefill),
            part(&|run| parts(run).generate),
            part(&|run| parts(run).decode),
        )?;
    }
    writeln!(to)?;
    for row in rows {
        let median = |of: &dyn Fn(&SpokenRun) -> f64| row.sample(of).median();
        let token = median(&|run| 1e3 / run.run.tokens_per_s().unwrap_or(f64::NAN));
        let beside: Vec<_> = (Stage::OF_SPEECH.iter())
            .map(|stage| (stage.name(), median(&|run| stage_ms(run, *stage))))
            .filter(|(_, ms)| *ms > 0.0)
            .collect();
        let told: Vec<_> = beside
            .iter()
            .map(|(name, ms)| format!("{name} {ms:.1}"))
            .collect();
        let rest = token - beside.iter().map(|(_, ms)| ms).sum::<f64>();
        writeln!(
            to,
            "Frame, {}: {token:.1} ms = transformer {rest:.1}, {} | first audio after {:.3} s \
             (std dev {:.3})",
            row.label,
            told.join(", "),
            median(&first_s),
            row.sample(first_s).std_dev()
        )?;
        let shares: Sample = row.runs.iter().filter_map(memory_share).collect();
        if !shares.is_empty() {
            writeln!(
                to,
                "Memory, {}: what a frame reads, read at {:.0}% of what this memory gives ({:.0} to \
                 {:.0}%)",
                row.label,
                100.0 * shares.median(),
                100.0 * shares.least(),
                100.0 * shares.most()
            )?;
        }
    }
    aggregate(to, rows)
}

/// Over all runs of all texts.
fn aggregate(to: &mut String, rows: &[Row]) -> std::fmt::Result {
    let all = |of: fn(&SpokenRun) -> f64| -> Sample {
        rows.iter().flat_map(|row| &row.runs).map(of).collect()
    };
    let (first, factors) = (all(first_s), all(realtime_factor));
    writeln!(
        to,
        "\nAGGREGATE PERFORMANCE METRICS:\n   \
         Average time to first byte: {:.3}s\n   \
         Average realtime factor: {:.3}\n   \
         Average generation time: {:.3}s\n   \
         Average audio processing time: {:.3}s\n   \
         TTFB std dev: {:.3}s\n   \
         Realtime factor std dev: {:.3}",
        first.mean(),
        factors.mean(),
        all(|run| parts(run).wall / 1e3).mean(),
        all(|run| run.hearing.as_secs_f64()).mean(),
        first.std_dev(),
        factors.std_dev()
    )
}

//! What speaking texts took: as a table, and as JSON.

use std::fmt::Write;
use std::time::Duration;

use engine::Machine;
use engine::profile::{Sample, Stage, StageTimes};
use engine::speech::{Saying, SpokenRun};
use serde_json::{Value, json};

use crate::output::{milliseconds, three_digits};

/// A text, and what speaking it took.
pub struct Row {
    pub label: String,
    pub words: usize,
    pub saying: Saying,
    pub runs: Vec<SpokenRun>,
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

/// Of the first sound: what reading the prompt took, and what making a frame of it did, in s.
fn first_parts_s(run: &SpokenRun) -> (f64, f64) {
    let prompt = run.run.timing.totals().prompt;
    let stages = Stage::OF_SPEECH
        .iter()
        .map(|stage| prompt.stages[*stage].wall);
    let frame: Duration = stages.sum();
    let read = prompt.total.saturating_sub(frame);
    (read.as_secs_f64(), frame.as_secs_f64())
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

/// What a frame after the first takes, and, where layers stream, what the predictor says of it.
fn frame_ms(run: &SpokenRun) -> f64 {
    1e3 / run.run.tokens_per_s().unwrap_or(f64::NAN)
}

fn predicted_ms(run: &SpokenRun, slots: usize) -> Option<f64> {
    let predicted = run.run.streaming.predicted(&run.run.decode, slots)?;
    Some(predicted.token_ms)
}

impl Row {
    /// How it is called: with the scale that it was spoken with, where one was given.
    fn name(&self) -> String {
        match self.saying.guidance {
            Some(scale) => format!("{}@{scale}", self.label),
            None => self.label.clone(),
        }
    }

    fn sample(&self, of: impl Fn(&SpokenRun) -> f64) -> Sample {
        self.runs.iter().map(of).collect()
    }

    pub fn json(&self) -> Value {
        let values = |of: &dyn Fn(&SpokenRun) -> f64| self.sample(of).values().to_vec();
        let stages = Stage::OF_SPEECH.map(|stage| {
            let ms = values(&|run| stage_ms(run, stage));
            (format!("{}_ms_per_frame", stage.name()), json!(ms))
        });
        json!({
            "label": self.label,
            "cfg_scale": self.saying.guidance,
            "words": self.words,
            "frames": self.runs.iter().map(|run| run.frames).collect::<Vec<_>>(),
            "audio_s": values(&|run| run.audio_s),
            "realtime_factor": values(&realtime_factor),
            "wall_ms": values(&|run| parts(run).wall),
            "prefill_ms": values(&|run| parts(run).prefill),
            "generate_ms": values(&|run| parts(run).generate),
            "decode_ms": values(&|run| parts(run).decode),
            "first_audio_s": values(&first_s),
            "first_prompt_s": values(&|run| first_parts_s(run).0),
            "first_frame_s": values(&|run| first_parts_s(run).1),
            "hearing_s": values(&|run| run.hearing.as_secs_f64()),
            "tokens_per_s": values(&|run| run.run.tokens_per_s().unwrap_or(f64::NAN)),
            "stages": serde_json::Map::from_iter(stages),
            "predicted_ms_per_frame": values(&|run| {
                let slots = run.run.streaming.plan.slots();
                predicted_ms(run, slots).unwrap_or(f64::NAN)
            }),
            "share_of_memory": values(&|run| memory_share(run).unwrap_or(f64::NAN)),
            "memory_bytes": self.runs.iter().filter_map(|run| run.run.memory_bytes).max(),
        })
    }
}

/// As text.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, rows);
    text
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
            row.name(),
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
        let (name, token) = (row.name(), median(&frame_ms));
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
            "Frame, {name}: {token:.1} ms = transformer {rest:.1}, {} | first audio after {:.3} s \
             (std dev {:.3}) = prompt {:.3}, frame {:.3}",
            told.join(", "),
            median(&first_s),
            row.sample(first_s).std_dev(),
            median(&|run| first_parts_s(run).0),
            median(&|run| first_parts_s(run).1)
        )?;
        let shares: Sample = row.runs.iter().filter_map(memory_share).collect();
        if !shares.is_empty() {
            writeln!(
                to,
                "Memory, {name}: what a frame reads, read at {:.0}% of what this memory gives ({:.0} \
                 to {:.0}%)",
                100.0 * shares.median(),
                100.0 * shares.least(),
                100.0 * shares.most()
            )?;
        }
        predicted(to, row)?;
    }
    compared(to, rows)?;
    aggregate(to, rows)
}

/// What the predictor says of a frame through these slots, and through one more.
fn predicted(to: &mut String, row: &Row) -> std::fmt::Result {
    let Some(slots) = row.runs.first().map(|run| run.run.streaming.plan.slots()) else {
        return Ok(());
    };
    let of = |slots| -> Sample {
        let all = row.runs.iter();
        all.filter_map(|run| predicted_ms(run, slots)).collect()
    };
    let (here, more) = (of(slots), of(slots + 1));
    if here.is_empty() {
        return Ok(());
    }
    let off: Sample = (row.runs.iter().zip(here.values()))
        .map(|(run, predicted)| 100.0 * (frame_ms(run) / predicted - 1.0))
        .collect();
    writeln!(
        to,
        "Predictor, {}: {:.1} ms a frame through {slots} slots, {:+.1}% came ({:+.1} to {:+.1}%); {:.1} ms \
         through one more",
        row.name(),
        here.median(),
        off.median(),
        off.least(),
        off.most(),
        more.median()
    )
}

/// Frames of a text under several scales: each beside the first, round by round.
fn compared(to: &mut String, rows: &[Row]) -> std::fmt::Result {
    for of_text in rows.chunk_by(|a, b| a.label == b.label) {
        let Some((first, others)) = of_text.split_first() else {
            continue;
        };
        for other in others {
            let ratios: Sample = (first.runs.iter().zip(&other.runs))
                .map(|(first, other)| frame_ms(other) / frame_ms(first))
                .collect();
            writeln!(
                to,
                "Scales, {} over {}: a frame takes {:.3} times as long ({:.3} to {:.3})",
                other.name(),
                first.name(),
                ratios.median(),
                ratios.least(),
                ratios.most()
            )?;
        }
    }
    Ok(())
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

//! What is said of a run when it is over, as a line and as JSON.

use std::time::Duration;

use engine::Model;
use engine::profile::Stage;
use engine::speech::{Ending, Runaway, SpeechReport};
use serde_json::{Value, json};

use crate::args::SpeakArgs;
use crate::output::{memory, milliseconds, seconds, three_digits, tokens};

/// What a run came to beside its report.
#[derive(Debug)]
pub struct Made {
    /// Seconds of sound that this run made.
    pub audio: f64,
    pub took: Duration,
    pub load: Duration,
    pub clipped: u64,
    /// How each part ended.
    pub endings: Vec<Ending>,
    pub parts: usize,
}

impl Made {
    pub fn ending(&self) -> Option<Ending> {
        self.endings.last().copied()
    }

    pub fn realtime_factor(&self) -> Option<f64> {
        (self.audio > 0.0).then(|| self.took.as_secs_f64() / self.audio)
    }
}

/// What a frame's stages take, in ms.
fn per_frame(report: &SpeechReport) -> Vec<(&'static str, f64)> {
    let both = [&report.totals.prompt.stages, &report.totals.decode.stages];
    let frames = report.frames.max(1) as f64;
    let all = Stage::OF_SPEECH.into_iter().map(|stage| {
        let wall: Duration = both.iter().map(|stages| stages[stage].wall).sum();
        (stage.name(), milliseconds(wall) / frames)
    });
    all.filter(|(_, ms)| *ms > 0.0).collect()
}

pub fn line(report: &SpeechReport, made: &Made) -> String {
    let mut parts = vec![format!(
        "{:.2} s of sound in {} frames",
        made.audio, report.frames
    )];
    parts
        .extend((made.realtime_factor()).map(|it| format!("realtime factor {}", three_digits(it))));
    let seconds_of_decode = report.totals.decode.total.as_secs_f64();
    if seconds_of_decode > 0.0 {
        let rate = report.frames as f64 / seconds_of_decode;
        parts.push(format!("{} frames/s", three_digits(rate)));
    }
    parts.extend(report.totals.tokens_per_s().map(tokens));
    let of_frame: Vec<_> = (per_frame(report).iter())
        .map(|(name, ms)| format!("{name} {ms:.1}"))
        .collect();
    if !of_frame.is_empty() {
        parts.push(format!("ms a frame: {}", of_frame.join(", ")));
    }
    parts.extend((report.first_audio).map(|it| format!("first sound after {}", seconds(it))));
    parts.push(match report.totals.async_percent() {
        Some(percent) => format!("async usage {percent}%"),
        None => "nothing streamed".into(),
    });
    if made.clipped > 0 {
        parts.push(format!(
            "{} samples were too loud and are cut off",
            made.clipped
        ));
    }
    let peak = engine::memory::peak_bytes();
    parts.extend(peak.map(|bytes| format!("peak memory {}", memory(bytes))));
    if made.parts > 1 {
        parts.push(format!("{} of {} parts", made.endings.len(), made.parts));
    }
    parts.extend((made.ending()).map(|it| format!("ended: {}", ending(it).replace('_', " "))));
    parts.join(", ")
}

pub fn json_of(args: &SpeakArgs, model: &Model, report: &SpeechReport, made: &Made) -> Value {
    let plan = &model.blueprint().plan;
    let stages: serde_json::Map<String, Value> = (per_frame(report).into_iter())
        .map(|(name, ms)| (format!("{name}_ms_per_frame"), ms.into()))
        .collect();
    json!({
        "model": args.model.display().to_string(),
        "out": args.sound.out.as_ref().map(|path| path.display().to_string()),
        "tokens": report.tokens,
        "frames": report.frames,
        "audio_s": made.audio,
        "realtime_factor": made.realtime_factor(),
        "ended": made.ending().map(ending),
        "parts": made.parts,
        "parts_ended": made.endings.iter().copied().map(ending).collect::<Vec<_>>(),
        "samples_cut_off": made.clipped,
        "timing": {
            "load_ms": milliseconds(made.load),
            "prefill_ms": milliseconds(report.totals.prompt.total),
            "first_audio_ms": report.first_audio.map(milliseconds),
            "decode_ms": milliseconds(report.totals.decode.total),
            "tokens_per_s": report.totals.tokens_per_s(),
            "stages": stages,
        },
        "plan": {
            "resident": plan.resident_count(),
            "streamed": plan.streamed_count(),
            "slots": plan.slots(),
            "peak_bytes": model.blueprint().peak_bytes(),
        },
        "offload": {
            "loads_async": report.totals.loads_async,
            "loads_sync": report.totals.loads_sync,
            "async_percent": report.totals.async_percent(),
            "bytes": report.totals.bytes,
            "stalled_ms": milliseconds(report.totals.stalled),
        },
        "peak_memory_bytes": engine::memory::peak_bytes(),
    })
}

pub fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::EndOfText => "end_of_text",
        Ending::MaxNewTokens => "max_new_tokens",
        Ending::ContextFull => "context_full",
        Ending::Runaway(Runaway::NoEnd) => "runaway_no_end",
        Ending::Runaway(Runaway::Silence) => "runaway_silence",
        Ending::Runaway(Runaway::Loop) => "runaway_loop",
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
    }
}

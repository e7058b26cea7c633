//! `report.html`: one page with everything in it, data as JSON inside. The page draws; what it
//! draws is decided here.
//!
//! Times are whole ticks of 100 ns since the recording's origin, column by column and as
//! differences where they grow: a run of two thousand tokens stays a page of a few megabytes.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use offload::{LoadKind, LoadRecord};
use serde::Serialize;

use super::super::recording::{MEASURING, Recording, SpanName};
use super::super::stage::Stage;
use super::super::summary::Summary;
use super::super::window::{Window, ms};
use super::RunRecord;
use super::flamegraph::escaped;
use super::stats::Stats;

const PAGE: &str = include_str!("page/report.html");
const STYLE: &str = include_str!("page/report.css");
const SCRIPT: [&str; 6] = [
    include_str!("page/data.js"),
    include_str!("page/canvas.js"),
    include_str!("page/timeline.js"),
    include_str!("page/heat.js"),
    include_str!("page/chart.js"),
    include_str!("page/report.js"),
];

/// Passes of the summary that the page ends with: as many as `--profile` puts into one.
const SUMMARY_STEPS: usize = 10;

/// Writes the page.
pub fn write_html(run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    let data = serde_json::to_string(&Page::of(run))?;
    let mut rest = PAGE;
    // In the page's order, and what was put in is not looked at again.
    for (mark, text) in [
        ("{{title}}", escaped(run.name)),
        ("{{style}}", STYLE.to_owned()),
        ("{{data}}", in_script(&data)),
        ("{{script}}", SCRIPT.concat()),
    ] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        to.write_all(before.as_bytes())?;
        to.write_all(text.as_bytes())?;
        rest = after;
    }
    to.write_all(rest.as_bytes())
}

/// JSON that cannot end the script element it stands in: `<` occurs in strings alone.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[derive(Serialize)]
struct Page<'a> {
    stats: Stats<'a>,
    emulated: bool,
    left_out: Option<String>,
    token: Option<Token>,
    stages: Vec<StageRow>,
    summary: Option<String>,
    startup: Vec<(&'static str, i64, i64)>,
    steps: Steps,
    computes: Computes,
    loads: Loads,
}

/// Means over the recorded passes, the prompt's apart where there are others.
#[derive(Serialize)]
struct Token {
    total_ms: f64,
    compute_ms: f64,
    stalled_ms: f64,
    other_ms: f64,
    floor_ms: f64,
    /// Weights of the layers that one pass reads.
    layer_bytes: u64,
}

#[derive(Serialize)]
struct StageRow {
    name: &'static str,
    depth: usize,
    wall_ms: f64,
    device_ms: Option<f64>,
    count: u64,
    share: f64,
}

#[derive(Default, Serialize)]
struct Steps {
    from: Vec<i64>,
    took: Vec<i64>,
    rows: Vec<usize>,
    units: Vec<usize>,
    memory_kib: Vec<Option<u64>>,
    /// What a step does outside its layers: stage, ticks since its beginning, ticks it took.
    outside: Vec<Vec<(&'static str, i64, i64)>>,
}

#[derive(Default, Serialize)]
struct Computes {
    layer: Vec<u16>,
    step: Vec<usize>,
    from: Vec<i64>,
    took: Vec<i64>,
}

#[derive(Default, Serialize)]
struct Loads {
    layer: Vec<u16>,
    step: Vec<usize>,
    slot: Vec<u16>,
    sync: Vec<u8>,
    kib: Vec<u64>,
    /// Differences to the load before.
    copy_from: Vec<i64>,
    /// How long before the copy it was ordered.
    queued: Vec<i64>,
    copy: Vec<i64>,
    /// From the end of the copy to the visit's asking; less than 0 when the visit waited.
    ahead: Vec<i64>,
    pre: Vec<i64>,
    visit: Vec<i64>,
}

impl<'a> Page<'a> {
    fn of(run: &RunRecord<'a>) -> Self {
        let origin = run.recording.origin().unwrap_or_else(Instant::now);
        let ticks = Ticks { origin };
        Self {
            stats: Stats::of(run),
            emulated: run.emulated_gbps().is_some(),
            left_out: run.left_out(),
            token: token(run),
            stages: stages(run),
            summary: summary(run),
            startup: (run.recording.startup.iter())
                .filter_map(|span| match span.name {
                    SpanName::Stage(stage) => {
                        Some((stage.name(), ticks.at(span.from), took(span.from, span.to)))
                    }
                    SpanName::Measuring => {
                        Some((MEASURING, ticks.at(span.from), took(span.from, span.to)))
                    }
                    SpanName::Layer(_) => None,
                })
                .collect(),
            steps: Steps::of(run.recording, ticks),
            computes: Computes::of(run.recording, ticks),
            loads: Loads::of(run.recording, ticks),
        }
    }
}

fn token(run: &RunRecord<'_>) -> Option<Token> {
    let window = run.window();
    let means = window.means();
    let plan = &run.streaming.plan;
    (!window.is_empty()).then(|| Token {
        total_ms: means.token_ms(),
        compute_ms: means.compute_ms(),
        stalled_ms: means.stalled_ms(),
        other_ms: means.other_ms(),
        floor_ms: run.streaming.limit(means).floor_ms,
        layer_bytes: plan.resident_bytes()
            + plan.streamed().map(|it| plan.cost(it).slab).sum::<u64>(),
    })
}

fn stages(run: &RunRecord<'_>) -> Vec<StageRow> {
    let tree = run.timing.tree();
    let rows = tree.walk().into_iter().map(|(depth, node)| StageRow {
        name: node.stage.name(),
        depth,
        wall_ms: ms(node.time.wall),
        device_ms: node.time.device.map(ms),
        count: node.time.count,
        share: node.share,
    });
    rows.collect()
}

/// The offload summary as `--profile` would have ended with it.
fn summary(run: &RunRecord<'_>) -> Option<String> {
    let steps = run.recording.steps.len();
    let last = steps.checked_sub(1)? / SUMMARY_STEPS * SUMMARY_STEPS;
    let mut window = Window::default();
    run.fold(&mut window, 0..last);
    window.clear();
    run.fold(&mut window, last..steps);
    let summary = Summary {
        token: steps,
        window: &window,
        streaming: run.streaming,
    };
    Some(summary.to_string().trim_end().to_owned())
}

#[derive(Clone, Copy)]
struct Ticks {
    origin: Instant,
}

impl Ticks {
    fn at(self, when: Instant) -> i64 {
        took(self.origin, when)
    }
}

/// Ticks from one to the other; less than 0 when the other was first.
fn took(from: Instant, to: Instant) -> i64 {
    let ticks = |time: Duration| i64::try_from(time.as_nanos() / 100).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(time) => ticks(time),
        None => -ticks(from.duration_since(to)),
    }
}

/// What is added to the one before.
fn difference(last: &mut i64, now: i64) -> i64 {
    now - std::mem::replace(last, now)
}

impl Steps {
    fn of(recording: &Recording, ticks: Ticks) -> Self {
        let (mut steps, mut last) = (Self::default(), 0);
        for step in &recording.steps {
            let outside = step.spans.iter().filter_map(|span| match span.name {
                SpanName::Stage(
                    stage @ (Stage::Embed | Stage::Head | Stage::Sampling | Stage::Decode),
                ) => Some((
                    stage.name(),
                    took(step.from, span.from),
                    took(span.from, span.to),
                )),
                _ => None,
            });
            steps.outside.push(outside.collect());
            steps.from.push(difference(&mut last, ticks.at(step.from)));
            steps.took.push(took(step.from, step.to));
            steps.rows.push(step.timing.rows);
            steps.units.push(step.timing.units);
            steps
                .memory_kib
                .push(step.memory_bytes.map(|bytes| bytes / 1024));
        }
        steps
    }
}

impl Computes {
    fn of(recording: &Recording, ticks: Ticks) -> Self {
        let (mut computes, mut last) = (Self::default(), 0);
        for (index, step) in recording.steps.iter().enumerate() {
            for span in &step.spans {
                if let SpanName::Layer(block) = span.name {
                    computes.layer.push(block.layer.0);
                    computes.step.push(index);
                    computes
                        .from
                        .push(difference(&mut last, ticks.at(span.from)));
                    computes.took.push(took(span.from, span.to));
                }
            }
        }
        computes
    }
}

impl Loads {
    fn of(recording: &Recording, ticks: Ticks) -> Self {
        let (mut loads, mut last) = (Self::default(), 0);
        for (index, step) in recording.steps.iter().enumerate() {
            for load in &step.loads {
                loads.push(index, load, difference(&mut last, ticks.at(load.copy_from)));
            }
        }
        loads
    }

    fn push(&mut self, step: usize, load: &LoadRecord, copy_from: i64) {
        self.layer.push(load.block.layer.0);
        self.step.push(step);
        self.slot.push(load.slot);
        self.sync.push(u8::from(load.kind == LoadKind::Sync));
        self.kib.push(load.bytes / 1024);
        self.copy_from.push(copy_from);
        self.queued
            .push(took(load.issued_at, load.copy_from).max(0));
        self.copy.push(took(load.copy_from, load.copy_to));
        self.ahead.push(took(load.copy_to, load.asked_at));
        self.pre.push(took(load.asked_at, load.visit_from()));
        self.visit.push(took(load.visit_from(), load.visit_to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_does_not_end_its_script() {
        let hostile = serde_json::to_string("</script><!--<script>").unwrap();
        let safe = in_script(&hostile);
        assert!(!safe.contains('<'), "{safe}");
        let back: String = serde_json::from_str(&safe).unwrap();
        assert_eq!(back, "</script><!--<script>");
    }

    #[test]
    fn the_page_has_its_marks_once_and_in_order() {
        let places = ["{{title}}", "{{style}}", "{{data}}", "{{script}}"].map(|mark| {
            assert_eq!(PAGE.matches(mark).count(), 1, "{mark}");
            PAGE.find(mark)
        });
        assert!(places.is_sorted());
        assert!(SCRIPT.iter().all(|script| !script.contains("</script")));
    }
}

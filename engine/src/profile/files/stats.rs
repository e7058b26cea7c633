//! `stats.json`: the totals of a run, its plan and its machine, and the operations that took most.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::super::peak::is_too_low;
use super::super::stage::{Stage, StageTime};
use super::super::timing::{StageNode, Timing};
use super::super::utilisation::RunUtilisation;
use super::super::window::ms;
use super::{Origin, RunRecord};

/// Operations in a list.
const TOP: usize = 10;

/// Writes the statistics as one JSON object.
pub fn write_stats(run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, &Stats::of(run))?;
    to.write_all(b"\n")
}

#[derive(Debug, Serialize)]
pub(super) struct Stats<'a> {
    model: &'a str,
    machine: &'a str,
    origin: &'a Origin,
    ended: &'a str,
    prompt_tokens: usize,
    tokens: usize,
    tokens_per_s: Option<f64>,
    time_to_first_token_ms: Option<f64>,
    model_load_ms: f64,
    init_ms: f64,
    prefill_ms: f64,
    generate_ms: f64,
    decode_ms: f64,
    decode_passes: usize,
    /// What these passes gave: tokens.
    decode_units: usize,
    loads: Loads,
    link: Option<Link<'a>>,
    utilisation: RunUtilisation,
    plan: Plan,
    memory: Memory,
    verdict: Option<String>,
    verdict_name: Option<&'static str>,
    steps_recorded: usize,
    steps_left_out: usize,
    top_by_cpu_time: Vec<Operation>,
    top_by_cuda_time: Vec<Operation>,
    /// As those who know a system of several models from elsewhere look for it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    of_system: Option<OfSystem>,
}

#[derive(Debug, Serialize)]
struct OfSystem {
    total_operations: u64,
    top_10_cpu_ops: Vec<Operation>,
    top_10_cuda_ops: Vec<Operation>,
    passes: BTreeMap<&'static str, Pass>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Pass {
    ms: f64,
    count: usize,
}

#[derive(Debug, Serialize)]
struct Loads {
    r#async: u64,
    sync: u64,
    async_percent: Option<u64>,
    bytes: u64,
    stalled_ms: f64,
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    home: &'static str,
    access: &'a str,
    prefetch: bool,
    emulated_gbps: Option<f64>,
    peak_gbps: Option<f64>,
    /// Bytes over the time of the passes after the prompt's, and its share of the peak.
    decode_gbps: Option<f64>,
    share_of_peak: Option<f64>,
    /// The run reached more than the peak that was measured.
    peak_too_low: bool,
    /// While the link was at it.
    copy_gbps: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Plan {
    layers: usize,
    resident: usize,
    streamed: usize,
    streamed_layers: Vec<u16>,
    slots: usize,
    spread: &'static str,
    layer_bytes: u64,
    resident_bytes: u64,
    slot_bytes: u64,
    cache_bytes: u64,
    ends_bytes: u64,
    scratch_bytes: u64,
    packing_bytes: u64,
    total_bytes: u64,
    streamed_bytes_per_token: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    peak_bytes: Option<u64>,
    /// At the end of the recorded pass that held most.
    most_recorded_bytes: Option<u64>,
}

/// One stage without what nests in it, over all its occurrences.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Operation {
    name: &'static str,
    cpu_time_ms: f64,
    cuda_time_ms: Option<f64>,
    count: u64,
}

impl<'a> Stats<'a> {
    pub fn of(run: &RunRecord<'a>) -> Self {
        let timing = run.timing;
        let totals = timing.totals();
        let operations = operations(timing);
        let window = run.window();
        Self {
            model: run.model,
            machine: &run.origin.machine,
            origin: run.origin,
            ended: run.ended,
            prompt_tokens: totals.prompt.rows,
            tokens: run.tokens,
            tokens_per_s: timing.tokens_per_s,
            time_to_first_token_ms: timing.time_to_first_token_ms,
            model_load_ms: timing.model_load_ms,
            init_ms: timing.init_ms,
            prefill_ms: timing.prefill_ms,
            generate_ms: timing.generate_ms,
            decode_ms: ms(totals.decode.total),
            decode_passes: totals.decode_passes,
            decode_units: totals.decode.units,
            loads: Loads {
                r#async: totals.loads_async,
                sync: totals.loads_sync,
                async_percent: totals.async_percent(),
                bytes: totals.bytes,
                stalled_ms: ms(totals.stalled),
            },
            link: run.streams().then(|| link(run)),
            utilisation: run.streaming.utilisation(totals),
            plan: plan(run),
            memory: Memory {
                peak_bytes: run.peak_memory_bytes,
                most_recorded_bytes: (run.recording.steps.iter())
                    .filter_map(|step| step.memory_bytes)
                    .max(),
            },
            verdict: verdict(run),
            verdict_name: (!window.is_empty()).then(|| run.streaming.verdict(&window).name()),
            steps_recorded: run.recording.steps.len(),
            steps_left_out: run.recording.left_out,
            top_by_cpu_time: top(&operations, |operation| Some(operation.cpu_time_ms)),
            top_by_cuda_time: top(&operations, |operation| operation.cuda_time_ms),
            of_system: (!run.rows.is_empty()).then(|| OfSystem {
                total_operations: operations.iter().map(|operation| operation.count).sum(),
                top_10_cpu_ops: top(&operations, |operation| Some(operation.cpu_time_ms)),
                top_10_cuda_ops: top(&operations, |operation| operation.cuda_time_ms),
                passes: (run.rows.iter())
                    .map(|row| {
                        let (ms, count) = (ms(row.time), row.count);
                        (row.name, Pass { ms, count })
                    })
                    .collect(),
            }),
        }
    }
}

fn link<'a>(run: &RunRecord<'a>) -> Link<'a> {
    let streaming = run.streaming;
    let window = run.window();
    let means = window.means();
    let decode_gbps = (means.bytes > 0).then(|| means.bytes_per_pass() / means.token_ms() / 1e6);
    let share_of_peak = decode_gbps
        .zip(streaming.peak_gbps)
        .map(|(now, peak)| now / peak);
    Link {
        home: streaming.link.home.name(),
        access: &streaming.link.access,
        prefetch: streaming.prefetch,
        emulated_gbps: streaming.link.emulated_gbps,
        peak_gbps: streaming.peak_gbps,
        decode_gbps,
        share_of_peak,
        peak_too_low: streaming.link.emulated_gbps.is_none()
            && share_of_peak.is_some_and(is_too_low),
        copy_gbps: means.copy_gbps(),
    }
}

fn plan(run: &RunRecord<'_>) -> Plan {
    let plan = &run.streaming.plan;
    let fixed = plan.fixed();
    Plan {
        layers: plan.layers(),
        resident: plan.resident_count(),
        streamed: plan.streamed_count(),
        streamed_layers: plan.streamed().map(|layer| layer.0).collect(),
        slots: plan.slots(),
        spread: plan.spread().name(),
        layer_bytes: plan.layer_bytes(),
        resident_bytes: plan.resident_bytes(),
        slot_bytes: plan.slot_bytes(),
        cache_bytes: fixed.cache,
        ends_bytes: fixed.ends,
        scratch_bytes: fixed.scratch,
        packing_bytes: plan.packing_bytes(),
        total_bytes: plan.total_bytes(),
        streamed_bytes_per_token: plan.streamed_bytes_per_pass(),
    }
}

/// Of all recorded passes; nothing was recorded, nothing is said.
fn verdict(run: &RunRecord<'_>) -> Option<String> {
    let window = run.window();
    let emulated = match run.emulated_gbps() {
        Some(_) => " (emulated)",
        None => "",
    };
    (!window.is_empty()).then(|| format!("{}{emulated}", run.streaming.verdict(&window)))
}

/// Every stage of the tree less what nests in it, whatever it nests in itself: the list adds up to
/// the run.
fn operations(timing: &Timing) -> Vec<Operation> {
    let tree = timing.tree();
    let mut own = [StageTime::default(); Stage::COUNT];
    for (_, node) in tree.walk() {
        let sum = &mut own[node.stage as usize];
        sum.wall += own_wall(node);
        sum.count += node.time.count;
        if let Some(device) = node.time.device {
            *sum.device.get_or_insert_default() += device;
        }
    }
    let named = Stage::ALL.into_iter().zip(own);
    named
        .filter(|(_, time)| time.count > 0)
        .map(|(stage, time)| Operation {
            name: stage.name(),
            cpu_time_ms: ms(time.wall),
            cuda_time_ms: time.device.map(ms),
            count: time.count,
        })
        .collect()
}

fn own_wall(node: &StageNode) -> Duration {
    let nested = node.children.iter().map(|child| child.time.wall).sum();
    node.time.wall.saturating_sub(nested)
}

/// The largest by `key`; what has none is not in the list.
fn top(operations: &[Operation], key: impl Fn(&Operation) -> Option<f64>) -> Vec<Operation> {
    let mut keyed: Vec<_> = (operations.iter())
        .filter_map(|operation| key(operation).map(|key| (key, operation)))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let largest = keyed.into_iter().take(TOP);
    largest.map(|(_, operation)| operation.clone()).collect()
}

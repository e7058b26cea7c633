//! `trace.json`: the run in Chrome's trace event format, for <https://ui.perfetto.dev>. The stage
//! tree, the compute, the copies and every slot have a lane each; in a lane, events nest or are
//! disjoint.

use std::io::{self, Write};
use std::time::Instant;

use offload::{BlockId, LoadKind, LoadRecord, StackId};
use serde_json::{Value, json};

use super::super::pass::{PassKind, PassTiming};
use super::super::recording::{MEASURING, Span, SpanName};
use super::super::stage::Stage;
use super::super::window::ms;
use super::events::{Event, Trace};
use super::stretch::stretches;
use super::{RunRecord, Unit};

/// Lanes are threads of one process, and shown in this order.
const TOKEN: usize = 1;
const COMPUTE: usize = 2;
const COPIES: usize = 3;
const FIRST_SLOT: usize = 10;
const FIRST_STACK: usize = 1 << 20;

/// Writes the trace.
pub fn write_trace(run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    let origin = run.recording.origin().unwrap_or_else(Instant::now);
    let mut trace = Trace {
        to,
        origin,
        first: true,
    };
    trace.open(&other_data(run))?;
    lanes(run, &mut trace)?;
    stages(run, &mut trace)?;
    computes(run, &mut trace)?;
    copies(run, &mut trace)?;
    slots(run, &mut trace)?;
    counters(run, &mut trace)?;
    trace.close()
}

fn other_data(run: &RunRecord<'_>) -> Value {
    let plan = &run.streaming.plan;
    json!({
        "model": run.model,
        "machine": run.origin.machine,
        "origin": run.origin,
        "ended": run.ended,
        "layers": plan.layers(),
        "streamed_layers": plan.streamed().map(|layer| layer.0).collect::<Vec<_>>(),
        "slots": plan.slots(),
        "prefetch": run.streaming.prefetch,
        "link_peak_gbps": run.streaming.peak_gbps,
        "emulated_gbps": run.emulated_gbps(),
        "steps": run.recording.steps.len(),
        "steps_left_out": run.recording.left_out,
    })
}

fn lanes<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    let emulated = emulated(run);
    let process = format!("engine: {}{emulated}", run.model);
    trace.metadata("process_name", 0, &json!({ "name": process }))?;
    let mut lanes = vec![(TOKEN, "token".to_owned())];
    if run.has_stacks() {
        let name = |stack| match run.streaming.names.name(stack) {
            Some(name) => format!("compute: {name}"),
            None => format!("compute: stack {}", stack.0),
        };
        let stacks = run.stacks().into_iter();
        lanes.extend(stacks.map(|stack| (lane_of(stack), name(stack))));
    } else {
        lanes.push((COMPUTE, "compute".to_owned()));
    }
    if run.streams() {
        lanes.push((COPIES, format!("copy stream{emulated}")));
        let slots = (0..run.slots())
            .map(|slot| (FIRST_SLOT + slot, format!("prefetch slot {slot}{emulated}")));
        lanes.extend(slots);
    }
    for (lane, name) in lanes {
        trace.metadata("thread_name", lane, &json!({ "name": name }))?;
        let sorted = match lane {
            // Where the one lane of compute would be.
            FIRST_STACK.. => COMPUTE,
            lane => lane,
        };
        trace.metadata("thread_sort_index", lane, &json!({ "sort_index": sorted }))?;
    }
    Ok(())
}

/// Each stack's compute has a lane where there are several.
fn lane_of(stack: StackId) -> usize {
    FIRST_STACK + usize::from(stack.0)
}

fn emulated(run: &RunRecord<'_>) -> String {
    match run.emulated_gbps() {
        Some(gbps) => format!(" (emulated link of {gbps} GB/s)"),
        None => String::new(),
    }
}

fn stages<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    let startup = run.recording.startup.iter();
    let mut measuring = startup
        .filter(|span| span.name == SpanName::Measuring)
        .peekable();
    let whole = run.recording.steps.iter();
    let mut whole = (run.unit == Unit::Frame).then(|| whole.clone().next().zip(whole.last()));
    for stretch in stretches(run.recording) {
        if let Some(Some((first, last))) = whole
            && stretch.from >= first.from
        {
            whole = None;
            trace.event(&Event {
                name: "synthesize",
                category: "stage",
                lane: TOKEN,
                from: first.from,
                to: last.to,
                args: json!({}),
            })?;
        }
        // The events of a lane come in the order of their beginnings.
        while let Some(span) = measuring.next_if(|span| span.from <= stretch.from) {
            trace.event(&measured(span))?;
        }
        let step = &run.recording.steps;
        let (name, args) = match stretch.stage {
            Stage::Step => match run.unit {
                Unit::Token => (
                    format!("step {}", stretch.step),
                    json!({ "index": stretch.step }),
                ),
                Unit::Frame => (
                    format!("frame {}", stretch.step),
                    json!({ "frame": stretch.step }),
                ),
            },
            Stage::Prefill => (
                "prefill".into(),
                json!({ "rows": step[stretch.step].timing.rows }),
            ),
            stage => (run.unit.name(stage).to_owned(), json!({})),
        };
        trace.event(&Event {
            name: &name,
            category: "stage",
            lane: TOKEN,
            from: stretch.from,
            to: stretch.to,
            args,
        })?;
    }
    for span in measuring {
        trace.event(&measured(span))?;
    }
    if let (Some(note), Some(last)) = (run.left_out(), run.recording.steps.last()) {
        let at = trace.at(last.to);
        trace.raw(&format!(
            "{{\"name\":\"{note}\",\"ph\":\"i\",\"s\":\"p\",\"ts\":{at},\"pid\":1,\"tid\":{TOKEN}}}"
        ))?;
    }
    Ok(())
}

fn measured(span: &Span) -> Event<'static> {
    Event {
        name: MEASURING,
        category: "stage",
        lane: TOKEN,
        from: span.from,
        to: span.to,
        args: json!({}),
    }
}

fn computes<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    let has_stacks = run.has_stacks();
    for (index, step) in run.recording.steps.iter().enumerate() {
        for span in &step.spans {
            let SpanName::Layer(block) = span.name else {
                continue;
            };
            let layer = block.layer;
            let lane = match has_stacks {
                true => lane_of(block.stack),
                false => COMPUTE,
            };
            let named = run.streaming.names.label(block, has_stacks);
            let load = step.loads.iter().find(|load| load.block == block);
            let streamed = match block.stack == run.streaming.stack {
                true => run.streaming.plan.is_streamed(layer),
                false => load.is_some(),
            };
            if let Some(load) = load.filter(|load| !load.pre.is_zero()) {
                trace.event(&Event {
                    name: &format!("wait {named}"),
                    category: category(run, "wait"),
                    lane,
                    from: load.asked_at,
                    to: load.visit_from(),
                    args: with_stack(
                        has_stacks,
                        block,
                        json!({
                            "layer": layer.0,
                            "step": index,
                            "kind": load.kind.to_string(),
                            "pre_ms": ms(load.pre),
                        }),
                    ),
                })?;
            }
            trace.event(&Event {
                name: &format!("layer {named}"),
                category: "compute",
                lane,
                from: span.from,
                to: span.to,
                args: with_stack(
                    has_stacks,
                    block,
                    json!({
                        "layer": layer.0,
                        "step": index,
                        "streamed": streamed,
                    }),
                ),
            })?;
        }
    }
    Ok(())
}

/// The stack of a block, where there is more than one.
fn with_stack(has_stacks: bool, block: BlockId, mut args: Value) -> Value {
    if has_stacks {
        args["stack"] = block.stack.0.into();
    }
    args
}

/// What is said of a load wherever it shows.
fn load_args(run: &RunRecord<'_>, trace_at: String, load: &LoadRecord, has_stacks: bool) -> Value {
    let seconds = load.copy().as_secs_f64();
    let mut args = json!({
        "layer": load.block.layer.0,
        "slot": load.slot,
        "kind": load.kind.to_string(),
        "bytes": load.bytes,
        "GB/s": (seconds > 0.0).then(|| load.bytes as f64 / seconds / 1e9),
        "copy_from_us": trace_at,
        "copy_ms": ms(load.copy()),
        "pre_ms": ms(load.pre),
    });
    if let Some(gbps) = run.emulated_gbps() {
        args["emulated_gbps"] = gbps.into();
    }
    with_stack(has_stacks, load.block, args)
}

/// Copies share the link, and on a disk link neighbours overlap: an event begins where the one
/// before it ended, and its arguments have the true beginning.
fn copies<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    let mut loads: Vec<&LoadRecord> = run.recording.loads().collect();
    loads.sort_by_key(|load| load.copy_from);
    let (mut busy_to, has_stacks) = (trace.origin, run.has_stacks());
    for load in loads {
        let from = load.copy_from.max(busy_to);
        let to = load.copy_to.max(from);
        busy_to = to;
        let args = load_args(run, trace.at(load.copy_from), load, has_stacks);
        trace.event(&Event {
            name: &format!(
                "layer {}",
                run.streaming.names.label(load.block, has_stacks)
            ),
            category: category(run, "copy"),
            lane: COPIES,
            from,
            to,
            args,
        })?;
    }
    Ok(())
}

fn category<'a>(run: &RunRecord<'_>, plain: &'a str) -> &'a str {
    match (run.emulated_gbps(), plain) {
        (Some(_), "copy") => "copy,emulated",
        (Some(_), "slot") => "slot,emulated",
        (Some(_), "wait") => "wait,emulated",
        _ => plain,
    }
}

/// The four states of a slot. Nothing is clamped here: a copy into a slot that is being read would
/// show as an overlap.
fn slots<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    let copy = match run.streaming.link.home {
        offload::Home::Disk => "read",
        offload::Home::Ram => "copy",
    };
    let has_stacks = run.has_stacks();
    for load in run.recording.loads() {
        let states = [
            ("queued", load.issued_at, load.copy_from),
            (copy, load.copy_from, load.copy_to),
            ("ready", load.copy_to, load.visit_from()),
            ("visit", load.visit_from(), load.visit_to),
        ];
        let args = load_args(run, trace.at(load.copy_from), load, has_stacks);
        for (state, from, to) in states {
            // A late load counts as ordered when it was issued in fact: it was never queued.
            if to <= from && state != copy && state != "visit" {
                continue;
            }
            let sync = match load.kind {
                LoadKind::Sync => " SYNC",
                LoadKind::Async => "",
            };
            trace.event(&Event {
                name: &format!(
                    "{state} {}{sync}",
                    run.streaming.names.label(load.block, has_stacks)
                ),
                category: category(run, "slot"),
                lane: FIRST_SLOT + usize::from(load.slot),
                from,
                to,
                args: args.clone(),
            })?;
        }
    }
    Ok(())
}

fn counters<W: Write>(run: &RunRecord<'_>, trace: &mut Trace<'_, W>) -> io::Result<()> {
    for step in &run.recording.steps {
        if let Some(bytes) = step.memory_bytes {
            let mebibytes = bytes as f64 / f64::from(1 << 20);
            trace.counter("memory", step.to, "MiB", mebibytes)?;
        }
        let PassTiming {
            kind, units, total, ..
        } = step.timing;
        if kind == PassKind::Decode && !total.is_zero() {
            let tokens_per_s = units as f64 / total.as_secs_f64();
            trace.counter("tok/s", step.from, "tok/s", tokens_per_s)?;
        }
    }
    Ok(())
}

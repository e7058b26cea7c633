//! What `c2c` says of its plan, its lead and its times.

use std::time::Duration;

use engine::Report;
use engine::c2c::{C2cBlueprint, Lead};
use engine::profile::{PassTiming, Streaming};
use offload::{LoadKind, Prefetch};

use crate::commands::{preface, report};
use crate::output::{Align, Console, Style, Table, memory, milliseconds, seconds, tokens};

pub(super) fn say_plan(blueprint: &C2cBlueprint, console: &Console) {
    if console.is_quiet() {
        return;
    }
    let ahead = blueprint.base().options.prefetch == Prefetch::Ahead;
    let ahead = if ahead { "True" } else { "False" };
    console.say(format_args!("Async transfer: {ahead}"));
    console.say(console.paint(Style::Bold, "Plan: cache-to-cache"));
    let mut about = vec![preface::name(blueprint.base())];
    about.extend(blueprint.teachers().iter().map(preface::name));
    about.extend(blueprint.fusers().map(|fuser| {
        let layers = fuser.mapped().len();
        format!(
            "{} in {}, {layers} layers of the base",
            fuser.location(),
            fuser.encoding()
        )
    }));
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Left], 2);
    for ((name, plan), about) in blueprint.stacks().zip(about) {
        let (resident, all) = (plan.resident_count(), plan.layers());
        table.row([
            name,
            format!("{resident} of {all} stay"),
            memory(plan.resident_bytes()),
            about,
        ]);
    }
    let plan = blueprint.plan();
    let fixed = plan.fixed();
    if plan.slots() > 0 {
        table.row([
            "slots".into(),
            plan.slots().to_string(),
            memory(plan.slot_bytes() + plan.buffer_bytes()),
            "shared, as large as the largest streamed layer; with read buffers".into(),
        ]);
    }
    if plan.home_bytes() > 0 {
        let homes = memory(plan.home_bytes());
        let about = "in RAM, where streamed layers come from";
        table.row(["homes".into(), String::new(), homes, about.into()]);
    }
    let context = format!("{} tokens", blueprint.base().context);
    let about = "of all models";
    table.row([
        "KV caches".into(),
        context,
        memory(fixed.cache),
        about.into(),
    ]);
    let about = "embeddings, norms, the base's head";
    table.row([
        "ends".into(),
        String::new(),
        memory(fixed.ends),
        about.into(),
    ]);
    table.row(["scratch".into(), String::new(), memory(fixed.scratch)]);
    let limit = match (blueprint.memory_bytes(), blueprint.spare_bytes()) {
        (None, _) => String::new(),
        (Some(bytes), 0) => format!("of {}", memory(bytes)),
        (Some(bytes), spare) => format!(
            "of {}, {} less for others",
            memory(bytes + spare),
            memory(spare)
        ),
    };
    table.row([
        "all".into(),
        String::new(),
        memory(plan.total_bytes()),
        limit,
    ]);
    console.say(table);
    if plan.streamed_count() > 0 {
        let link = &blueprint.base().link;
        console.say(format_args!(
            "Streamed weights: {}",
            preface::whereabouts(link)
        ));
    }
}

/// What the lead was waiting for, a line for each pass and each streamed layer.
pub(super) fn say_lead(lead: &Lead, streaming: &Streaming, console: &Console) {
    for pass in &lead.passes {
        let (timing, loads) = (&pass.measured.timing, &pass.measured.loads);
        let name = streaming.names.name(pass.stack).unwrap_or("?");
        let ahead = loads.iter().filter(|load| load.kind == LoadKind::Async);
        let usage = match loads.len() {
            0 => "nothing streamed".to_owned(),
            all => format!("async usage {}/{all} layers", ahead.count()),
        };
        console.print(format_args!(
            "Lead, {name}: {:.1} ms (compute {:.1}, stalled {:.1}), {usage}",
            milliseconds(timing.total),
            milliseconds(timing.compute()),
            milliseconds(timing.stalled()),
        ));
        for load in loads {
            console.print(format_args!(
                "  Layer {name} {:>2}: Pre={:6.2}ms  Post={:6.2}ms  [{}]",
                load.block.layer,
                milliseconds(load.pre),
                milliseconds(load.post),
                load.kind
            ));
        }
    }
}

/// How long the parts took, and each token.
pub(super) fn say_times(lead: &Lead, report: &Report, console: &Console) {
    let pass = |name: &str, timing: &PassTiming| format!("{name} {}", seconds(timing.total));
    let mut parts: Vec<String> = lead.base().map(|it| pass("base", it)).into_iter().collect();
    parts.extend(lead.teachers().map(|it| pass("teacher", it)));
    parts.extend(lead.projection().map(|it| {
        let each = each_ms(it.total, lead.projections);
        format!(
            "{}, {each:.2} ms each of {}",
            pass("projection", it),
            lead.projections
        )
    }));
    if !parts.is_empty() {
        let total = seconds(lead.total());
        console.say(format_args!("Prefill {total}: {}", parts.join("; ")));
    }
    let decode = &report.totals.decode;
    let mut parts = vec![format!("{} tokens", report.tokens.len())];
    if report.totals.decode_passes > 0 {
        let each = each_ms(decode.total, report.totals.decode_passes);
        parts.push(format!("{each:.2} ms per token"));
    }
    parts.extend(report.totals.tokens_per_s().map(tokens));
    parts.extend(
        report
            .time_to_first_token
            .map(|time| format!("first token after {}", seconds(time))),
    );
    parts.push(match report.totals.async_percent() {
        Some(percent) => format!("async usage {percent}%"),
        None => "nothing streamed".into(),
    });
    let peak = engine::memory::peak_bytes();
    parts.extend(peak.map(|bytes| format!("peak memory {}", memory(bytes))));
    parts.extend(report.ended.map(|ended| report::why(ended).to_owned()));
    console.say(parts.join(", "));
}

pub(super) fn each_ms(total: Duration, count: usize) -> f64 {
    milliseconds(total) / count.max(1) as f64
}

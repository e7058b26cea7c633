//! What is said before a model is loaded: the plan, and where streamed weights live.

use engine::kernels::{CacheType, FormTimes, Timed};
use engine::memory::{self as system_memory, LimitKind};
use engine::{Blueprint, Kernels, Verification};
use loader::{AccessReport, CHECKSUM_ALGORITHM, Form, RopeScaling};
use offload::{Home, LinkInfo, Prefetch};

use super::unread;
use crate::args::{Idle, SetupArgs};
use crate::failure::Usage;
use crate::output::{Align, Console, Style, Table, gigabytes, memory};

pub fn print(blueprint: &Blueprint, idle: Option<&Idle>, console: &Console) {
    if console.is_quiet() {
        return;
    }
    let ahead = blueprint.options.prefetch == Prefetch::Ahead;
    let ahead = if ahead { "True" } else { "False" };
    console.say(format_args!("Async transfer: {ahead}"));
    let title = format!("Plan: {}", name(blueprint));
    console.say(console.paint(Style::Bold, &title));
    console.say(plan(blueprint));
    if let Some(line) = unread::line(
        &unread::of(&blueprint.checkpoint),
        &blueprint.checkpoint.unread_files(),
    ) {
        console.say(line);
    }
    let streamed = blueprint.plan.streamed_count();
    if streamed > 0 {
        console.say(format_args!(
            "Streamed weights: {}",
            whereabouts(&blueprint.link)
        ));
    }
    if let Some(verification) = &blueprint.verification {
        console.say(format_args!(
            "Verify: {}",
            verified(blueprint, verification)
        ));
    }
    note(idle, console);
    note_more_than_available(blueprint, console);
}

/// What the user says counts, and is not what there is.
fn note_more_than_available(blueprint: &Blueprint, console: &Console) {
    if blueprint.limit != Some(LimitKind::Given) {
        return;
    }
    // Limits on what is asked for refuse it, and the plan is then made again.
    let limits = system_memory::limits().into_iter();
    let touched = limits.filter(|limit| !limit.kind.counts_untouched());
    let available = touched.map(|limit| limit.left_bytes).min();
    let total = blueprint.plan.total_bytes();
    if let Some(available) = available.filter(|&available| total > available) {
        console.say(format_args!(
            "note: {} are available, and --memory lets the plan take {}: the run may be slowed \
             down, or ended by the system",
            memory(available),
            memory(total),
        ));
    }
}

/// The plan that was carried out, where it is not the one that was printed.
pub fn plan_again(
    blueprint: &Blueprint,
    setup: &SetupArgs,
    console: &Console,
) -> Result<Option<Idle>, Usage> {
    console.say(format_args!("Plan, as it was carried out:"));
    console.say(plan(blueprint));
    setup.idle(&blueprint.plan)
}

/// What was typed for nothing.
pub fn note(idle: Option<&Idle>, console: &Console) {
    if let Some(idle) = idle {
        console.say(format_args!("note: {idle}"));
    }
}

/// What weights are held against, and which of them, in words.
fn verified(blueprint: &Blueprint, verification: &Verification) -> String {
    let location = blueprint.checkpoint.location();
    let streams = blueprint.plan.streamed_count() > 0;
    let stays = match (verification.uses_manifest(), verification.has_manifest()) {
        (true, _) => "what stays is held against checksums.json once, while it is loaded".into(),
        (false, true) => format!(
            "checksums.json is of {} and weights are converted to {}: what stays is not checked",
            blueprint.checkpoint.encoding(),
            blueprint.encoding()
        ),
        (false, false) => format!(
            "{location} has no checksums.json (`engine checksum DIR` writes it): what stays is not \
             checked"
        ),
    };
    match streams {
        true => format!(
            "every streamed load against {} ({CHECKSUM_ALGORITHM}); {stays}",
            verification.reference(blueprint.link.home)
        ),
        false => format!("nothing is streamed; {stays}"),
    }
}

/// What a model is called: the last part of its place.
pub fn short_name(location: &str) -> String {
    let mut parts = location.split(['/', '\\']);
    let last = parts.rfind(|part| !part.is_empty() && *part != ".");
    last.unwrap_or(location).to_owned()
}

/// The model in words: where it is from, its family, its layers.
pub fn name(blueprint: &Blueprint) -> String {
    let config = &blueprint.config;
    format!(
        "{} {}, {} layers of {} in {}",
        blueprint.checkpoint.location(),
        config.family,
        config.layers,
        memory(blueprint.blocks.largest_bytes() as u64),
        blueprint.encoding()
    )
}

fn plan(blueprint: &Blueprint) -> Table {
    let plan = &blueprint.plan;
    let fixed = plan.fixed();
    let layers = |count: usize| format!("{count} layers");
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Left], 2);
    table.row([
        "resident".into(),
        layers(plan.resident_count()),
        memory(plan.resident_bytes()),
        match plan.resident_count() {
            0 => String::new(),
            _ => resident_form(blueprint),
        },
    ]);
    table.row([
        "streamed".into(),
        layers(plan.streamed_count()),
        gigabytes(plan.streamed_bytes_per_pass()),
        match plan.streamed_count() {
            0 => String::new(),
            _ => "per token, through the slots".into(),
        },
    ]);
    table.row([
        "slots".into(),
        plan.slots().to_string(),
        memory(plan.slot_bytes()),
        one_slot(blueprint),
    ]);
    if plan.buffer_bytes() > 0 {
        table.row([
            "read buffers".into(),
            String::new(),
            memory(plan.buffer_bytes()),
        ]);
    }
    if plan.packing_bytes() > 0 {
        table.row([
            "packing".into(),
            String::new(),
            memory(plan.packing_bytes()),
            "while loading, beyond cache and scratch".into(),
        ]);
    }
    table.row([
        "KV cache".into(),
        format!("{} tokens", blueprint.context),
        memory(fixed.cache),
        format!("in {}", cache(blueprint)),
        factors(blueprint),
    ]);
    table.row([
        "ends".into(),
        String::new(),
        memory(fixed.ends),
        match plan.ends_left() {
            _ if !blueprint.options.logits => "norm; rows of the embedding come from disk".into(),
            0 => "embedding, norm, head".into(),
            _ => "norm, head; rows of the embedding come from disk".into(),
        },
    ]);
    table.row(["scratch".into(), String::new(), memory(fixed.scratch)]);
    let homes = plan.home_bytes() > 0;
    let homes_are = "in RAM, where streamed layers come from";
    if homes && plan.host().is_none() {
        table.row([
            "homes".into(),
            layers(plan.streamed_count()),
            memory(plan.home_bytes()),
            homes_are.into(),
        ]);
    }
    if plan.reserve_bytes() > 0 {
        table.row([
            "reserve".into(),
            String::new(),
            memory(plan.reserve_bytes()),
            RESERVE_IS.into(),
        ]);
    }
    table.row([
        "total".into(),
        String::new(),
        memory(plan.total_bytes()),
        limit(blueprint),
    ]);
    beside(blueprint, &mut table);
    if let (true, Some(host)) = (homes, plan.host()) {
        let available = memory(host.available_bytes);
        table.row([
            "homes".into(),
            layers(plan.streamed_count()),
            memory(plan.home_bytes()),
            match host.has_plan {
                true => format!(
                    "{homes_are}; with total and a reserve {} of {available} available",
                    memory(plan.host_bytes())
                ),
                false => format!("{homes_are}; {available} available"),
            },
        ]);
    }
    table
}

/// What the process takes beside the model, and the most RAM that it will hold at once.
fn beside(blueprint: &Blueprint, table: &mut Table) {
    let (Some(beside), Some(peak_bytes)) = (blueprint.beside(), blueprint.peak_bytes()) else {
        return;
    };
    let place = match blueprint.plan.reserve_bytes() {
        0 => "beside the total",
        _ => "out of the reserve",
    };
    let mut row = |name: &str, bytes: u64, what: String| {
        table.row([name.into(), String::new(), memory(bytes), what]);
    };
    row("program", beside.program, format!("{place}; measured"));
    if beside.tokenizer > 0 {
        row("tokenizer", beside.tokenizer, format!("{place}; measured"));
    }
    let model = blueprint.plan.planned_bytes_with_homes();
    row(
        "peak",
        peak_bytes,
        match beside.trial > model {
            true => "expected, while both forms of matrices were timed".into(),
            false => "expected".into(),
        },
    );
}

/// Which of a model's factors turn its heads, where it has two lists of them.
fn factors(blueprint: &Blueprint) -> String {
    match blueprint.config.rope.scaling {
        RopeScaling::LongRope {
            original_max_positions: original,
            ..
        } if blueprint.context > original => format!(
            "turned by the factors for long texts; those for short ones hold up to --context \
             {original}"
        ),
        _ => String::new(),
    }
}

/// Why one slot and not two, where that was chosen.
fn one_slot(blueprint: &Blueprint) -> String {
    let chosen = blueprint.one_slot.filter(|_| blueprint.plan.slots() == 1);
    chosen.map_or(String::new(), |one| {
        format!(
            "chosen: {:.1} ms a token predicted; with 2 slots and {} resident layers {:.1}",
            one.token_ms, one.two_resident, one.two_token_ms
        )
    })
}

/// How resident matrices are kept, and where that was timed what the other form gave.
fn resident_form(blueprint: &Blueprint) -> String {
    let form = match blueprint.resident_form() {
        Form::Compact => "compact: three quarters of the bytes, no loss",
        Form::Plain => "plain",
    };
    match (blueprint.forms, blueprint.resident_form()) {
        (None, Form::Plain) => String::new(),
        (None, Form::Compact) => form.into(),
        (Some(FormTimes { plain, compact }), used) => {
            let timed =
                |timed: Timed| format!("{:.1} GB/s (prefetch {})", timed.gbps, timed.asking);
            let compact = compact.map_or("not possible: its numbers are too varied".into(), timed);
            let plain = timed(plain);
            match used {
                Form::Compact => format!("{form}; timed at {compact}, plain at {plain}"),
                Form::Plain => format!("{form}; timed at {plain}, compact {compact}"),
            }
        }
    }
}

/// What keys and values are kept in.
fn cache(blueprint: &Blueprint) -> String {
    let kind = blueprint.cache_type;
    if blueprint.options.kernels == Kernels::Clear
        && !blueprint.on_device()
        && kind != CacheType::F32
    {
        format!("f32, rounded to {}", kind.name())
    } else {
        kind.name().into()
    }
}

/// What the reserve is for, in words.
const RESERVE_IS: &str = "for the program, its threads, tokenizer and page tables";

/// What the total is held against, in words.
fn limit(blueprint: &Blueprint) -> String {
    let (Some(bytes), Some(kind)) = (blueprint.memory_bytes, blueprint.limit) else {
        return "no limit known".into();
    };
    let bytes = memory(bytes);
    let less = match blueprint.spare_bytes {
        0 => String::new(),
        spare => format!(", {} less for others", memory(spare)),
    };
    match kind {
        LimitKind::Given => format!("of {bytes}"),
        LimitKind::Device => format!("of {bytes} free on the device"),
        LimitKind::Available => format!("of {bytes} available{less}"),
        LimitKind::ControlGroup => format!("of {bytes} left by the control group{less}"),
        LimitKind::AddressSpace => format!("of {bytes} left by ulimit -v"),
        LimitKind::DataSize => format!("of {bytes} left by ulimit -d"),
        LimitKind::Committed => format!("of {bytes} that the system still commits to"),
    }
}

/// Where streamed weights live and how they travel, in words.
pub fn whereabouts(link: &LinkInfo) -> String {
    match (link.emulated_gbps, link.home) {
        (Some(gbps), _) => {
            format!(
                "in RAM, over an emulated link of {gbps} GB/s (emulated: there is no such bus here)"
            )
        }
        (None, Home::Ram) => format!("in RAM, brought by {}", link.access),
        (None, Home::Disk) if link.access == AccessReport::Embedded.name() => {
            format!("{}, copied at each visit", link.access)
        }
        (None, Home::Disk) => format!("on disk, read by {} at each visit", link.access),
    }
}

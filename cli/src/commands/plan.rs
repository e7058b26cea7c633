//! `engine plan`: the bytes of every N, without loading anything. Beside headers it reads what tells
//! the rates of disk and memory, and a few rows that the forms of matrices are timed on.

use std::time::Duration;

use engine::memory::{LimitKind, available_bytes};
use engine::{Blueprint, EngineError, ModelOptions};
use offload::{PlanError, Residency, ResidencyPlan};
use serde::Serialize;

use super::unread::{self, UnreadTensors};
use crate::args::PlanArgs;
use crate::failure::Failure;
use crate::output::{Align, Stdout, Table, gigabytes, memory};

/// What the table is made from.
#[derive(Debug, Serialize)]
struct Plans {
    model: String,
    layers: usize,
    dtype: &'static str,
    context: usize,
    /// What keys and values are rounded to.
    cache_type: &'static str,
    block_bytes: u64,
    memory_bytes: Option<u64>,
    /// What sets that limit, and what `auto` leaves of it for others.
    memory_limit: Option<&'static str>,
    spare_bytes: u64,
    /// Where homes are in other memory than that, or the plan's is emulated: what there is of RAM.
    host_bytes: Option<u64>,
    /// Which layers stay, where streamed weights live, and how they are read there.
    placement: &'static str,
    weights: &'static str,
    access: String,
    /// How the matrices of resident layers lie in memory.
    resident_form: &'static str,
    /// What either form gave when it was timed, in GB of bf16 a second; `null` where only one form
    /// was possible, or one was asked for.
    plain_gbps: Option<f64>,
    compact_gbps: Option<f64>,
    link_gbps: Option<f64>,
    /// A rate that was given, not measured.
    emulated: bool,
    /// Measured now: the model's own files, and copies within memory.
    disk_gbps: Option<f64>,
    ram_gbps: Option<f64>,
    /// Why they were not, where they could have been.
    unmeasured: Option<&'static str>,
    /// The N that `--num-gpu-layers auto` takes.
    auto: Option<usize>,
    /// Where `auto` took one slot and not two: what either is predicted to take for a token.
    one_slot: Option<OneSlotRow>,
    /// Where memory is what limits `auto`, and keys and values in two bytes would move it.
    smaller_cache: Option<SmallerCache>,
    /// Tensors of the checkpoint that are left where they are.
    unread: Vec<UnreadTensors>,
    /// Files of weights that are no part of it.
    unread_files: Vec<String>,
    plans: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct OneSlotRow {
    token_ms: f64,
    two_token_ms: f64,
    two_resident: usize,
}

/// What a cache of two bytes a number would save, and the most layers that would then stay.
#[derive(Debug, Clone, Copy, Serialize)]
struct SmallerCache {
    saved_bytes: u64,
    resident: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    resident: usize,
    streamed: usize,
    slots: usize,
    resident_bytes: u64,
    streamed_bytes_per_token: u64,
    slot_bytes: u64,
    cache_bytes: u64,
    ends_bytes: u64,
    scratch_bytes: u64,
    buffer_bytes: u64,
    packing_bytes: u64,
    /// In RAM, for streamed layers; part of the total unless there is a `host_bytes`.
    home_bytes: u64,
    /// For the run itself.
    reserve_bytes: u64,
    total_bytes: u64,
    /// Of `host_bytes`, where there is one.
    host_total_bytes: Option<u64>,
    fits: bool,
    /// What the link alone takes for one token; the compute is not known without running.
    link_floor_ms: Option<f64>,
    /// The most that the disk allows, and RAM: `null` where nothing is streamed, or the rate is not
    /// known. Compute can make it less.
    disk_tokens_per_s: Option<f64>,
    ram_tokens_per_s: Option<f64>,
}

/// How fast streamed layers could come, measured in a moment without loading anything.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    disk_gbps: Option<f64>,
    ram_gbps: Option<f64>,
    unmeasured: Option<&'static str>,
}

/// How long each rate may take.
const BUDGET: Duration = Duration::from_millis(200);

/// Measuring takes 128 MiB of buffers for a moment, and threads: with less than this it is left out.
const MEASURING_BYTES: u64 = 512 << 20;
const TOO_LITTLE_MEMORY: &str = "less than 512 MiB of memory are available";

impl Rates {
    /// Nothing for an emulated link, which has the rate that was given, nor for weights that are
    /// inside the program.
    fn measure(blueprint: &Blueprint) -> Self {
        if blueprint.options.link_gbps.is_some() || !blueprint.checkpoint.on_disk() {
            return Self::default();
        }
        if available_bytes().is_some_and(|bytes| bytes < MEASURING_BYTES) {
            return Self {
                unmeasured: Some(TOO_LITTLE_MEMORY),
                ..Self::default()
            };
        }
        let disk = loader::measure_read_gbps(&blueprint.checkpoint, BUDGET);
        Self {
            // A plan does not fail because a disk cannot be read now.
            disk_gbps: disk.ok().map(|rate| rate.gbps),
            // To a device, weights in RAM travel over a bus.
            ram_gbps: (!blueprint.on_device()).then(|| offload::measure_copy_gbps(BUDGET)),
            unmeasured: None,
        }
    }
}

pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    let mut options = ModelOptions {
        residency: Residency::Auto,
        ..ModelOptions::default()
    };
    args.model.apply(&mut options);
    args.link.apply(&mut options);
    // Where not a single N fits, the table is what the user needs most.
    let (blueprint, too_large) = Blueprint::draft(&args.model.source(), options)?;
    let plans = plans(&blueprint, too_large.as_ref());
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&plans)?,
        false => out.show(format_args!("{}\n", text(&plans)))?,
    }
    match too_large {
        Some(error) => Err(EngineError::from(error).into()),
        None => Ok(()),
    }
}

fn plans(blueprint: &Blueprint, too_large: Option<&PlanError>) -> Plans {
    let link_gbps = blueprint.options.link_gbps;
    let layers = blueprint.config.layers;
    let rates = Rates::measure(blueprint);
    let rows = (0..=layers).map(|resident| {
        let plan = blueprint.plan_for(resident);
        row(&plan, link_gbps, rates)
    });
    let rows: Vec<Row> = rows.collect();
    Plans {
        smaller_cache: smaller_cache(blueprint, &rows),
        model: blueprint.checkpoint.location().to_owned(),
        layers,
        dtype: blueprint.encoding().name(),
        context: blueprint.context,
        cache_type: blueprint.cache_type.name(),
        block_bytes: blueprint.blocks.largest_bytes() as u64,
        memory_bytes: blueprint.memory_bytes,
        memory_limit: blueprint.limit.map(LimitKind::name),
        spare_bytes: blueprint.spare_bytes,
        host_bytes: blueprint.plan.host().map(|host| host.available_bytes),
        placement: blueprint.plan.spread().name(),
        weights: blueprint.link.home.name(),
        access: blueprint.link.access.clone(),
        resident_form: blueprint.resident_form().name(),
        plain_gbps: blueprint.forms.map(|forms| forms.plain.gbps),
        compact_gbps: (blueprint.forms)
            .and_then(|forms| forms.compact)
            .map(|timed| timed.gbps),
        link_gbps,
        emulated: link_gbps.is_some(),
        disk_gbps: rates.disk_gbps,
        ram_gbps: rates.ram_gbps,
        unmeasured: rates.unmeasured,
        auto: match too_large {
            Some(_) => None,
            None => Some(blueprint.plan.resident_count()),
        },
        one_slot: blueprint.one_slot.map(|one| OneSlotRow {
            token_ms: one.token_ms,
            two_token_ms: one.two_token_ms,
            two_resident: one.two_resident,
        }),
        unread: unread::of(&blueprint.checkpoint),
        unread_files: blueprint.checkpoint.unread_files(),
        plans: rows,
    }
}

/// As long as the plan is for the host: a device has its own numbers.
fn smaller_cache(blueprint: &Blueprint, rows: &[Row]) -> Option<SmallerCache> {
    let limit = blueprint.memory_bytes?;
    let saved_bytes = blueprint.smaller_cache_saves()?;
    let would_fit = |row: &&Row| row.total_bytes - saved_bytes <= limit;
    let most = rows.iter().rfind(would_fit)?.resident;
    let fits = rows.iter().rfind(|row| row.fits).map(|row| row.resident);
    fits.is_none_or(|now| most > now).then_some(SmallerCache {
        saved_bytes,
        resident: most,
    })
}

fn row(plan: &ResidencyPlan, link_gbps: Option<f64>, rates: Rates) -> Row {
    let fixed = plan.fixed();
    let streamed_bytes_per_token = plan.streamed_bytes_per_pass();
    Row {
        resident: plan.resident_count(),
        streamed: plan.streamed_count(),
        slots: plan.slots(),
        resident_bytes: plan.resident_bytes(),
        streamed_bytes_per_token,
        slot_bytes: plan.slot_bytes(),
        cache_bytes: fixed.cache,
        ends_bytes: fixed.ends,
        scratch_bytes: fixed.scratch,
        buffer_bytes: plan.buffer_bytes(),
        packing_bytes: plan.packing_bytes(),
        home_bytes: plan.home_bytes(),
        reserve_bytes: plan.reserve_bytes(),
        total_bytes: plan.total_bytes(),
        host_total_bytes: plan.host().map(|_| plan.host_bytes()),
        fits: plan.fits(),
        disk_tokens_per_s: allowed(rates.disk_gbps, streamed_bytes_per_token),
        ram_tokens_per_s: allowed(rates.ram_gbps, streamed_bytes_per_token),
        link_floor_ms: link_gbps.map(|gbps| streamed_bytes_per_token as f64 / gbps / 1e6),
    }
}

fn allowed(gbps: Option<f64>, bytes_per_token: u64) -> Option<f64> {
    gbps.filter(|_| bytes_per_token > 0)
        .map(|gbps| gbps * 1e9 / bytes_per_token as f64)
}

fn text(plans: &Plans) -> String {
    use Align::{Left, Right};
    // Where nothing is kept in RAM for streaming, or for the run itself, there is no column of it.
    let has_homes = plans.plans.iter().any(|row| row.home_bytes > 0);
    let has_reserve = plans.plans.iter().any(|row| row.reserve_bytes > 0);
    let mut heads = vec![
        "N",
        "resident",
        "streamed",
        "per token",
        "slots",
        "KV",
        "ends+buffers",
    ];
    if has_homes {
        heads.push("homes");
    }
    if has_reserve {
        heads.push("reserve");
    }
    heads.push("total");
    let measured = plans.disk_gbps.is_some() || plans.ram_gbps.is_some();
    match (measured, plans.ram_gbps) {
        (true, Some(_)) => heads.extend(["disk tok/s", "RAM tok/s"]),
        (true, None) => heads.push("disk tok/s"),
        (false, _) => heads.push("floor ms"),
    }
    let mut columns = vec![Right; heads.len()];
    columns.push(Left);
    heads.push("");
    let mut table = Table::new(&columns, 0);
    table.push(heads.into_iter().map(str::to_owned).collect());
    for row in &plans.plans {
        let mark = match (row.fits, plans.auto == Some(row.resident)) {
            (_, true) => "fits  <- auto",
            (true, false) => "fits",
            (false, false) => "too large",
        };
        let mut cells = vec![
            row.resident.to_string(),
            memory(row.resident_bytes),
            row.streamed.to_string(),
            gigabytes(row.streamed_bytes_per_token),
            format!("{} x {}", row.slots, memory(plans.block_bytes)),
            memory(row.cache_bytes),
            memory(row.ends_bytes + row.scratch_bytes + row.buffer_bytes + row.packing_bytes),
        ];
        if has_homes {
            cells.push(memory(row.home_bytes));
        }
        if has_reserve {
            cells.push(memory(row.reserve_bytes));
        }
        cells.push(memory(row.total_bytes));
        let number = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
        };
        match (measured, plans.ram_gbps) {
            (true, Some(_)) => cells.extend([
                number(row.disk_tokens_per_s, 2),
                number(row.ram_tokens_per_s, 1),
            ]),
            (true, None) => cells.push(number(row.disk_tokens_per_s, 2)),
            (false, _) => cells.push(number(row.link_floor_ms, 1)),
        }
        cells.push(mark.into());
        table.push(cells);
    }
    let limit = match plans.memory_bytes {
        Some(bytes) => memory(bytes),
        None => "no known limit".into(),
    };
    let gbps =
        |rate: Option<f64>| rate.map_or_else(|| "-".into(), |rate| format!("{rate:.2} GB/s"));
    let ram = match plans.ram_gbps {
        Some(_) => format!(", {} from RAM\n(--weights ram)", gbps(plans.ram_gbps)),
        None => String::new(),
    };
    let floor = match plans.link_gbps {
        _ if measured => format!(
            "tok/s: predicted, the most that the rates measured now allow: {} from disk ({}){ram}. \
             Compute can make it less; `engine tune` runs the plans and says what they give.\n\
             --link-gbps shows another link.",
            gbps(plans.disk_gbps),
            plans.access,
        ),
        Some(gbps) => format!(
            "floor ms: what an emulated link of {gbps} GB/s takes for a token. Compute comes on \
             top where it is\nslower than the link; it is unknown without running."
        ),
        None if plans.unmeasured.is_some() => format!(
            "tok/s: the rates of disk and memory were not measured, because {}.\n--link-gbps shows \
             what a link takes for a token.",
            plans.unmeasured.unwrap_or_default()
        ),
        None => "floor ms: give --link-gbps to see what a link takes for a token; compute is \
                 unknown without running."
            .into(),
    };
    let one_slot = match &plans.one_slot {
        Some(one) => format!(
            "\nslots: one was chosen, which leaves room for a layer more: {:.1} ms a token predicted; \
             with two and N = {} {:.1}.",
            one.token_ms, one.two_resident, one.two_token_ms
        ),
        None => String::new(),
    };
    let cache = match plans.smaller_cache {
        Some(smaller) => format!(
            "\nKV: --cache-type f16 or bf16 would take {} less, and N = {} would fit.",
            memory(smaller.saved_bytes),
            smaller.resident
        ),
        None => String::new(),
    };
    let homes = match (has_homes, plans.host_bytes) {
        (false, _) => String::new(),
        (true, None) => "\nhomes: RAM that streamed layers come from; part of the total.".into(),
        (true, Some(bytes)) => format!(
            "\nhomes: RAM that streamed layers come from, beside the total{}; {} of RAM are \
             available.",
            match plans.emulated {
                true => ", which is RAM here as well",
                false => "",
            },
            memory(bytes)
        ),
    };
    let reserve = match has_reserve {
        true => "\nreserve: for the program, its threads, tokenizer and page tables.",
        false => "",
    };
    let unread = match unread::line(&plans.unread, &plans.unread_files) {
        Some(line) => format!("\n\n{line}"),
        None => String::new(),
    };
    format!(
        "{}: {} layers of {}, {}, resident {}, context {} (KV in {}), memory \
         {limit}\n\n{table}\n\n{floor}{one_slot}{cache}{homes}{reserve}{unread}",
        plans.model,
        plans.layers,
        memory(plans.block_bytes),
        plans.dtype,
        plans.resident_form,
        plans.context,
        plans.cache_type,
    )
}

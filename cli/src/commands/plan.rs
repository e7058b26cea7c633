//! `engine plan`: the bytes of every N, without loading anything. Beside headers it reads what
//! tells the rates of disk and memory, and a few rows that the forms of matrices are timed on.

mod text;

use std::time::Duration;

use engine::memory::{LimitKind, available_bytes};
use engine::{Blueprint, EngineError, ModelOptions};
use offload::{PlanError, Residency, ResidencyPlan};
use serde::Serialize;

use text::text;

use super::unread::{self, UnreadTensors};
use crate::args::PlanArgs;
use crate::failure::Failure;
use crate::output::Stdout;

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
    /// What the program takes beside the plan, and the most that its tokenizer may.
    program_bytes: Option<u64>,
    tokenizer_bytes: Option<u64>,
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
    /// Bytes in RAM, for streamed layers; part of the total unless there is a `host_bytes`.
    home_bytes: u64,
    /// What is kept free for the run itself.
    reserve_bytes: u64,
    total_bytes: u64,
    /// The total taken of `host_bytes`, where there is one.
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

/// Measuring takes 128 MiB of buffers for a moment, and threads: with less than this it is left
/// out.
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
    let beside = blueprint.beside();
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
        program_bytes: beside.map(|beside| beside.program),
        tokenizer_bytes: beside.map(|beside| beside.tokenizer),
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

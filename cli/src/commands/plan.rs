//! `engine plan`: the bytes of every N, from headers alone.

use engine::{Blueprint, EngineError, ModelOptions, Source};
use offload::{PlanError, Residency, ResidencyPlan};
use serde::Serialize;

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
    block_bytes: u64,
    memory_bytes: Option<u64>,
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
    /// The N that `--num-gpu-layers auto` takes.
    auto: Option<usize>,
    plans: Vec<Row>,
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
    total_bytes: u64,
    fits: bool,
    /// What the link alone takes for one token; the compute is not known without running.
    link_floor_ms: Option<f64>,
}

pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    let mut options = ModelOptions {
        residency: Residency::Auto,
        ..ModelOptions::default()
    };
    args.model.apply(&mut options);
    args.link.apply(&mut options);
    let (blueprint, too_large) = blueprint(&args.model.source(), options)?;
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

/// A blueprint even where not a single N fits: the table is then what the user needs most.
fn blueprint(
    source: &Source,
    options: ModelOptions,
) -> Result<(Blueprint, Option<PlanError>), EngineError> {
    match Blueprint::new(source, options.clone()) {
        Err(EngineError::Plan(error @ PlanError::TooLarge { .. })) => {
            let unlimited = ModelOptions {
                memory_bytes: Some(u64::MAX),
                ..options
            };
            Ok((Blueprint::new(source, unlimited)?, Some(error)))
        }
        made => Ok((made?, None)),
    }
}

fn plans(blueprint: &Blueprint, too_large: Option<&PlanError>) -> Plans {
    let memory_bytes = match too_large {
        Some(PlanError::TooLarge { memory_bytes, .. }) => Some(*memory_bytes),
        _ => blueprint.memory_bytes,
    };
    let link_gbps = blueprint.options.link_gbps;
    let layers = blueprint.config.layers;
    let rows = (0..=layers).map(|resident| {
        let plan = blueprint.plan_for(resident);
        row(&plan, memory_bytes, link_gbps)
    });
    Plans {
        model: blueprint.checkpoint.location().to_owned(),
        layers,
        dtype: blueprint.dtype().name(),
        context: blueprint.context,
        block_bytes: blueprint.plan.block().slab,
        memory_bytes,
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
        auto: match too_large {
            Some(_) => None,
            None => Some(blueprint.plan.resident_count()),
        },
        plans: rows.collect(),
    }
}

fn row(plan: &ResidencyPlan, memory_bytes: Option<u64>, link_gbps: Option<f64>) -> Row {
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
        total_bytes: plan.total_bytes(),
        fits: memory_bytes.is_none_or(|limit| plan.total_bytes() <= limit),
        link_floor_ms: link_gbps.map(|gbps| streamed_bytes_per_token as f64 / gbps / 1e6),
    }
}

fn text(plans: &Plans) -> String {
    use Align::{Left, Right};
    let mut columns = vec![Right; 9];
    columns.push(Left);
    let mut table = Table::new(&columns, 0);
    let heads = [
        "N",
        "resident",
        "streamed",
        "per token",
        "slots",
        "KV",
        "ends+buffers",
        "total",
        "floor ms",
        "",
    ];
    table.push(heads.map(str::to_owned).to_vec());
    for row in &plans.plans {
        let mark = match (row.fits, plans.auto == Some(row.resident)) {
            (_, true) => "fits  <- auto",
            (true, false) => "fits",
            (false, false) => "too large",
        };
        table.push(vec![
            row.resident.to_string(),
            memory(row.resident_bytes),
            row.streamed.to_string(),
            gigabytes(row.streamed_bytes_per_token),
            format!("{} x {}", row.slots, memory(plans.block_bytes)),
            memory(row.cache_bytes),
            memory(row.ends_bytes + row.scratch_bytes + row.buffer_bytes + row.packing_bytes),
            memory(row.total_bytes),
            match row.link_floor_ms {
                Some(ms) => format!("{ms:.1}"),
                None => "-".into(),
            },
            mark.into(),
        ]);
    }
    let limit = match plans.memory_bytes {
        Some(bytes) => memory(bytes),
        None => "no known limit".into(),
    };
    let floor = match plans.link_gbps {
        Some(gbps) => format!(
            "floor ms: what an emulated link of {gbps} GB/s takes for a token. Compute comes on \
             top where it is\nslower than the link; it is unknown without running."
        ),
        None => "floor ms: give --link-gbps to see what a link takes for a token; compute is \
                 unknown without running."
            .into(),
    };
    format!(
        "{}: {} layers of {}, {}, resident {}, context {}, memory {limit}\n\n{table}\n\n{floor}",
        plans.model,
        plans.layers,
        memory(plans.block_bytes),
        plans.dtype,
        plans.resident_form,
        plans.context,
    )
}

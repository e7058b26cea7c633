//! The plan that was carried out, as programs read it: taken from the loaded model, not from what
//! was asked for.

use engine::memory::LimitKind;
use engine::{Kernels, Model};
use offload::{LayerIndex, Prefetch};
use serde::Serialize;

use crate::args::Idle;

#[derive(Debug, Serialize)]
pub struct Executed {
    device: &'static str,
    dtype: &'static str,
    kernels: &'static str,
    /// The instructions that the fast kernels use on a CPU, and their threads.
    level: Option<&'static str>,
    threads: Option<usize>,
    context: usize,
    /// What keys and values are rounded to.
    cache_type: &'static str,
    /// The limit the plan was made for, and what it takes of it.
    memory_bytes: Option<u64>,
    total_bytes: u64,
    /// What sets the limit; what of the total is for the run itself; what `auto` left for others.
    memory_limit: Option<&'static str>,
    reserve_bytes: u64,
    spare_bytes: u64,
    /// What the program and its tokenizer take beside the plan, and the most RAM that the process
    /// was expected to hold at once; null where that could not be known.
    program_bytes: Option<u64>,
    tokenizer_bytes: Option<u64>,
    peak_bytes: Option<u64>,
    /// RAM that streamed layers come from: part of the total, unless the limit is of other memory.
    home_bytes: u64,
    /// The resident layers that were planned, where there was less room than was said.
    lowered_from: Option<usize>,
    resident_layers: Vec<usize>,
    /// How their matrices lie in memory.
    resident_form: Option<&'static str>,
    streamed_layers: Vec<usize>,
    placement: &'static str,
    slots: usize,
    prefetch: bool,
    /// Where streamed weights live, and how they are read there.
    weights: Option<&'static str>,
    access: Option<String>,
    emulated_gbps: Option<f64>,
    /// Bytes of streamed weights for each pass.
    streamed_bytes_per_token: u64,
    /// Options that were typed and that this plan leaves without effect.
    no_effect: Vec<&'static str>,
}

impl Executed {
    pub fn of(model: &Model, idle: Option<&Idle>) -> Self {
        let blueprint = model.blueprint();
        let (plan, link) = (&blueprint.plan, &blueprint.link);
        let beside = blueprint.beside();
        let streams = plan.streamed_count() > 0;
        let fast = blueprint.options.kernels == Kernels::Fast;
        let level = model.threads().map(|_| engine::kernels::level());
        Self {
            device: model.device_name(),
            dtype: blueprint.encoding().name(),
            kernels: if fast { "fast" } else { "clear" },
            level,
            threads: model.threads(),
            context: blueprint.context,
            cache_type: blueprint.cache_type.name(),
            memory_bytes: blueprint.memory_bytes,
            total_bytes: plan.total_bytes(),
            memory_limit: blueprint.limit.map(LimitKind::name),
            reserve_bytes: plan.reserve_bytes(),
            spare_bytes: blueprint.spare_bytes,
            program_bytes: beside.map(|beside| beside.program),
            tokenizer_bytes: beside.map(|beside| beside.tokenizer),
            peak_bytes: blueprint.peak_bytes(),
            home_bytes: plan.home_bytes(),
            lowered_from: model.loaded().lowered_from,
            resident_layers: plan.resident().map(LayerIndex::as_usize).collect(),
            resident_form: (plan.resident_count() > 0).then(|| blueprint.resident_form().name()),
            streamed_layers: plan.streamed().map(LayerIndex::as_usize).collect(),
            placement: plan.spread().name(),
            slots: plan.slots(),
            prefetch: blueprint.options.prefetch == Prefetch::Ahead,
            weights: streams.then(|| link.home.name()),
            access: streams.then(|| link.access.clone()),
            emulated_gbps: link.emulated_gbps.filter(|_| streams),
            streamed_bytes_per_token: plan.streamed_bytes_per_pass(),
            no_effect: idle.map_or_else(Vec::new, |idle| idle.options().to_vec()),
        }
    }
}

//! Resident blocks in compact form: their matrices take three quarters of the bytes, without loss,
//! and so does reading them for a token. What is streamed stays as the files have it. Whether that
//! is also faster depends on the processor: it is timed, on some of the model's own rows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use half::bf16;
use loader::{BlockLayout, Checkpoint, Encoding, Form, Part, Role};
use offload::{LayerIndex, Rates, ResidencyPlan, predict};

use crate::compute::Kernels;
use crate::error::EngineError;
use crate::machine::cores;
use crate::machine::memory::Limit;
use crate::model::options::ModelOptions;
use crate::weights::blocks::Blocks;
use kernels::{self, Compact, FormTimes, Level, Team, Timed};

/// Layers that together take less lie in a processor's caches, where bytes cost little and packing
/// gains nothing.
const WORTH_BYTES: usize = 64 << 20;

/// How long trying the forms takes, about: three rounds are made however long they take. It takes
/// place before anything is planned.
const TRIAL_BUDGET: Duration = Duration::from_millis(40);

/// Bytes of the model's rows that are tried.
const TRIAL_BYTES: usize = 4 << 20;

/// Repeated in memory until they take twice what the last cache holds, within these bounds: with
/// less, a good part of them is read from the cache.
const TRIAL_MEMORY: (usize, usize) = (64 << 20, 128 << 20);

/// Compact layers leave memory to others: plain ones have to be faster by more than this.
const FORM_GAIN: f64 = 1.02;

/// What resident blocks may be.
pub(crate) enum Choice {
    /// As they are read.
    Plain,
    Compact(Blocks),
    /// Either: whichever gives more tokens a second with the memory that there is.
    Either(Blocks),
}

/// What the options leave to choose, and whether the forms are to be timed: also where one was
/// typed, because how memory is asked for and how many slots are worth having depends on it.
pub(crate) struct Forms {
    pub choice: Choice,
    pub are_timed: bool,
}

pub(crate) fn forms(
    options: &ModelOptions,
    blocks: &Blocks,
    on_device: bool,
) -> Result<Forms, EngineError> {
    let weights = blocks.layers().map(|layer| blocks.packed(layer).layout());
    let bytes: usize = weights.clone().map(|layout| layout.slab_bytes()).sum();
    let mut parts = weights.flat_map(|layout| layout.parts());
    let is_bf16 = parts.any(|(role, part)| role.is_projection() && part.encoding == Encoding::Bf16);
    let compact = match options.kernels {
        _ if on_device => Err("on a GPU weights stay as the checkpoint has them"),
        Kernels::Clear => Err("the clear kernels compute with plain weights"),
        Kernels::Fast if !is_bf16 => Err("only bf16 has a compact form"),
        Kernels::Fast => blocks
            .compact(|layout: &BlockLayout| layout.compact(bytes_of))
            .ok_or("no matrix has rows of a multiple of 128 numbers, up to 65,536"),
    };
    let are_timed =
        compact.is_ok() && bytes >= WORTH_BYTES && Level::detect().may_gain_from_compact();
    let choice = match (options.resident_form, compact) {
        (Some(Form::Compact), Err(why)) => return Err(EngineError::NoCompactForm { why }),
        (Some(Form::Compact), Ok(compact)) => Choice::Compact(compact),
        (None, Ok(compact)) if are_timed => Choice::Either(compact),
        (Some(Form::Plain) | None, _) => Choice::Plain,
    };
    Ok(Forms { choice, are_timed })
}

/// What was timed, and the memory that it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    pub times: FormTimes,
    pub bytes: u64,
}

/// Times both forms on rows of a layer in the middle. Once in a process for a model: runs that are
/// compared should not differ in this. `None` where its rows cannot be tried, or a limit leaves too
/// little memory to try them in: one that was found, or the plan's own.
pub(crate) fn time(
    checkpoint: &Checkpoint,
    options: &ModelOptions,
    limits: &[Limit],
) -> Result<Option<Trial>, EngineError> {
    static TIMED: Mutex<Vec<(String, usize, Trial)>> = Mutex::new(Vec::new());
    let threads = options.threads.unwrap_or_else(cores::physical);
    let mut timed = TIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let location = checkpoint.location();
    let known = timed
        .iter()
        .find(|(of, by, _)| of == location && *by == threads);
    if let Some((_, _, trial)) = known {
        return Ok(Some(*trial));
    }
    let (least, most) = TRIAL_MEMORY;
    // Both forms, and the threads' stacks.
    let needed_bytes = 4 * most as u64;
    if limits.iter().any(|limit| limit.left_bytes < needed_bytes) {
        return Ok(None);
    }
    let middle = checkpoint.config.layers / 2;
    let twice = cores::last_cache_bytes().map_or(least, |bytes| 2 * bytes);
    let memory = twice.clamp(least, most);
    // An emulated link's plan is for other memory than what the trial takes.
    let given = options.memory_bytes.filter(|_| options.link_gbps.is_none());
    if given.is_some_and(|bytes| bytes < 2 * memory as u64) {
        return Ok(None);
    }
    let rows = checkpoint.first_rows(middle, Role::GateUp, Encoding::Bf16, TRIAL_BYTES)?;
    let Some((rows, cols)) = rows else {
        return Ok(None);
    };
    // Words, so that the numbers are aligned.
    let mut words = vec![0_u64; rows.len().div_ceil(size_of::<u64>())];
    let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..rows.len()];
    bytes.copy_from_slice(&rows);
    drop(rows);
    let team = Team::start(threads).map_err(|source| EngineError::ComputeThreadRefused {
        asked: threads,
        source,
    })?;
    let rows = bytemuck::cast_slice(&*bytes);
    let times = kernels::time_forms(&team, rows, cols, memory, TRIAL_BUDGET);
    let trial = Trial {
        times,
        bytes: trial_bytes(rows, cols, memory),
    };
    timed.push((location.to_owned(), threads, trial));
    Ok(Some(trial))
}

/// What [`kernels::time_forms`] holds at once: the rows in both forms, each as they are and
/// repeated.
fn trial_bytes(rows: &[bf16], cols: usize, memory: usize) -> u64 {
    let plain = size_of_val(rows);
    let compact = Compact::bytes_for(rows.len() / cols.max(1), cols).unwrap_or(0);
    let copies = memory.div_ceil(plain.max(1));
    ((plain + compact) * (1 + copies)) as u64
}

/// Whether resident blocks that are plain give more tokens a second, in the plan that memory allows
/// for them, than compact ones in theirs.
pub(crate) fn plain_is_faster(
    times: &FormTimes,
    plain: &ResidencyPlan,
    compact: &ResidencyPlan,
    link_gbps: f64,
    prefetch: bool,
) -> bool {
    let Some(timed) = times.compact else {
        return true;
    };
    let token_ms = |plan: &ResidencyPlan, timed: Timed| {
        let rates = rates(times, timed, plan, link_gbps, prefetch);
        predict(plan, &rates).token_ms
    };
    token_ms(plain, times.plain) * FORM_GAIN < token_ms(compact, timed)
}

/// What the planner can know of a token before anything is loaded: layers take as long as memory
/// is read for them, and nothing else is known. Copies start at once.
pub(crate) fn rates(
    times: &FormTimes,
    resident: Timed,
    plan: &ResidencyPlan,
    link_gbps: f64,
    prefetch: bool,
) -> Rates {
    let weights_ms = |layers: &mut dyn Iterator<Item = LayerIndex>, gbps: f64| {
        let bytes: u64 = layers.map(|layer| plan.cost(layer).weights).sum();
        bytes as f64 / gbps / 1e6
    };
    // What is streamed is computed as it comes.
    let computed_ms = weights_ms(&mut plan.resident(), resident.gbps)
        + weights_ms(&mut plan.streamed(), times.plain.gbps);
    Rates {
        link_bytes_per_s: link_gbps * 1e9,
        layer_ms: computed_ms / plan.layers() as f64,
        other_ms: 0.0,
        prefetch,
        start_ms: 0.0,
    }
}

fn bytes_of(role: Role, part: &Part) -> Option<usize> {
    let is_bf16 = role.is_projection() && part.encoding == Encoding::Bf16;
    is_bf16
        .then(|| Compact::bytes_for(part.rows, part.cols))
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use offload::{BlockCost, Costs, FixedBytes, PlanRequest, ReserveBytes, Residency, Spread};

    use super::*;
    use kernels::{Asking, Timed};

    /// Eight layers of 100 MB, as many resident as fit.
    fn plan(resident_bytes: u64, memory_bytes: Option<u64>) -> ResidencyPlan {
        let request = PlanRequest {
            costs: Arc::new(Costs::uniform(
                8,
                BlockCost {
                    resident: resident_bytes,
                    ..BlockCost::of_slab(100_000_000)
                },
            )),
            fixed: FixedBytes::default(),
            residency: Residency::Auto,
            spread: Spread::Even,
            slots: 2,
            memory_bytes,
            reserve: ReserveBytes::default(),
            host: None,
        };
        ResidencyPlan::new(&request).unwrap()
    }

    fn check(plain_gbps: f64, compact_gbps: Option<f64>, memory_mb: Option<u64>, plain: bool) {
        let timed = |gbps| Timed {
            gbps,
            asking: Asking::Twice,
        };
        let times = FormTimes {
            plain: timed(plain_gbps),
            compact: compact_gbps.map(timed),
        };
        let memory_bytes = memory_mb.map(|mb| mb * 1_000_000);
        let (as_plain, as_compact) = (
            plan(100_000_000, memory_bytes),
            plan(75_000_000, memory_bytes),
        );
        let found = plain_is_faster(&times, &as_plain, &as_compact, 2.5, true);
        assert_eq!(found, plain, "{plain_gbps} {compact_gbps:?} {memory_mb:?}");
    }

    #[test]
    fn the_form_that_gives_more_tokens_is_taken() {
        // Everything fits: what was timed decides, and compact where that is alike.
        check(56.0, Some(45.0), None, true);
        check(45.0, Some(56.0), None, false);
        check(50.0, Some(49.8), None, false);
        check(50.0, None, None, true);
        // Slower, but it keeps all eight layers where six plain ones fit, or four and five: the
        // disk is slower still.
        check(56.0, Some(45.0), Some(700), false);
        check(56.0, Some(45.0), Some(600), false);
        // Nothing fits beside the slots, either way.
        check(56.0, Some(45.0), Some(210), false);
    }
}

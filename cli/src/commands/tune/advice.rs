//! What to type, and what would move the limit.

use engine::kernels::CacheType;
use engine::{MachineRates, ModelOptions, Source};
use loader::{DType, Form, units};
use offload::{Candidate, Home, Spread};
use serde::Serialize;

use super::{Bench, Verified};
use crate::failure::Failure;

/// How much more memory is asked about.
const MORE_BYTES: u64 = 1 << 30;
/// How many times faster a link is asked about.
const FASTER: f64 = 2.0;

/// What to run, and why.
#[derive(Debug, Serialize)]
pub struct Advice {
    pub command: String,
    /// The best plan with one more GiB, where there is a limit and something is streamed.
    pub more_memory: Option<Gain>,
    /// The best plan with keys and values in two bytes a number, where there is a limit, something
    /// is streamed, and they are kept in four.
    pub smaller_cache: Option<Gain>,
    /// The best plan with a link twice as fast, where something is streamed.
    pub faster_link: Option<Gain>,
}

/// What a change would give, by prediction.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Gain {
    pub resident: usize,
    pub tokens_per_s: f64,
    /// Over what is predicted for the plan that is recommended.
    pub ratio: f64,
}

impl Advice {
    pub(super) fn new(
        bench: &Bench<'_>,
        rates: &MachineRates,
        best: &Verified,
    ) -> Result<Self, Failure> {
        let candidate = &best.candidate;
        let settled = bench.args.settled();
        let limit = bench.blueprint.memory_bytes;
        let streams = candidate.plan.streamed_count() > 0;
        let best_with = |memory_bytes, faster| -> Result<Option<Gain>, Failure> {
            if !streams {
                return Ok(None);
            }
            let found = (bench.blueprint).candidates(rates, settled, memory_bytes, faster)?;
            Ok(found.first().map(|found| Gain::of(found, candidate)))
        };
        Ok(Self {
            command: command(&bench.source, &bench.options, candidate),
            more_memory: match limit {
                Some(limit) => best_with(Some(limit.saturating_add(MORE_BYTES)), 1.0)?,
                None => None,
            },
            // The bytes that it saves are as good as more memory.
            smaller_cache: match (limit, bench.blueprint.smaller_cache_saves()) {
                (Some(limit), Some(saved)) => best_with(Some(limit.saturating_add(saved)), 1.0)?,
                _ => None,
            },
            faster_link: best_with(limit, FASTER)?,
        })
    }
}

impl Gain {
    fn of(found: &Candidate, now: &Candidate) -> Self {
        let tokens_per_s = found.prediction.tokens_per_s();
        Self {
            resident: found.plan.resident_count(),
            tokens_per_s,
            ratio: tokens_per_s / now.prediction.tokens_per_s(),
        }
    }
}

/// The command line that carries the candidate out; what is default is left out.
fn command(source: &Source, options: &ModelOptions, candidate: &Candidate) -> String {
    let mut words = vec!["engine".to_owned(), "generate".into()];
    let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Source::Directory(directory) = source {
        let directory = directory.display().to_string();
        let quoted = shlex::try_quote(&directory).map_or_else(|_| directory.clone(), Into::into);
        add("--model", quoted);
    }
    let plan = &candidate.plan;
    add("--num-gpu-layers", plan.resident_count().to_string());
    if plan.streamed_count() > 0 {
        add("--slots", plan.slots().to_string());
        if plan.spread() != Spread::Even {
            add("--resident", plan.spread().name().into());
        }
        match (options.link_gbps, candidate.home) {
            (Some(gbps), _) => add("--link-gbps", gbps.to_string()),
            (None, Home::Ram) => add("--weights", Home::Ram.name().into()),
            (None, Home::Disk) => {}
        }
    }
    if let Some(bytes) = options.memory_bytes {
        add("--memory", units::typed(bytes));
    }
    if let Some(context) = options.context {
        add("--context", context.to_string());
    }
    if let Some(kind) = options.cache_type.map(CacheType::name) {
        add("--cache-type", kind.into());
    }
    if let Some(dtype) = options.dtype.map(DType::name) {
        add("--dtype", dtype.into());
    }
    if let Some(form) = options.resident_form.map(Form::name)
        && plan.resident_count() > 0
    {
        add("--resident-form", form.into());
    }
    if let Some(threads) = options.threads {
        add("--threads", threads.to_string());
    }
    words.join(" ")
}

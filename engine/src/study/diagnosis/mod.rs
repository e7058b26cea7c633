//! What is wrong with a run, in plain words. Pure rules over the numbers of runs that were made in
//! turns: nothing here measures, loads or prints. What limits a token is the verdict's to decide,
//! here as in every summary; added is what one window cannot know: the first token, the stages
//! outside the layers, and the other runs. `docs/REPORTS.md` has the rules for people.

mod budget;
mod compare;
mod metrics;
mod symptoms;
#[cfg(test)]
mod tests;
mod words;

use offload::{LayerIndex, Rates, predict};

use crate::machine::CoreShares;
use crate::profile::Sample;
use crate::profile::Stage;
use crate::profile::{Gain, Handover, Verdict};
use metrics::{POST_BAD_MS, USAGE_BAD_PERCENT};

pub use budget::{Budget, BudgetRow};
pub use compare::{Beside, Cause, Comparison, Neighbour, Unclear};
pub use metrics::{Grade, Metric};
pub use symptoms::{Symptoms, TokenTime};

/// Half of a token: what takes more than all layers together, with their waits, is what to look
/// at first.
const OUTSIDE_SHARE: f64 = 0.5;

/// A first wait shorter than this share of a copy means that the copy was mostly there in time.
const COLD_COPY_SHARE: f64 = 0.25;

/// And shorter than this share of a token, which would not be noticed.
const COLD_TOKEN_SHARE: f64 = 0.01;

/// Or than this, whatever the token takes: the wake-up of a thread.
const COLD_MS_MIN: f64 = 0.5;

/// Fewer resident layers cost nothing as long as the predicted token stays within this.
const FREE_LAYERS: f64 = 1.02;

/// The runs that are compared. Only the first is needed; a rule that needs another is silent
/// without it.
#[derive(Debug, Clone)]
pub struct Runs {
    pub as_given: Symptoms,
    pub no_offload: Option<Symptoms>,
    /// The run with more resident layers.
    pub more: Option<Symptoms>,
    /// The run with fewer, where more do not fit.
    pub fewer: Option<Symptoms>,
}

/// Something that holds of a run, with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Diagnosis {
    /// Loads come at need: copies and compute add up.
    PrefetchNotWorking {
        switched_off: bool,
        loads_sync: u64,
        loads: u64,
        pre_ms: f64,
        copy_ms: f64,
        stalled_ms: f64,
        total_ms: f64,
        possible_tokens_per_s: f64,
    },
    /// Giving slots back takes time: something copies.
    SlowRelease { post_ms: f64, release_ms: f64 },
    /// The plan idles the link.
    RingBound {
        slots: usize,
        spread: &'static str,
        stalled_ms: f64,
        tokens_per_s: f64,
        spread_tokens_per_s: f64,
    },
    /// The link is the limit.
    LinkBound {
        stalled_ms: f64,
        total_ms: f64,
        link_gbps: f64,
        peak_gbps: Option<f64>,
        more: Option<Gain>,
        /// Over a link twice as fast.
        twice_tokens_per_s: f64,
    },
    /// Handing small layers over takes longer than moving them.
    LatencyBound {
        handover: Handover,
        stalled_ms: f64,
        total_ms: f64,
    },
    /// The layers are fast, and tokens are not.
    StageOutside {
        stage: Stage,
        stage_ms: f64,
        outside_ms: f64,
        total_ms: f64,
    },
    /// Compute did not have the cores that it asked for.
    Disturbed { cores: CoreShares, total_ms: f64 },
    /// The model's own compute is the limit.
    ComputeBound {
        streamed: usize,
        stalled_ms: f64,
        compute_ms: f64,
        total_ms: f64,
        /// N over no offload.
        ratio: Option<Sample>,
        /// The least N that is predicted to be as fast, and the bytes it would free.
        least: Option<(usize, u64)>,
    },
    /// Only the first token waited. Expected.
    ColdStart {
        layer: LayerIndex,
        first_wait_ms: f64,
        copy_ms: f64,
        stalled_ms: f64,
        total_ms: f64,
    },
}

/// Under half of the loads ahead of need, with prefetch on.
fn prefetch_is_broken(run: &Symptoms) -> bool {
    let percent = run.async_percent();
    run.streaming.prefetch && percent.is_some_and(|percent| percent < USAGE_BAD_PERCENT)
}

impl Runs {
    /// All that holds, the heaviest first.
    pub fn diagnose(&self) -> Vec<Diagnosis> {
        let run = &self.as_given;
        let mut all: Vec<Diagnosis> = [self.limit(), slow_release(run), stage_outside(run)]
            .into_iter()
            .flatten()
            .collect();
        all.sort_by(|a, b| b.weight_ms().total_cmp(&a.weight_ms()));
        all
    }

    /// What limits a token, by the verdict.
    fn limit(&self) -> Option<Diagnosis> {
        let run = &self.as_given;
        if prefetch_is_broken(run) {
            let ahead = predict(&run.streaming.plan, &run.rates).tokens_per_s();
            return Some(prefetch_not_working(run, ahead));
        }
        // Waits that cost nothing: compute and waits would add up to more. They did not, so the
        // rounds were disturbed, and it is compute that counts.
        let waits = matches!(
            run.verdict,
            Verdict::RingBound { .. } | Verdict::LinkBound { .. } | Verdict::LatencyBound(_)
        );
        if waits && self.overhead_is_minimal() {
            return Some(self.compute_bound());
        }
        match run.verdict {
            Verdict::NotPrefetched {
                possible_tokens_per_s,
                ..
            } => Some(prefetch_not_working(run, possible_tokens_per_s)),
            Verdict::RingBound {
                spread_tokens_per_s,
            } => Some(Diagnosis::RingBound {
                slots: run.streaming.plan.slots(),
                spread: run.streaming.plan.spread().name(),
                stalled_ms: run.token.stalled_ms,
                tokens_per_s: 1000.0 / run.token.total_ms,
                spread_tokens_per_s,
            }),
            Verdict::Disturbed(cores) => Some(Diagnosis::Disturbed {
                cores,
                total_ms: run.token.total_ms,
            }),
            Verdict::LinkBound { more, .. } => Some(self.link_bound(more)),
            Verdict::LatencyBound(handover) => Some(Diagnosis::LatencyBound {
                handover,
                stalled_ms: run.token.stalled_ms,
                total_ms: run.token.total_ms,
            }),
            Verdict::Cold { .. } => Some(cold_start(run).unwrap_or_else(|| self.compute_bound())),
            // What is outside the layers is no wait for them and not their compute.
            Verdict::Resident | Verdict::ComputeBound { .. }
                if is_outside(run) || slow_release(run).is_some() =>
            {
                None
            }
            // Only what costs nothing later is no bottleneck.
            Verdict::Resident | Verdict::ComputeBound { .. } => {
                let cold = match self.no_offload.is_none() || self.overhead_is_minimal() {
                    true => cold_start(run),
                    false => None,
                };
                Some(cold.unwrap_or_else(|| self.compute_bound()))
            }
        }
    }

    fn ratio(&self) -> Option<Sample> {
        let without = self.no_offload.as_ref()?;
        Some(self.as_given.token_ms.over(&without.token_ms))
    }

    fn link_bound(&self, more: Option<Gain>) -> Diagnosis {
        let run = &self.as_given;
        let twice = Rates {
            link_bytes_per_s: 2.0 * run.rates.link_bytes_per_s,
            ..run.rates
        };
        Diagnosis::LinkBound {
            stalled_ms: run.token.stalled_ms,
            total_ms: run.token.total_ms,
            link_gbps: run.link_gbps().unwrap_or(0.0),
            peak_gbps: run.streaming.peak_gbps,
            more,
            twice_tokens_per_s: predict(&run.streaming.plan, &twice).tokens_per_s(),
        }
    }

    fn compute_bound(&self) -> Diagnosis {
        let run = &self.as_given;
        let plan = &run.streaming.plan;
        let now_ms = predict(plan, &run.rates).token_ms;
        let as_fast = |&resident: &usize| {
            predict(&plan.resized(resident), &run.rates).token_ms <= FREE_LAYERS * now_ms
        };
        // Where nothing is streamed no link was measured, and nothing can be predicted for one; and
        // what was measured goes before what is predicted.
        let costs = self.no_offload.is_some() && !self.overhead_is_minimal();
        let fewer = match run.streams() && !costs && !self.scales() {
            true => (0..plan.resident_count()).find(as_fast),
            false => None,
        };
        let freed = |resident| {
            let bytes = plan.resized(resident).total_bytes();
            (resident, plan.total_bytes().saturating_sub(bytes))
        };
        Diagnosis::ComputeBound {
            streamed: plan.streamed_count(),
            stalled_ms: run.token.stalled_ms,
            compute_ms: run.token.compute_ms,
            total_ms: run.token.total_ms,
            ratio: self.ratio(),
            least: fewer.map(freed).filter(|&(_, bytes)| bytes > 0),
        }
    }
}

fn prefetch_not_working(run: &Symptoms, possible_tokens_per_s: f64) -> Diagnosis {
    Diagnosis::PrefetchNotWorking {
        switched_off: !run.streaming.prefetch,
        loads_sync: run.loads_sync,
        loads: run.loads_async + run.loads_sync,
        pre_ms: run.worst_pre_ms(),
        copy_ms: run.copy_ms().unwrap_or(0.0),
        stalled_ms: run.token.stalled_ms,
        total_ms: run.token.total_ms,
        possible_tokens_per_s,
    }
}

fn slow_release(run: &Symptoms) -> Option<Diagnosis> {
    let post_ms = run.worst_post_ms();
    (post_ms > POST_BAD_MS).then_some(Diagnosis::SlowRelease {
        post_ms,
        release_ms: run.token.release_ms,
    })
}

fn is_outside(run: &Symptoms) -> bool {
    run.token.share(run.stages_ms()) >= OUTSIDE_SHARE
}

fn stage_outside(run: &Symptoms) -> Option<Diagnosis> {
    let longest = run.stages.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let &(stage, stage_ms) = longest.filter(|_| is_outside(run))?;
    Some(Diagnosis::StageOutside {
        stage,
        stage_ms,
        outside_ms: run.stages_ms(),
        total_ms: run.token.total_ms,
    })
}

/// Tells whether the first wait shows, in a run whose later waits are hidden.
fn cold_start(run: &Symptoms) -> Option<Diagnosis> {
    let copy_ms = run.copy_ms()?;
    let layer = run.layers.first()?.block.layer;
    let noticed = run.first_wait_ms >= COLD_COPY_SHARE * copy_ms
        && run.first_wait_ms >= COLD_MS_MIN
        && run.token.share(run.first_wait_ms) >= COLD_TOKEN_SHARE;
    noticed.then_some(Diagnosis::ColdStart {
        layer,
        first_wait_ms: run.first_wait_ms,
        copy_ms,
        stalled_ms: run.token.stalled_ms,
        total_ms: run.token.total_ms,
    })
}

impl Diagnosis {
    /// The name for programs; it never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PrefetchNotWorking { .. } => "prefetch_not_working",
            Self::SlowRelease { .. } => "slow_release",
            Self::RingBound { .. } => "ring_bound",
            Self::LinkBound { .. } => "link_bound",
            Self::LatencyBound { .. } => "latency_bound",
            Self::StageOutside { .. } => "stage_outside",
            Self::Disturbed { .. } => "disturbed",
            Self::ComputeBound { .. } => "compute_bound",
            Self::ColdStart { .. } => "cold_start",
        }
    }

    /// The part of every token that it stands for; 0 where there is nothing to mend.
    pub fn weight_ms(&self) -> f64 {
        match *self {
            Self::PrefetchNotWorking { stalled_ms, .. }
            | Self::RingBound { stalled_ms, .. }
            | Self::LatencyBound { stalled_ms, .. }
            | Self::LinkBound { stalled_ms, .. } => stalled_ms,
            Self::SlowRelease { release_ms, .. } => release_ms,
            Self::StageOutside { outside_ms, .. } => outside_ms,
            // It is what all other numbers suffer from.
            Self::Disturbed { total_ms, .. } => total_ms,
            Self::ComputeBound { compute_ms, .. } => compute_ms,
            Self::ColdStart { .. } => 0.0,
        }
    }
}

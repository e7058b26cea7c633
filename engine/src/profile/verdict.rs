//! What limits this run, and what would move it: decided from measured times and the predictor.

use std::fmt;

use offload::{Rates, ResidencyPlan, predict};

use super::core_time::CoreShares;
use super::window::{Means, Streaming, Window};
use offload::LoadKind;

/// Stalls below this share of a token are called hidden.
const HIDDEN_STALL_SHARE: f64 = 0.05;

/// A plan is to blame when a better spread would take less than this share of its time.
const RING_GAIN: f64 = 0.95;

/// The limit of a run in one sentence.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing is streamed: the model's own compute is the limit.
    Resident,
    /// Loads are issued at need: copies and compute add up.
    NotPrefetched {
        loads_sync: usize,
        layers: usize,
        possible_tokens_per_s: f64,
    },
    /// The plan itself idles the link: a run of streamed layers, or a single slot.
    RingBound { spread_tokens_per_s: f64 },
    /// Compute did not have the cores that it asked for: what limits it otherwise does not show.
    Disturbed(CoreShares),
    /// Copies are hidden behind compute.
    ComputeBound { stall_share: f64 },
    /// The link is the limit, prefetched or not.
    LinkBound { more: Option<Gain>, all_ahead: bool },
}

/// What a few more resident layers would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    pub layers: usize,
    pub tokens_per_s: f64,
}

/// A window against the physical limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub floor_ms: f64,
    pub link_gbps: f64,
}

impl Streaming {
    /// The floor of a token, with the measured peak of the link or, where none was measured, with
    /// what its copies reached.
    pub(super) fn limit(&self, means: &Means) -> Limit {
        let link_gbps = self
            .peak_gbps
            .or(means.copy_gbps())
            .unwrap_or(f64::INFINITY);
        let copies_ms = means.bytes_per_pass() / link_gbps / 1e6;
        let compute_ms = means.compute_ms() + means.other_ms();
        Limit {
            floor_ms: copies_ms.max(compute_ms),
            link_gbps,
        }
    }

    /// What limited the passes of a window.
    pub fn verdict(&self, window: &Window) -> Verdict {
        let means = window.means();
        let stall_share = means.stalled_ms() / means.token_ms();
        let lacking = window.cores().lacking();
        // Where the link is waited for longer than a core, the link is what counts.
        let disturbed = lacking.filter(|shares| shares.lacked() > stall_share);
        if self.plan.streamed_count() == 0 {
            return disturbed.map_or(Verdict::Resident, Verdict::Disturbed);
        }
        let layers = window.layers().len();
        let loads_sync = (window.layers())
            .filter(|layer| layer.kind == LoadKind::Sync)
            .count();
        let rates = self.rates(means);
        if !self.prefetch {
            let ahead = Rates {
                prefetch: true,
                ..rates
            };
            let possible_tokens_per_s = predict(&self.plan, &ahead).tokens_per_s();
            return Verdict::NotPrefetched {
                loads_sync,
                layers,
                possible_tokens_per_s,
            };
        }
        if let Some(shares) = disturbed {
            return Verdict::Disturbed(shares);
        }
        if stall_share < HIDDEN_STALL_SHARE {
            return Verdict::ComputeBound { stall_share };
        }
        let as_planned = predict(&self.plan, &rates).token_ms;
        let spread = predict(&self.plan.respread(2), &rates);
        if spread.token_ms < as_planned * RING_GAIN {
            let spread_tokens_per_s = spread.tokens_per_s();
            return Verdict::RingBound {
                spread_tokens_per_s,
            };
        }
        let all_ahead = window.layers().all(|layer| layer.kind == LoadKind::Async);
        Verdict::LinkBound {
            more: self.gain(&rates),
            all_ahead,
        }
    }

    /// What was measured, as the predictor takes it.
    pub(super) fn rates(&self, means: &Means) -> Rates {
        Rates {
            link_bytes_per_s: self.limit(means).link_gbps * 1e9,
            layer_ms: means.compute_ms() / self.plan.layers() as f64,
            other_ms: means.other_ms(),
            prefetch: self.prefetch,
            start_ms: 0.0,
        }
    }

    /// One more resident layer, or two where there are two: predicted, not extrapolated.
    fn gain(&self, rates: &Rates) -> Option<Gain> {
        let layers = self.plan.streamed_count().min(2);
        let more: ResidencyPlan = self.plan.resized(self.plan.resident_count() + layers);
        let now = predict(&self.plan, rates).tokens_per_s();
        let tokens_per_s = predict(&more, rates).tokens_per_s() - now;
        (tokens_per_s > 0.0).then_some(Gain {
            layers,
            tokens_per_s,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resident => {
                f.write_str("compute-bound. Every layer is resident; nothing is streamed.")
            }
            Self::NotPrefetched {
                loads_sync,
                layers,
                possible_tokens_per_s: rate,
            } => write!(
                f,
                "not prefetched. {loads_sync} of {layers} layers were loaded at need; \
                 prefetching them would give {rate:.1} tok/s."
            ),
            Self::RingBound {
                spread_tokens_per_s: rate,
            } => write!(
                f,
                "ring-bound. The link idles between layers; --resident spread with 2 slots would \
                 give {rate:.1} tok/s."
            ),
            Self::Disturbed(shares) => write!(
                f,
                "disturbed. The {shares}; times and floors of this stretch say little. {}",
                match shares.by_others() {
                    true => "Run again when the machine is quiet.",
                    false => "Use fewer --threads, or give the process more cores.",
                }
            ),
            Self::ComputeBound { stall_share } => write!(
                f,
                "compute-bound. Streaming is hidden behind compute; stalls are {:.1}% of a token.",
                stall_share * 100.0
            ),
            Self::LinkBound { more, all_ahead } => {
                f.write_str("link-bound. ")?;
                f.write_str(if *all_ahead {
                    "Every load was prefetched; "
                } else {
                    "Some loads came late; "
                })?;
                match more {
                    Some(Gain {
                        layers: 1,
                        tokens_per_s,
                    }) => {
                        write!(
                            f,
                            "1 more resident layer would give +{tokens_per_s:.1} tok/s."
                        )
                    }
                    Some(Gain {
                        layers,
                        tokens_per_s,
                    }) => write!(
                        f,
                        "{layers} more resident layers would give +{tokens_per_s:.1} tok/s."
                    ),
                    None => f.write_str("only a faster link or fewer bytes would help."),
                }
            }
        }
    }
}

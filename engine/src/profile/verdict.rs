//! What limits this run, and what would move it: decided from measured times, the link's share of
//! its peak, and the predictor. Each verdict is there for a reason of its own; none is what is left
//! over.

use std::fmt;

use loader::units::rate as digits;
use offload::{LoadKind, Rates, ResidencyPlan, predict};

use super::window::{Means, Streaming, Window};
use crate::machine::CoreShares;

/// Stalls below this share of a token are called hidden.
const HIDDEN_STALL_SHARE: f64 = 0.05;

/// A plan is to blame when a better spread would take less than this share of its time.
const RING_GAIN: f64 = 0.95;

/// A link that carries less than this share of its peak is not what limits a run.
const CARRIES_SHARE: f64 = 0.5;

/// An emulated bus that carries less than this share of what it was set to is not that bus.
const IS_BUS_SHARE: f64 = 0.95;

/// Handing a layer over wakes two or three threads, which takes tens of microseconds, and a few
/// hundred beside busy cores. A layer that comes later than this is late for another reason.
pub(crate) const HANDOVER_MS_MAX: f64 = 1.0;

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
    /// Handing over small layers takes longer than moving them: the link idles meanwhile.
    LatencyBound(Handover),
    /// The first load into each slot was waited for, and nothing else.
    Cold { cold_ms: f64, token_ms: f64 },
    /// Compute takes the most of a token. Copies are hidden behind it, or nearly.
    ComputeBound { stall_share: f64 },
    /// The link is the limit, prefetched or not.
    LinkBound {
        more: Option<Gain>,
        all_ahead: bool,
        /// Its share of its peak, where that is small: it is slower than it was, or asked late.
        slow_share: Option<f64>,
    },
}

/// What a few more resident layers would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    pub layers: usize,
    pub tokens_per_s: f64,
}

/// What it takes to hand small layers over, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Handover {
    /// A layer's wait beyond what the predictor has for it at the link's peak.
    pub each_ms: f64,
    /// A layer's copy at that peak.
    pub copy_ms: f64,
    pub layers: usize,
    pub tokens_per_s: f64,
    /// With every layer resident, from compute and the stages outside the layers alone.
    pub resident_tokens_per_s: f64,
    /// Whether there is memory for that.
    pub all_fit: bool,
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
        // What was reached is possible, whatever was measured before.
        let reached_gbps = means.bytes_per_pass() / means.token_ms() / 1e6;
        let link_gbps = match means.bytes {
            0 => link_gbps,
            _ => link_gbps.max(reached_gbps),
        };
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
        let token_ms = means.token_ms();
        let stall_share = means.stalled_ms() / token_ms;
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
            let possible_tokens_per_s = means.tokens_per_s(predict(&self.plan, &ahead).token_ms);
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
        let cold_ms = means.cold_ms();
        if (means.stalled_ms() - cold_ms) / token_ms < HIDDEN_STALL_SHARE {
            return Verdict::Cold { cold_ms, token_ms };
        }
        if let Some(handover) = self.handover(means, &rates) {
            return Verdict::LatencyBound(handover);
        }
        let as_planned = predict(&self.plan, &rates).token_ms;
        let spread = predict(&self.plan.respread(2), &rates);
        if spread.token_ms < as_planned * RING_GAIN {
            let spread_tokens_per_s = means.tokens_per_s(spread.token_ms);
            return Verdict::RingBound {
                spread_tokens_per_s,
            };
        }
        let copies_ms = means.bytes_per_pass() / rates.link_bytes_per_s * 1e3;
        let link_share = copies_ms / token_ms;
        // A link that idles while it is waited for has no core to be served by.
        if let Some(shares) = lacking.filter(|_| link_share < CARRIES_SHARE) {
            return Verdict::Disturbed(shares);
        }
        if link_share < CARRIES_SHARE && stall_share < CARRIES_SHARE {
            return Verdict::ComputeBound { stall_share };
        }
        let all_ahead = window.layers().all(|layer| layer.kind == LoadKind::Async);
        Verdict::LinkBound {
            more: self.gain(means, &rates),
            all_ahead,
            slow_share: (link_share < CARRIES_SHARE).then_some(link_share),
        }
    }

    /// Where the waits that the link's peak does not explain are longer than the copies, and short
    /// enough to be wake-ups of threads: what a layer's handover takes.
    fn handover(&self, means: &Means, rates: &Rates) -> Option<Handover> {
        let layers = self.plan.streamed_count();
        let copy_ms = self.plan.link_bytes_each() / rates.link_bytes_per_s * 1e3;
        let at_once = Rates {
            start_ms: 0.0,
            ..*rates
        };
        let waits_ms = means.stalled_ms() - predict(&self.plan, &at_once).stall_ms;
        let each_ms = waits_ms / layers as f64;
        (each_ms > copy_ms && each_ms < HANDOVER_MS_MAX).then(|| Handover {
            each_ms,
            copy_ms,
            layers,
            tokens_per_s: means.tokens_per_s(means.token_ms()),
            resident_tokens_per_s: means.tokens_per_s(means.compute_ms() + means.other_ms()),
            all_fit: self.plan.resized(self.plan.layers()).fits(),
        })
    }

    /// What was measured, as the predictor takes it.
    pub(crate) fn rates(&self, means: &Means) -> Rates {
        let link_gbps = self.limit(means).link_gbps;
        let link_gbps = self.bus_gbps(means).unwrap_or(link_gbps);
        let copy_ms = self.plan.link_bytes_each() / link_gbps / 1e6;
        // Where copies were always under way, none shows what starting one takes, and it is hidden.
        let alone_ms = means.alone_ms().unwrap_or(0.0);
        Rates {
            link_bytes_per_s: link_gbps * 1e9,
            start_ms: (alone_ms - copy_ms).max(0.0),
            layer_ms: means.compute_ms() / self.plan.layers() as f64,
            other_ms: means.other_ms(),
            prefetch: self.prefetch,
        }
    }

    /// What an emulated bus carried while it was at it: less than it was set to where memory copies
    /// slower.
    fn bus_gbps(&self, means: &Means) -> Option<f64> {
        let (set, reached) = self.link.emulated_gbps.zip(means.copy_gbps())?;
        Some(reached.min(set))
    }

    /// The same, where that is too little to be the bus that was asked for.
    pub(super) fn slow_bus_gbps(&self, means: &Means) -> Option<f64> {
        let least = self.link.emulated_gbps? * IS_BUS_SHARE;
        self.bus_gbps(means).filter(|reached| *reached < least)
    }

    /// One more resident layer, or two where there are two: predicted, not extrapolated.
    fn gain(&self, means: &Means, rates: &Rates) -> Option<Gain> {
        let layers = self.plan.streamed_count().min(2);
        let more: ResidencyPlan = self.plan.resized(self.plan.resident_count() + layers);
        let rate = |plan| means.tokens_per_s(predict(plan, rates).token_ms);
        let tokens_per_s = rate(&more) - rate(&self.plan);
        (tokens_per_s > 0.0).then_some(Gain {
            layers,
            tokens_per_s,
        })
    }
}

impl Verdict {
    /// For programs; never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Resident | Self::ComputeBound { .. } => "compute_bound",
            Self::NotPrefetched { .. } => "not_prefetched",
            Self::RingBound { .. } => "ring_bound",
            Self::Disturbed(_) => "disturbed",
            Self::LatencyBound(_) => "latency_bound",
            Self::Cold { .. } => "cold",
            Self::LinkBound { .. } => "link_bound",
        }
    }
}

/// What it takes, and what would help, to go on after a name: shared with the diagnosis.
impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            each_ms,
            copy_ms,
            layers,
            tokens_per_s,
            resident_tokens_per_s,
            all_fit,
        } = *self;
        write!(
            f,
            "handing a layer over takes {each_ms:.3} ms, its copy {copy_ms:.3} at the link's peak. "
        )?;
        if all_fit {
            write!(
                f,
                "Keep all layers resident (--num-gpu-layers all): {} tok/s \
                 instead of {}, predicted.",
                digits(resident_tokens_per_s),
                digits(tokens_per_s)
            )
        } else {
            // Its share of the waits is all that a layer that stays can save.
            let token_ms = 1000.0 / tokens_per_s;
            let saved_ms = (token_ms - 1000.0 / resident_tokens_per_s) / layers as f64;
            let more = 1000.0 / (token_ms - saved_ms) - tokens_per_s;
            write!(
                f,
                "Every more resident layer gives about +{} tok/s, predicted; all of them \
                 do not fit into the memory of this plan.",
                digits(more)
            )
        }
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
                 prefetching them would give {} tok/s.",
                digits(*rate)
            ),
            Self::RingBound {
                spread_tokens_per_s: rate,
            } => write!(
                f,
                "ring-bound. The link idles between layers; --resident spread with 2 slots would \
                 give {} tok/s.",
                digits(*rate)
            ),
            Self::Disturbed(shares) => write!(
                f,
                "disturbed. The {shares}; times and floors of this stretch say little. {}",
                match shares.by_others() {
                    true => "Run again when the machine is quiet.",
                    false => "Use fewer --threads, or give the process more cores.",
                }
            ),
            Self::LatencyBound(handover) => {
                write!(f, "latency-bound. The layers are small: {handover}")
            }
            Self::Cold { cold_ms, token_ms } => write!(
                f,
                "cold. The first loads were waited for, {cold_ms:.2} of {token_ms:.2} ms; later \
                 passes do not have that."
            ),
            Self::ComputeBound { stall_share } if *stall_share < HIDDEN_STALL_SHARE => write!(
                f,
                "compute-bound. Streaming is hidden behind compute; stalls are {:.1}% of a token.",
                stall_share * 100.0
            ),
            Self::ComputeBound { stall_share } => write!(
                f,
                "compute-bound. Waiting for layers takes {:.0}% of a token, computing the rest.",
                stall_share * 100.0
            ),
            Self::LinkBound {
                more,
                all_ahead,
                slow_share,
            } => {
                f.write_str("link-bound. ")?;
                match (slow_share, all_ahead) {
                    (Some(share), _) => write!(
                        f,
                        "It carries {:.0}% of its peak: it is slower than when that was measured, \
                         or its copies start late; ",
                        share * 100.0
                    )?,
                    (None, true) => f.write_str("Every load was prefetched; ")?,
                    (None, false) => f.write_str("Some loads came late; ")?,
                }
                match more {
                    Some(Gain {
                        layers: 1,
                        tokens_per_s,
                    }) => {
                        write!(
                            f,
                            "1 more resident layer would give +{} tok/s.",
                            digits(*tokens_per_s)
                        )
                    }
                    Some(Gain {
                        layers,
                        tokens_per_s,
                    }) => write!(
                        f,
                        "{layers} more resident layers would give +{} tok/s.",
                        digits(*tokens_per_s)
                    ),
                    None => f.write_str("at its peak these waits would be hidden."),
                }
            }
        }
    }
}

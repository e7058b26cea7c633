//! The guide's comparison rules, over ratios that were taken within rounds.

use super::metrics::POST_BAD_MS;
use super::{Runs, Symptoms, prefetch_is_broken};
use crate::profile::Sample;
use crate::profile::{HANDOVER_MS_MAX, Verdict};

/// Slower by less than this is about equal: no reader of the text would notice.
pub(super) const ABOUT_EQUAL: f64 = 1.05;

/// A round that is further from equal than this may be either: the median then says nothing.
const TOO_WIDE: f64 = 1.1;

/// More rounds are not suggested.
pub(super) const REPEATS_MOST: usize = 99;

/// From here on a run is far above the one without offload, and not merely above.
pub(super) const FAR_ABOVE: f64 = 2.0;

/// Slower than the predictor says by this much: no link explains it. The predictor has no fudge
/// factor, and real rings come within a few percent of it where the machine is quiet.
const BROKEN: f64 = 1.5;

#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// N about equal to no offload: good, unless something is broken all the same.
    OverheadMinimal { ratio: Sample, good: bool },
    /// The runs do not tell.
    Unclear {
        beside: Beside,
        ratio: Sample,
        why: Unclear,
    },
    /// N above no offload.
    Overhead { ratio: Sample, cause: Cause },
    /// More resident layers are faster.
    Scales {
        beside: Neighbour,
        layers: usize,
        ratio: Sample,
    },
    /// They are not, or not beyond the noise.
    ScalesNot {
        beside: Neighbour,
        layers: usize,
        ratio: Sample,
    },
}

/// What a comparison that says nothing was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    NoOffload,
    Neighbour(Neighbour, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// The rounds differ too much.
    Spread,
    /// Compute did not have the cores that it asked for.
    Disturbed,
    /// The waits of the run say otherwise.
    Waits,
}

/// The run that tells whether resident layers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// N+4, or all.
    More,
    /// N-4, or none: where more do not fit.
    Fewer,
}

/// Why a run with offload takes longer than one without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    PrefetchOff,
    /// Broken: the worker does not keep up.
    NotPrefetched {
        percent: u64,
    },
    /// Broken: something copies back.
    SlowRelease {
        post_ms: f64,
    },
    /// Broken: slower than the measured rates allow for.
    AboveForecast {
        measured_ms: f64,
        predicted_ms: f64,
    },
    /// As fast as layers of this size are handed over.
    LatencyBound {
        stalled_ms: f64,
    },
    /// Nothing can be said.
    Disturbed,
    /// As fast as this link is.
    LinkBound {
        stalled_ms: f64,
        predicted_ms: f64,
    },
    /// As fast as this plan is.
    RingBound {
        stalled_ms: f64,
        predicted_ms: f64,
    },
    /// Nothing waits for the link, but copies and compute share the machine.
    Contention {
        compute_ms: f64,
        alone_ms: f64,
    },
}

impl Comparison {
    pub fn name(&self) -> &'static str {
        match self {
            Self::OverheadMinimal { .. } => "overhead_minimal",
            Self::Unclear { .. } => "unclear",
            Self::Overhead { .. } => "overhead",
            Self::Scales { .. } => "scales",
            Self::ScalesNot { .. } => "scales_not",
        }
    }

    /// N over no offload, N over N+4, or N-4 over N: above 1 is slower, or what the layers gain.
    pub fn ratio(&self) -> &Sample {
        match self {
            Self::OverheadMinimal { ratio, .. }
            | Self::Unclear { ratio, .. }
            | Self::Overhead { ratio, .. }
            | Self::Scales { ratio, .. }
            | Self::ScalesNot { ratio, .. } => ratio,
        }
    }
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Self::PrefetchOff => "prefetch_off",
            Self::NotPrefetched { .. } => "not_prefetched",
            Self::SlowRelease { .. } => "slow_release",
            Self::AboveForecast { .. } => "above_forecast",
            Self::LatencyBound { .. } => "latency_bound",
            Self::Disturbed => "disturbed",
            Self::LinkBound { .. } => "link_bound",
            Self::RingBound { .. } => "ring_bound",
            Self::Contention { .. } => "contention",
        }
    }
}

impl Runs {
    /// What the runs say beside each other. Nothing here may contradict what [`Runs::diagnose`]
    /// says: the tests hold a grid of cases against that.
    pub fn compare(&self) -> Vec<Comparison> {
        let run = &self.as_given;
        let overhead = self.no_offload.as_ref().map(|without| {
            let ratio = run.token_ms.over(&without.token_ms);
            let unclear = |why| Comparison::Unclear {
                beside: Beside::NoOffload,
                ratio: ratio.clone(),
                why,
            };
            match spread(&ratio) {
                _ if self.is_disturbed() => unclear(Unclear::Disturbed),
                Spread::TooWide => unclear(Unclear::Spread),
                Spread::AboutEqual => Comparison::OverheadMinimal {
                    good: !prefetch_is_broken(run)
                        && run.streaming.prefetch
                        && run.worst_post_ms() <= POST_BAD_MS,
                    ratio,
                },
                Spread::Above => {
                    let cause = self.cause(without);
                    Comparison::Overhead { ratio, cause }
                }
            }
        });
        overhead.into_iter().chain(self.neighbour()).collect()
    }

    /// Whether the run with more resident layers is faster, where there is one.
    fn neighbour(&self) -> Option<Comparison> {
        let run = &self.as_given;
        // With fewer than four layers left, all of them are the next step.
        let more = self.more.as_ref().or(self.no_offload.as_ref());
        let (beside, less, more) = match (more, &self.fewer) {
            (Some(more), _) => (Neighbour::More, run, more),
            (None, Some(fewer)) => (Neighbour::Fewer, fewer, run),
            (None, None) => return None,
        };
        let resident = |of: &Symptoms| of.streaming.plan.resident_count();
        let layers = resident(more).saturating_sub(resident(less));
        let ratio = less.token_ms.over(&more.token_ms);
        let waits = beside == Neighbour::More
            && !self.overhead_is_minimal()
            && matches!(
                run.verdict,
                Verdict::LinkBound { .. } | Verdict::LatencyBound(_)
            );
        let scales = ratio.median() > 1.0 && !ratio.is_noise();
        let unclear = match spread(&ratio) {
            _ if self.is_disturbed() => Some(Unclear::Disturbed),
            _ if scales => None,
            Spread::TooWide => Some(Unclear::Spread),
            _ if waits => Some(Unclear::Waits),
            _ => None,
        };
        Some(match (unclear, scales) {
            (Some(why), _) => Comparison::Unclear {
                beside: Beside::Neighbour(beside, layers),
                ratio,
                why,
            },
            (None, true) => Comparison::Scales {
                beside,
                layers,
                ratio,
            },
            (None, false) => Comparison::ScalesNot {
                beside,
                layers,
                ratio,
            },
        })
    }

    fn is_disturbed(&self) -> bool {
        matches!(self.as_given.verdict, Verdict::Disturbed(_))
    }

    /// N was measured to be about equal to no offload.
    pub(super) fn overhead_is_minimal(&self) -> bool {
        (self.ratio()).is_some_and(|ratio| spread(&ratio) == Spread::AboutEqual)
    }

    /// More resident layers were measured to be faster.
    pub(super) fn scales(&self) -> bool {
        matches!(self.neighbour(), Some(Comparison::Scales { .. }))
    }

    fn cause(&self, without: &Symptoms) -> Cause {
        let run = &self.as_given;
        let predicted_ms = self.budget().total.predicted_ms;
        let measured_ms = run.token.total_ms;
        let stalled_ms = run.token.stalled_ms;
        if !run.streaming.prefetch {
            Cause::PrefetchOff
        } else if prefetch_is_broken(run) {
            let percent = run.async_percent().unwrap_or(0);
            Cause::NotPrefetched { percent }
        } else if run.worst_post_ms() > POST_BAD_MS {
            let post_ms = run.worst_post_ms();
            Cause::SlowRelease { post_ms }
        } else {
            // Beyond what wake-ups explain: a factor alone says little of microseconds.
            let wake_ups_ms = run.streaming.plan.streamed_count() as f64 * HANDOVER_MS_MAX;
            let broken = measured_ms > BROKEN * predicted_ms
                && measured_ms - predicted_ms > wake_ups_ms
                && stalled_ms > predicted_ms;
            match run.verdict {
                Verdict::Disturbed(_) => Cause::Disturbed,
                Verdict::LatencyBound(_) => Cause::LatencyBound { stalled_ms },
                Verdict::RingBound { .. } | Verdict::LinkBound { .. } if broken => {
                    Cause::AboveForecast {
                        measured_ms,
                        predicted_ms,
                    }
                }
                Verdict::RingBound { .. } => Cause::RingBound {
                    stalled_ms,
                    predicted_ms,
                },
                Verdict::LinkBound { .. } => Cause::LinkBound {
                    stalled_ms,
                    predicted_ms,
                },
                _ => Cause::Contention {
                    compute_ms: run.token.compute_ms,
                    alone_ms: without.token.compute_ms,
                },
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// Less than anybody notices, in every round but for a little.
    AboutEqual,
    Above,
    /// Some rounds say this and some that.
    TooWide,
}

fn spread(ratio: &Sample) -> Spread {
    let equal = ratio.median() <= ABOUT_EQUAL;
    let (least, most) = (ratio.least(), ratio.most());
    if equal && (most <= TOO_WIDE || most <= 1.0) && (least >= 1.0 / TOO_WIDE || !ratio.is_noise())
    {
        Spread::AboutEqual
    } else if !equal && (!ratio.is_noise() || least > ABOUT_EQUAL) {
        Spread::Above
    } else {
        Spread::TooWide
    }
}

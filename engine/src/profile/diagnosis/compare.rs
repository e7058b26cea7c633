//! The guide's comparison rules, over ratios that were taken within rounds.

use std::fmt;

use super::super::sample::Sample;
use super::super::verdict::Verdict;
use super::metrics::POST_BAD_MS;
use super::{Runs, Symptoms, prefetch_is_broken};

/// Slower by less than this is about equal: no reader of the text would notice.
pub(super) const ABOUT_EQUAL: f64 = 1.05;

/// From here on a run is far above the one without offload, and not merely above.
const FAR_ABOVE: f64 = 2.0;

/// Slower than the predictor says by this much: no link explains it. The predictor has no fudge
/// factor, and real rings come within a few percent of it where the machine is quiet.
const BROKEN: f64 = 1.5;

#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// N about equal to no offload: good.
    OverheadMinimal { ratio: Sample },
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
            Self::Overhead { .. } => "overhead",
            Self::Scales { .. } => "scales",
            Self::ScalesNot { .. } => "scales_not",
        }
    }

    /// N over no offload, N over N+4, or N-4 over N: above 1 is slower, or what the layers gain.
    pub fn ratio(&self) -> &Sample {
        match self {
            Self::OverheadMinimal { ratio }
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
            Self::LinkBound { .. } => "link_bound",
            Self::RingBound { .. } => "ring_bound",
            Self::Contention { .. } => "contention",
        }
    }
}

impl Runs {
    pub fn compare(&self) -> Vec<Comparison> {
        let run = &self.as_given;
        let overhead = self.no_offload.as_ref().map(|without| {
            let ratio = run.token_ms.over(&without.token_ms);
            if about_equal(&ratio) {
                Comparison::OverheadMinimal { ratio }
            } else {
                let cause = self.cause(without);
                Comparison::Overhead { ratio, cause }
            }
        });
        // With fewer than four layers left, all of them are the next step.
        let more = self.more.as_ref().or(self.no_offload.as_ref());
        let scales = match (more, &self.fewer) {
            (Some(more), _) => Some(scales(Neighbour::More, run, more)),
            (None, Some(fewer)) => Some(scales(Neighbour::Fewer, fewer, run)),
            (None, None) => None,
        };
        overhead.into_iter().chain(scales).collect()
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
        } else if measured_ms > BROKEN * predicted_ms {
            Cause::AboveForecast {
                measured_ms,
                predicted_ms,
            }
        } else {
            match run.verdict {
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

/// Whether the run with `more` resident layers is faster than the one with `less`.
fn scales(beside: Neighbour, less: &Symptoms, more: &Symptoms) -> Comparison {
    let resident = |of: &Symptoms| of.streaming.plan.resident_count();
    let layers = resident(more).saturating_sub(resident(less));
    let ratio = less.token_ms.over(&more.token_ms);
    if ratio.median() > 1.0 && !ratio.is_noise() {
        Comparison::Scales {
            beside,
            layers,
            ratio,
        }
    } else {
        Comparison::ScalesNot {
            beside,
            layers,
            ratio,
        }
    }
}

/// Less than anybody notices, or not more than the rounds differ among themselves.
fn about_equal(ratio: &Sample) -> bool {
    ratio.median() <= ABOUT_EQUAL || (ratio.is_noise() && ratio.least() <= ABOUT_EQUAL)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noise = |ratio: &Sample| match (ratio.len(), ratio.is_noise()) {
            (1, _) => "; one round says nothing of the noise",
            (_, true) => "; the difference is noise",
            (_, false) => "",
        };
        match self {
            Self::OverheadMinimal { ratio } => write!(
                f,
                "N takes {ratio} of no offload's time{}: overhead minimal, GOOD.",
                noise(ratio)
            ),
            Self::Overhead { ratio, cause } => {
                let far = match ratio.median() >= FAR_ABOVE {
                    true => "far above it",
                    false => "above it",
                };
                write!(f, "N takes {ratio} of no offload's time, {far}: {cause}.")
            }
            Self::Scales {
                beside: Neighbour::More,
                layers,
                ratio,
            } => write!(
                f,
                "N+{layers} is faster: N takes {ratio} of its time. It scales; give it more \
                 resident layers."
            ),
            Self::Scales {
                beside: Neighbour::Fewer,
                layers,
                ratio,
            } => write!(
                f,
                "N-{layers} is slower: it takes {ratio} of N's time. It scales; memory for more \
                 resident layers would pay."
            ),
            Self::ScalesNot {
                beside: Neighbour::More,
                layers,
                ratio,
            } => write!(
                f,
                "N+{layers} is not faster: N takes {ratio} of its time{}. More resident layers \
                 would be wasted.",
                noise(ratio)
            ),
            Self::ScalesNot {
                beside: Neighbour::Fewer,
                layers,
                ratio,
            } => write!(
                f,
                "N-{layers} is not slower: it takes {ratio} of N's time{}. The last {layers} \
                 resident layers gain nothing.",
                noise(ratio)
            ),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefetchOff => f.write_str("not broken, prefetch is switched off"),
            Self::NotPrefetched { percent } => write!(
                f,
                "offloading is broken, only {percent}% of the loads were ahead of need"
            ),
            Self::SlowRelease { post_ms } => write!(
                f,
                "offloading is broken, giving a slot back takes {post_ms:.1} ms"
            ),
            Self::AboveForecast {
                measured_ms,
                predicted_ms,
            } => write!(
                f,
                "offloading is broken, or the link was slower than its measured peak: \
                 {measured_ms:.2} ms a token where the measured rates give {predicted_ms:.2}"
            ),
            Self::LinkBound {
                stalled_ms,
                predicted_ms,
            } => write!(
                f,
                "link-bound and not broken, {stalled_ms:.2} ms a token wait for the link and the \
                 measured rates give {predicted_ms:.2} ms in all"
            ),
            Self::RingBound {
                stalled_ms,
                predicted_ms,
            } => write!(
                f,
                "the plan idles the link and nothing is broken, {stalled_ms:.2} ms a token wait \
                 and the measured rates give {predicted_ms:.2} ms in all"
            ),
            Self::Contention {
                compute_ms,
                alone_ms,
            } => write!(
                f,
                "nothing waits for the link, but copies and compute share this machine; compute \
                 takes {compute_ms:.2} ms a token, and {alone_ms:.2} alone"
            ),
        }
    }
}

//! The guide's metrics, judged twice: by the guide's own thresholds, and against what a layer's
//! copy takes at the measured peak. 45 ms are good by the guide, and not where a copy takes 19.

use std::fmt;

use super::symptoms::Symptoms;
use crate::profile::HANDOVER_MS_MAX;

/// The guide's thresholds. Between good and bad lies what deserves a look.
const PRE_GOOD_MS: f64 = 100.0;
const PRE_BAD_MS: f64 = 300.0;
const POST_GOOD_MS: f64 = 1.0;
pub(super) const POST_BAD_MS: f64 = 200.0;
pub(super) const USAGE_BAD_PERCENT: u64 = 50;

/// Less than this share of a copy: most of it was hidden.
const HIDDEN_SHARE: f64 = 0.5;

/// Or than this: a wait for a thread to wake up is longer than the copy of a layer of microseconds.
const HIDDEN_MS: f64 = 0.05;

/// More than this many copies: not the link's time, but something before it.
const LATE_COPIES: f64 = 1.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    Good,
    Between,
    Bad,
}

impl Grade {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Between => "between",
            Self::Bad => "bad",
        }
    }

    /// Good below, bad above.
    fn of(value: f64, good: f64, bad: f64) -> Self {
        match value {
            value if value < good => Self::Good,
            value if value > bad => Self::Bad,
            _ => Self::Between,
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    /// In percent or milliseconds, as the name says; tags are counted.
    pub value: f64,
    pub text: String,
    pub good: &'static str,
    pub bad: &'static str,
    pub guide: Grade,
    /// Against the floor that was measured.
    pub measured: Grade,
    pub why: String,
}

impl Symptoms {
    /// None where nothing is streamed: there is nothing to judge.
    pub fn metrics(&self) -> Vec<Metric> {
        let (Some(percent), Some(copy_ms)) = (self.async_percent(), self.copy_ms()) else {
            return Vec::new();
        };
        let usage = match percent {
            100 => Grade::Good,
            percent if percent < USAGE_BAD_PERCENT => Grade::Bad,
            _ => Grade::Between,
        };
        let (ahead, layers) = (self.layers_ahead(), self.layers.len());
        let tags = match ahead {
            ahead if ahead == layers => Grade::Good,
            // Many: as the usage has it.
            ahead if ahead * 100 < layers * USAGE_BAD_PERCENT as usize => Grade::Bad,
            _ => Grade::Between,
        };
        let (pre_ms, post_ms) = (self.worst_pre_ms(), self.worst_post_ms());
        let at_peak = format!("a copy takes {copy_ms:.2} ms at the link's peak");
        vec![
            Metric {
                name: "async_usage_percent",
                value: percent as f64,
                text: format!("{percent}%"),
                good: "100%",
                bad: "under 50%",
                guide: usage,
                measured: usage,
                why: format!("{} loads in all", self.loads_async + self.loads_sync),
            },
            Metric {
                name: "pre_ms",
                value: pre_ms,
                text: format!("{pre_ms:.2} ms"),
                good: "under 100 ms",
                bad: "over 300 ms",
                guide: Grade::of(pre_ms, PRE_GOOD_MS, PRE_BAD_MS),
                measured: Grade::of(
                    pre_ms,
                    HIDDEN_MS.max(HIDDEN_SHARE * copy_ms),
                    HANDOVER_MS_MAX.max(LATE_COPIES * copy_ms),
                ),
                why: at_peak,
            },
            Metric {
                name: "post_ms",
                value: post_ms,
                text: format!("{post_ms:.2} ms"),
                good: "under 1 ms",
                bad: "over 200 ms",
                guide: Grade::of(post_ms, POST_GOOD_MS, POST_BAD_MS),
                measured: Grade::of(post_ms, POST_GOOD_MS, POST_GOOD_MS.max(copy_ms)),
                why: "nothing is copied back".into(),
            },
            Metric {
                name: "tags_async",
                value: ahead as f64,
                text: format!("{ahead} of {layers} layers ASYNC"),
                good: "all ASYNC",
                bad: "many SYNC",
                guide: tags,
                measured: tags,
                why: "in every token".into(),
            },
        ]
    }
}

//! Diagnoses and comparisons as sentences: what holds, with its numbers; then the next step.

use std::fmt;

use loader::units::{memory, rate};

use super::compare::{FAR_ABOVE, REPEATS_MOST};
use super::{Beside, Cause, Comparison, Diagnosis, Neighbour, Unclear};
use crate::profile::Gain;
use crate::profile::PercentOf;
use crate::profile::Sample;

/// What holds, with its numbers; then the next step.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefetchNotWorking {
                switched_off,
                loads_sync,
                loads,
                pre_ms,
                copy_ms,
                stalled_ms,
                total_ms,
                possible_tokens_per_s,
            } => {
                let (what, next) = match switched_off {
                    true => ("Prefetch is switched off", "leave out --no-prefetch"),
                    false => (
                        "Prefetch is not working: the worker does not keep up",
                        "free a core for it (--threads one less than there are), look for what \
                         else the machine does, and report the lines below if it stays",
                    ),
                };
                write!(
                    f,
                    "{what}. {loads_sync} of {loads} loads were issued only when their layer was \
                     needed; a layer waits up to {pre_ms:.2} ms where its copy takes {copy_ms:.2}, \
                     a token {stalled_ms:.2} of {total_ms:.2} ms. Next: {next}; prefetched, the \
                     same plan is predicted to give {} tok/s instead of \
                     {}.",
                    rate(*possible_tokens_per_s),
                    rate(1000.0 / total_ms)
                )
            }
            Self::SlowRelease {
                post_ms,
                release_ms,
            } => write!(
                f,
                "Giving a slot back takes {post_ms:.2} ms, {release_ms:.2} ms a token: something \
                 copies weights back, and nothing should. Next: report the lines below."
            ),
            Self::RingBound {
                slots,
                spread,
                stalled_ms,
                tokens_per_s,
                spread_tokens_per_s,
            } => write!(
                f,
                "Ring-bound: the plan ({slots} slots in use, resident layers `{spread}`) idles the \
                 link while layers compute, and a token waits {stalled_ms:.2} ms. Next: --slots 2 \
                 --resident spread; predicted to give {} tok/s instead of \
                 {}.",
                rate(*spread_tokens_per_s),
                rate(*tokens_per_s)
            ),
            Self::LinkBound {
                stalled_ms,
                total_ms,
                link_gbps,
                peak_gbps,
                more,
                twice_tokens_per_s,
            } => {
                write!(
                    f,
                    "Link-bound: a token waits {stalled_ms:.2} of {total_ms:.2} ms for the link, \
                     which carries {link_gbps:.3} GB/s"
                )?;
                if let Some(peak) = peak_gbps {
                    write!(f, ", {} its peak of {peak:.3}", PercentOf(link_gbps / peak))?;
                }
                f.write_str(". Next: more resident layers")?;
                if let Some(Gain {
                    layers,
                    tokens_per_s,
                }) = more
                {
                    write!(
                        f,
                        " ({layers} more: +{} tok/s, predicted)",
                        rate(*tokens_per_s)
                    )?;
                }
                write!(
                    f,
                    ", fewer bytes, or a faster link (twice the rate: {} \
                     tok/s instead of {}, predicted).",
                    rate(*twice_tokens_per_s),
                    rate(1000.0 / total_ms)
                )
            }
            Self::LatencyBound {
                handover,
                stalled_ms,
                total_ms,
            } => {
                let handover = handover.to_string();
                // The takes come first, then what to do.
                let (takes, next) = handover.split_once(". ").unwrap_or((&handover, ""));
                write!(
                    f,
                    "Latency-bound: a token waits {stalled_ms:.2} of {total_ms:.2} ms for layers \
                     that are small: {takes}. Next: {next}"
                )
            }
            Self::StageOutside {
                stage,
                stage_ms,
                outside_ms,
                total_ms,
            } => write!(
                f,
                "A stage outside the layers dominates: {outside_ms:.2} of {total_ms:.2} ms a token \
                 ({:.0}%) are spent outside of them, {stage_ms:.2} in `{}` ({:.0}%). Next: see the \
                 stages above; no number of resident layers changes this part.",
                outside_ms / total_ms * 100.0,
                stage.name(),
                stage_ms / total_ms * 100.0,
            ),
            Self::Disturbed { cores, .. } => write!(
                f,
                "Disturbed: the {cores}. What limits a token otherwise does not show in such a \
                 run. Next: {}.",
                match cores.by_others() {
                    true => "run this again when the machine is quiet",
                    false => "use fewer --threads, or give the process more cores",
                }
            ),
            Self::ComputeBound {
                streamed,
                stalled_ms,
                compute_ms,
                total_ms,
                ratio,
                least,
            } => {
                write!(
                    f,
                    "Compute-bound: the blocks' own compute takes {compute_ms:.2} of \
                     {total_ms:.2} ms a token ({:.0}%)",
                    compute_ms / total_ms * 100.0
                )?;
                match streamed {
                    0 => f.write_str("; nothing is streamed")?,
                    _ => write!(
                        f,
                        "; waiting for layers takes {:.1}%",
                        stalled_ms / total_ms * 100.0
                    )?,
                }
                if let Some(ratio) = ratio {
                    write!(f, "; it takes {ratio} of --no-offload's time")?;
                }
                f.write_str(". Next: more or faster cores, or a smaller model")?;
                if let Some((resident, bytes)) = least {
                    write!(
                        f,
                        "; --num-gpu-layers {resident} is predicted to be as fast and frees {}",
                        memory(*bytes)
                    )?;
                }
                f.write_str(".")
            }
            Self::ColdStart {
                layer,
                first_wait_ms,
                copy_ms,
                stalled_ms,
                total_ms,
            } => write!(
                f,
                "Cold start, no bottleneck: the first token waited {first_wait_ms:.2} ms for layer \
                 {}, whose copy takes {copy_ms:.2} ms at the link's peak; later tokens wait \
                 {stalled_ms:.2} of {total_ms:.2} ms. Next: nothing; this is expected.",
                layer.as_usize()
            ),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noise = |ratio: &Sample| match (ratio.len(), ratio.is_noise()) {
            (1, _) => "; one round says nothing of the noise",
            (_, true) => "; the difference is noise",
            (_, false) => "",
        };
        match self {
            Self::OverheadMinimal { ratio, good } => write!(
                f,
                "N takes {ratio} of no offload's time{}: overhead minimal{}.",
                noise(ratio),
                match good {
                    true => ", GOOD",
                    false => " all the same",
                }
            ),
            Self::Unclear { beside, ratio, why } => {
                match beside {
                    Beside::NoOffload => write!(f, "N takes {ratio} of no offload's time: ")?,
                    Beside::Neighbour(Neighbour::More, layers) => {
                        write!(f, "N takes {ratio} of N+{layers}'s time: ")?;
                    }
                    Beside::Neighbour(Neighbour::Fewer, layers) => {
                        write!(f, "N-{layers} takes {ratio} of N's time: ")?;
                    }
                }
                let repeats = (2 * ratio.len() + 1).clamp(5, REPEATS_MOST);
                match why {
                    Unclear::Spread => {
                        write!(f, "cannot tell at this spread; use --repeats {repeats}.")
                    }
                    Unclear::Disturbed => f.write_str("cannot tell, the cores were not free."),
                    Unclear::Waits => write!(
                        f,
                        "cannot tell, the waits for layers should have become shorter and did not; \
                         use --repeats {repeats}."
                    ),
                }
            }
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
            Self::LatencyBound { stalled_ms } => write!(
                f,
                "latency-bound and not broken, handing over small layers takes {stalled_ms:.2} ms a \
                 token"
            ),
            Self::Disturbed => f.write_str("cannot tell why, the cores were not free"),
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
                "copies and compute share this machine; compute \
                 takes {compute_ms:.2} ms a token, and {alone_ms:.2} alone"
            ),
        }
    }
}

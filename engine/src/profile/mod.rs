//! Where the time of a token went. Built from typed records, never from logs; the formats are
//! written down in `docs/REPORTS.md`, and people and scripts read them.

mod clock;
pub mod files;
#[cfg(feature = "profiling")]
mod nvtx;
mod pass;
mod peak;
mod predicted;
mod recording;
mod sample;
mod span;
#[cfg(feature = "profiling")]
mod span_log;
mod stacks;
mod stage;
mod startup;
mod summary;
mod timing;
mod totals;
mod utilisation;
mod verdict;
mod window;

pub use crate::machine::{CoreShares, CoreTime};
pub use clock::Clock;
pub(crate) use clock::{past_stage, stage};
pub use pass::{PassKind, PassTiming};
pub use peak::{LinkPeak, PercentOf, is_too_low};
pub use recording::{Recording, Span, SpanName, StepRecord};
pub use sample::Sample;
#[cfg(feature = "profiling")]
pub(crate) use span::since_epoch_ns;
pub(crate) use span::{LongSpan, OpenSpan, past_span, span};
#[cfg(feature = "profiling")]
pub use span_log::SpanLog;
pub use stacks::StackNames;
pub use stage::{Stage, StageTime, StageTimes};
pub use startup::Startup;
pub use summary::{Limits, SUMMARY_EVERY, Summary};
pub use timing::{StageNode, StageTree, Timing};
pub use totals::Totals;
pub use utilisation::{
    ArithmeticLimit, ArithmeticPeak, MemoryLimit, OfPeak, PromptOfPeak, PromptRate, RunUtilisation,
    Utilisation,
};
pub(crate) use verdict::HANDOVER_MS_MAX;
pub use verdict::{Gain, Handover, Verdict};
pub use window::{LayerLine, Streaming, Window};
pub(crate) use window::{Means, ms};

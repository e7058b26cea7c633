//! The clock of a session, and the macros that tell it of a stage. Wall clock always; with the
//! feature `profiling`, a tracing span of the same name. What was measured ends as typed records:
//! a [`PassTiming`] a pass, and spans for a timeline where one was asked for.

use std::time::Instant;

use super::pass::PassTiming;
use super::recording::{Span, SpanName};
use super::stage::Stage;
use crate::machine::CoreTime;

/// Runs an expression as a stage of the pass under way: `stage!(clock, Embed, expression)`, or
/// with the index of a token, `stage!(clock, Step, index = 3, expression)`. A stage that is left by
/// `?` or `return` is not counted: its pass has failed.
macro_rules! stage {
    ($clock:expr, $stage:ident, $work:expr) => {
        $crate::profile::stage!(@ $clock, $stage, $work,)
    };
    ($clock:expr, $stage:ident, index = $index:expr, $work:expr) => {
        $crate::profile::stage!(@ $clock, $stage, $work, index = $index)
    };
    (@ $clock:expr, $stage:ident, $work:expr, $($field:ident = $value:expr)?) => {{
        let _span =
            $crate::profile::span!($crate::profile::Stage::$stage.name() $(, $field = $value)?);
        let from = ::std::time::Instant::now();
        let done = $work;
        $clock.stage($crate::profile::Stage::$stage, from, ::std::time::Instant::now());
        done
    }};
}
pub(crate) use stage;

/// A stage of the pass under way that is over, told by what ran it without a clock:
/// `past_stage!(clock, Norm, from, to)`.
macro_rules! past_stage {
    ($clock:expr, $stage:ident, $from:expr, $to:expr) => {{
        $crate::profile::past_span!($crate::profile::Stage::$stage.name(), $from, $to);
        $clock.stage($crate::profile::Stage::$stage, $from, $to);
    }};
}
pub(crate) use past_stage;

/// Measures one pass at a time.
#[derive(Debug)]
pub struct Clock {
    pass: PassTiming,
    from: Instant,
    to: Instant,
    /// Where a timeline is kept.
    spans: Option<Vec<Span>>,
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            pass: PassTiming::default(),
            from: now,
            to: now,
            spans: None,
        }
    }
}

impl Clock {
    /// Keeps the spans of its passes from now on, for a timeline.
    pub fn keep_spans(&mut self) {
        self.spans.get_or_insert_default();
    }

    /// The end of that.
    pub fn drop_spans(&mut self) {
        self.spans = None;
    }

    /// A pass begins, of which no time is known yet; the one before is forgotten.
    pub fn begin_pass(&mut self, pass: PassTiming) {
        self.pass = pass;
        self.from = Instant::now();
        if let Some(spans) = &mut self.spans {
            spans.clear();
        }
    }

    /// The pass is over. What a device did of it may still be told.
    pub fn end_pass(&mut self) {
        self.to = Instant::now();
        self.pass.total = self.to - self.from;
    }

    /// Whether the pass under way had the cores that it asked for.
    pub fn cores(&mut self, time: CoreTime) {
        self.pass.cores = time;
    }

    /// Of the pass that is over.
    pub fn pass(&self) -> &PassTiming {
        &self.pass
    }

    /// The pass that is over, for a timeline.
    pub(super) fn step(&self) -> (Instant, Instant, &[Span]) {
        (self.from, self.to, self.spans.as_deref().unwrap_or(&[]))
    }

    /// A stage of this pass was at it from `from` to `to`.
    pub fn stage(&mut self, stage: Stage, from: Instant, to: Instant) {
        let time = &mut self.pass.stages[stage];
        time.wall += to.saturating_duration_since(from);
        time.count += 1;
        self.span(SpanName::Stage(stage), from, to);
    }

    /// The same where a device did it, by its own clock. That time is what the pass took for it;
    /// the host's time for ordering it is not reported.
    pub fn device_stage(&mut self, stage: Stage, from: Instant, to: Instant) {
        let device = &mut self.pass.stages[stage].device;
        *device.get_or_insert_default() += to.saturating_duration_since(from);
        self.stage(stage, from, to);
    }

    /// Something of this pass that belongs on a timeline and is not a stage.
    pub fn span(&mut self, name: SpanName, from: Instant, to: Instant) {
        if let Some(spans) = &mut self.spans {
            spans.push(Span { name, from, to });
        }
    }
}

//! The clock of a session, and the macros that tell it of a stage. Wall clock always; with the
//! feature `profiling`, a tracing span of the same name. What was measured ends as typed records:
//! a [`PassTiming`] a pass, and spans for a timeline where a [`Recording`] was asked for.

use std::time::Instant;

use offload::LoadRecord;

use super::pass::PassTiming;
use super::recording::{Recording, Span, SpanName};
use super::stage::Stage;

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
    pass_from: Instant,
    recording: Option<Recording>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            pass: PassTiming::default(),
            pass_from: Instant::now(),
            recording: None,
        }
    }
}

impl Clock {
    /// Keeps a timeline from now on.
    pub fn record(&mut self, recording: Recording) {
        self.recording = Some(recording);
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.recording.take()
    }

    /// A pass of `rows` rows from `position` on begins; one that was cut short is forgotten.
    pub fn begin_pass(&mut self, rows: usize, position: usize) {
        self.pass = PassTiming {
            rows,
            position,
            ..PassTiming::default()
        };
        self.pass_from = Instant::now();
        if let Some(recording) = &mut self.recording {
            recording.begin_pass();
        }
    }

    /// What the pass under way has taken so far.
    pub fn pass(&self) -> PassTiming {
        PassTiming {
            total: self.pass_from.elapsed(),
            ..self.pass
        }
    }

    /// The pass is over, and with it the timeline's step.
    pub fn end_pass(&mut self, loads: &[LoadRecord]) -> PassTiming {
        let to = Instant::now();
        self.pass.total = to - self.pass_from;
        if let Some(recording) = &mut self.recording {
            recording.end_pass(self.pass_from, to, &self.pass, loads);
        }
        self.pass
    }

    /// A stage of this pass was at it from `from` to `to`.
    pub fn stage(&mut self, stage: Stage, from: Instant, to: Instant) {
        let time = &mut self.pass.stages[stage];
        time.wall += to.saturating_duration_since(from);
        time.count += 1;
        self.span(SpanName::Stage(stage), from, to);
    }

    /// The same where a device did it, by its own clock. That time is what the pass took for it; what
    /// ordering it took the host is nobody's question.
    pub fn device_stage(&mut self, stage: Stage, from: Instant, to: Instant) {
        let device = &mut self.pass.stages[stage].device;
        *device.get_or_insert_default() += to.saturating_duration_since(from);
        self.stage(stage, from, to);
    }

    /// Something of this pass that belongs on a timeline and is not a stage.
    pub fn span(&mut self, name: SpanName, from: Instant, to: Instant) {
        if let Some(recording) = &mut self.recording {
            recording.span(Span { name, from, to });
        }
    }
}

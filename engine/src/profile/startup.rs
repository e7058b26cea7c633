//! What happens before the first pass: loading, and making room.

use std::time::Instant;

use super::recording::{Span, SpanName};
use super::stage::{Stage, StageTimes};

/// The stages before the first pass; `stage!` takes it where it takes a clock.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Startup {
    pub times: StageTimes,
    pub spans: Vec<Span>,
}

impl Startup {
    pub fn stage(&mut self, stage: Stage, from: Instant, to: Instant) {
        self.times[stage].wall += to.saturating_duration_since(from);
        self.times[stage].count += 1;
        let name = SpanName::Stage(stage);
        self.spans.push(Span { name, from, to });
    }
}

//! What a run came to: times for people, and rows for a table.

use std::time::Duration;

use offload::StackId;

use super::session::Lead;
use crate::profile::files::Row;
use crate::profile::{PassTiming, Stage};
use crate::run::generation::Report;

impl Lead {
    /// The base's pass over the prompt.
    pub fn base(&self) -> Option<&PassTiming> {
        self.timings().find(|timing| timing.stack == StackId(0))
    }

    /// Those of the teachers.
    pub fn teachers(&self) -> impl Iterator<Item = &PassTiming> {
        self.timings()
            .filter(|timing| timing.stack != StackId(0) && !is_projection(timing))
    }

    /// That of the projectors.
    pub fn projection(&self) -> Option<&PassTiming> {
        self.timings().find(|timing| is_projection(timing))
    }

    /// All of them.
    pub fn total(&self) -> Duration {
        self.timings().map(|timing| timing.total).sum()
    }

    fn timings(&self) -> impl Iterator<Item = &PassTiming> {
        self.passes.iter().map(|pass| &pass.measured.timing)
    }

    /// The table of the run, as `docs/REPORTS.md` has it.
    pub fn rows(&self, report: &Report) -> Vec<Row> {
        let row = |name, time, count| Row { name, time, count };
        let embedding = |timing: &PassTiming| timing.stages[Stage::Embed].wall;
        let rest = |timing: &PassTiming| timing.total.saturating_sub(embedding(timing));
        let base = || self.base().into_iter();
        let teachers = self.teachers().count();
        let decode = &report.totals.decode;
        vec![
            row(
                "Base Model Embedding",
                base().map(embedding).sum(),
                base().count(),
            ),
            row(
                "Base Model Prefill (computation)",
                base().map(rest).sum(),
                base().count(),
            ),
            row(
                "Teacher Model Embedding",
                self.teachers().map(embedding).sum(),
                teachers,
            ),
            row(
                "Teacher Model Prefill (computation)",
                self.teachers().map(rest).sum(),
                teachers,
            ),
            row(
                "Projector (KV projection)",
                self.projection()
                    .map_or(Duration::ZERO, |timing| timing.total),
                self.projections,
            ),
            row(
                "Decode Step (per token)",
                decode.total,
                report.totals.decode_passes,
            ),
        ]
    }
}

fn is_projection(timing: &PassTiming) -> bool {
    timing.stages[Stage::Projection].count > 0
}

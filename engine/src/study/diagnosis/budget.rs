//! The expected budget of a token: what measured rates predict, part by part, beside what was
//! measured. The rates come from another run than the one that is judged, where there is one.

use offload::{Rates, predict};

use super::Runs;

/// The expected budget of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub rows: Vec<BudgetRow>,
    pub total: BudgetRow,
    /// Compute and the stages outside the layers were taken from the run without offload, and not
    /// from the same run again.
    pub independent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetRow {
    pub part: &'static str,
    /// How many layers it stands for.
    pub layers: Option<usize>,
    pub predicted_ms: f64,
    pub measured_ms: f64,
}

impl BudgetRow {
    /// Measured over predicted, less one.
    pub fn error(&self) -> Option<f64> {
        (self.predicted_ms > 0.0).then(|| self.measured_ms / self.predicted_ms - 1.0)
    }
}

impl Runs {
    pub fn budget(&self) -> Budget {
        let run = &self.as_given;
        let base = self.no_offload.as_ref().unwrap_or(run);
        let plan = &run.streaming.plan;
        let (resident, streamed) = (plan.resident_count(), plan.streamed_count());
        let layers = plan.layers() as f64;
        let rates = Rates {
            layer_ms: base.token.compute_ms / layers,
            other_ms: base.token.other_ms,
            ..run.rates
        };
        let prediction = predict(plan, &rates);
        let overhead_ms = |of: &super::Symptoms| {
            (of.token.other_ms - of.stages_ms() - of.token.release_ms).max(0.0)
        };
        let measured_layer_ms = run.token.compute_ms / layers;
        let row = |part, layers, predicted_ms, measured_ms| BudgetRow {
            part,
            layers,
            predicted_ms,
            measured_ms,
        };
        let compute = |part, count: usize| {
            let times = count as f64;
            row(
                part,
                Some(count),
                times * rates.layer_ms,
                times * measured_layer_ms,
            )
        };
        let rows = vec![
            compute("resident_compute", resident),
            row(
                "streamed_wait",
                Some(streamed),
                prediction.stall_ms,
                run.token.stalled_ms,
            ),
            compute("streamed_compute", streamed),
            row(
                "streamed_release",
                Some(streamed),
                base.token.release_ms,
                run.token.release_ms,
            ),
            row("other_stages", None, base.stages_ms(), run.stages_ms()),
            row("other_overhead", None, overhead_ms(base), overhead_ms(run)),
        ];
        Budget {
            rows,
            total: row("total", None, prediction.token_ms, run.token.total_ms),
            independent: self.no_offload.is_some(),
        }
    }
}

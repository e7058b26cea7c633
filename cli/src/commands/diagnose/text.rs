//! The report for people. Of an emulated link every heading and every conclusion says so.

use std::fmt::{self, Write};
use std::time::Duration;

use engine::diagnosis::Symptoms;
use engine::profile::Sample;

use super::{Report, run_name, why};
use crate::output::{Align, Table, memory, seconds, three_digits};

/// The whole report.
pub fn of(report: &Report) -> String {
    let mut text = Text {
        out: String::new(),
        mark: match report.emulated_gbps() {
            Some(_) => " (emulated)",
            None => "",
        },
    };
    text.head(report);
    text.runs(report);
    text.metrics(&report.runs.as_given);
    text.stages(&report.runs.as_given);
    text.budget(report);
    text.conclusions(report);
    text.out.push('\n');
    text.out.push_str(&bundle(report));
    text.out
}

struct Text {
    out: String,
    mark: &'static str,
}

fn ms(ms: f64) -> String {
    seconds(Duration::from_secs_f64(ms.max(0.0) / 1000.0))
}

/// The median, and how far the rounds went.
fn spread(sample: &Sample, digits: usize) -> String {
    if sample.is_empty() {
        return "-".into();
    }
    format!(
        "{:.digits$} ({:.digits$} to {:.digits$})",
        sample.median(),
        sample.least(),
        sample.most()
    )
}

/// Rates, which may be small.
fn rates(sample: &Sample) -> String {
    if sample.is_empty() {
        return "-".into();
    }
    format!(
        "{} ({} to {})",
        three_digits(sample.median()),
        three_digits(sample.least()),
        three_digits(sample.most())
    )
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

impl Text {
    fn line(&mut self, text: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{text}");
    }

    fn title(&mut self, title: &str) {
        let mark = self.mark;
        self.line(format_args!("\n{title}{mark}"));
    }

    fn table(&mut self, table: &Table) {
        self.line(table);
    }

    fn head(&mut self, report: &Report) {
        let facts = &report.facts;
        self.line(format_args!(
            "{} {}: {} layers of {} in {}",
            facts.model,
            facts.family,
            facts.layers,
            memory(facts.block_bytes),
            facts.dtype
        ));
        if report.runs.as_given.streams() {
            self.line(format_args!("Streamed weights: {}", facts.access));
        }
        self.line(format_args!(
            "{} tokens after a prompt of {}, {} rounds in turns{}",
            facts.new_tokens,
            facts.prompt_tokens,
            report.rounds,
            match report.interrupted {
                true => format!(" (interrupted; {} were asked for)", facts.repeats),
                false => String::new(),
            }
        ));
    }

    fn runs(&mut self, report: &Report) {
        self.title("RUNS");
        use Align::{Left, Right};
        let mut table = Table::new(
            &[
                Left, Right, Right, Right, Right, Right, Right, Right, Right, Right, Right, Right,
            ],
            2,
        );
        table.row(
            [
                "run",
                "N",
                "streamed",
                "tok/s",
                "ms/token",
                "TTFT",
                "stalled",
                "link GB/s",
                "of peak",
                "reads GB/s",
                "of peak",
                "memory",
            ]
            .map(str::to_owned),
        );
        for (which, run) in report.named_runs() {
            let plan = &run.streaming.plan;
            table.row([
                run_name(which).into(),
                plan.resident_count().to_string(),
                plan.streamed_count().to_string(),
                rates(&run.tokens_per_s()),
                spread(&run.token_ms, 2),
                ms(run.first_token_ms.median()),
                format!("{:.0}%", run.token.share(run.token.stalled_ms) * 100.0),
                or_dash(run.link_gbps().map(|gbps| format!("{gbps:.3}"))),
                or_dash(
                    run.link_share()
                        .map(|share| format!("{:.0}%", share * 100.0)),
                ),
                or_dash(run.memory_read.map(|read| format!("{:.1}", read.gbps))),
                or_dash(
                    run.memory_read
                        .map(|read| format!("{:.0}%", read.share * 100.0)),
                ),
                or_dash(run.memory_bytes.map(memory)),
            ]);
        }
        self.table(&table);
        for left_out in &report.left_out {
            self.line(format_args!("  {}", why(left_out)));
        }
    }

    fn metrics(&mut self, run: &Symptoms) {
        self.title("METRICS");
        let metrics = run.metrics();
        if metrics.is_empty() {
            self.line("  nothing is streamed");
            return;
        }
        let mut table = Table::new(&[Align::Left; 7], 2);
        table
            .row(["metric", "value", "good", "bad", "by the guide", "here", ""].map(str::to_owned));
        for metric in metrics {
            let name = match metric.name {
                "async_usage_percent" => "async usage",
                "pre_ms" => "Pre, worst layer",
                "post_ms" => "Post, worst layer",
                _ => "tags",
            };
            table.row([
                name.into(),
                metric.text,
                metric.good.into(),
                metric.bad.into(),
                metric.guide.to_string(),
                metric.measured.to_string(),
                metric.why,
            ]);
        }
        self.table(&table);
    }

    fn stages(&mut self, run: &Symptoms) {
        self.title("STAGES of the run as given, the round in the middle");
        for line in run.tree.to_string().lines() {
            self.line(format_args!("  {line}"));
        }
    }

    fn budget(&mut self, report: &Report) {
        let budget = report.runs.budget();
        self.title("EXPECTED BUDGET of a token, in ms");
        use Align::{Left, Right};
        let mut table = Table::new(&[Left, Right, Right, Right, Right], 2);
        table.row(["part", "layers", "predicted", "measured", "error"].map(str::to_owned));
        for row in budget.rows.iter().chain([&budget.total]) {
            table.row([
                row.part.replace('_', " "),
                row.layers
                    .map_or(String::new(), |layers| layers.to_string()),
                format!("{:.2}", row.predicted_ms),
                format!("{:.2}", row.measured_ms),
                or_dash(row.error().map(|error| format!("{:+.0}%", error * 100.0))),
            ]);
        }
        self.table(&table);
        self.line(match budget.independent {
            true => "  predicted from the link's peak, and compute and stages of the run without offload",
            false => "  predicted from the link's peak, and compute and stages of the run itself",
        });
    }

    fn conclusions(&mut self, report: &Report) {
        let mark = self.mark;
        self.title("DIAGNOSIS");
        for diagnosis in report.runs.diagnose() {
            self.line(format_args!("  * {diagnosis}{mark}"));
        }
        let compared = report.runs.compare();
        if !compared.is_empty() {
            self.title("COMPARED");
        }
        for comparison in compared {
            self.line(format_args!("  * {comparison}{mark}"));
        }
    }
}

/// What the guide asks users to send along.
pub fn bundle(report: &Report) -> String {
    let (run, facts, machine) = (&report.runs.as_given, &report.facts, &report.machine);
    let plan = &run.streaming.plan;
    let mut lines = vec![format!(
        "REPORT BACK{}",
        match report.emulated_gbps() {
            Some(gbps) => format!(" (emulated link of {gbps} GB/s)"),
            None => String::new(),
        }
    )];
    lines.push(format!(
        "  engine {}, {} {}, {} layers of {} in {}, {} resident, {} slots, {}",
        env!("CARGO_PKG_VERSION"),
        facts.model,
        facts.family,
        facts.layers,
        memory(facts.block_bytes),
        facts.dtype,
        plan.resident_count(),
        plan.slots(),
        plan.spread().name(),
    ));
    match run.async_percent() {
        Some(percent) => {
            let (ahead, layers) = (run.layers_ahead(), run.layers.len());
            lines.push(format!(
                "  Async usage: {ahead}/{layers} layers ({}%), {percent}% of {} loads",
                ahead * 100 / layers.max(1),
                run.loads_async + run.loads_sync
            ));
            for (which, layer) in first_middle_last(&run.layers) {
                lines.push(format!(
                    "  {which:<6} Layer {:2}: Pre={:6.2}ms  Post={:6.2}ms  [{}]",
                    layer.block.layer, layer.pre_ms, layer.post_ms, layer.kind
                ));
            }
            lines.push(format!("  Tags: {ahead} ASYNC, {} SYNC", layers - ahead));
        }
        None => lines.push("  Async usage: no layer is streamed".into()),
    }
    let without = match (&report.runs.no_offload, run.streams()) {
        (Some(without), _) => format!("{} ms", spread(&without.token_ms, 2)),
        (None, true) => "not measured".into(),
        (None, false) => "the same run".into(),
    };
    lines.push(format!(
        "  Time per token: {} ms with offload, {without} without",
        spread(&run.token_ms, 2)
    ));
    lines.push(format!("  Machine: {machine}"));
    if run.streams() {
        let peak = run.streaming.peak_gbps;
        lines.push(format!(
            "  Streamed weights: {}; peak {}",
            facts.access,
            peak.map_or("not measured".into(), |peak| format!("{peak:.3} GB/s"))
        ));
    }
    lines.push(format!(
        "  Memory copies: {:.1} GB/s",
        report.memory_copy_gbps
    ));
    lines.push(String::new());
    lines.join("\n")
}

/// If there are few layers, only those there are.
pub fn first_middle_last<T>(layers: &[T]) -> Vec<(&'static str, &T)> {
    let last = layers.len().saturating_sub(1);
    let mut picked = vec![("first", 0), ("middle", last / 2), ("last", last)];
    picked.dedup_by_key(|&mut (_, index)| index);
    let found = picked
        .into_iter()
        .map(|(which, index)| Some((which, layers.get(index)?)));
    found.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_layers_are_listed_once() {
        let indices = |count: usize| -> Vec<usize> {
            let layers: Vec<usize> = (0..count).collect();
            let picked = first_middle_last(&layers);
            picked.into_iter().map(|(_, &layer)| layer).collect()
        };
        assert!(indices(0).is_empty());
        assert_eq!(indices(1), [0]);
        assert_eq!(indices(2), [0, 1]);
        assert_eq!(indices(3), [0, 1, 2]);
        assert_eq!(indices(8), [0, 3, 7]);
    }
}

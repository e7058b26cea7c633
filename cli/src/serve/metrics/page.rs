//! The figures in the text format of Prometheus. It counts nothing.

use std::fmt::Write;

use super::aliases::Aliases;
use super::{FIRST_TOKEN, Histogram, Metrics, NEXT_TOKEN, OUTCOMES};
use crate::serve::server::{Ready, Server};

impl Metrics {
    /// In the text format of Prometheus.
    pub fn text(&self, server: &Server, ready: Option<&Ready>) -> String {
        let now = self.now();
        let counts = self.counts();
        let mut page = Page::default();
        page.gauge(
            "up",
            "Whether the model is loaded.",
            ready.map_or(0.0, |_| 1.0),
        );
        page.gauge(
            "requests_running",
            "Answers that are computed.",
            now.load.running as f64,
        );
        page.gauge(
            "requests_waiting",
            "Answers that wait for their turn.",
            now.load.waiting as f64,
        );
        page.gauge(
            "places_taken",
            "Places of answers, running or waiting, that are taken.",
            server.door.taken() as f64,
        );
        page.head("requests_total", "counter", "Answers that ended, by how.");
        for ((_, name), count) in OUTCOMES.iter().zip(counts.ended) {
            page.line(
                "requests_total",
                &format!("outcome=\"{name}\""),
                count as f64,
            );
        }
        page.counter(
            "prompt_tokens_total",
            "Tokens of prompts.",
            counts.prompt_tokens as f64,
        );
        page.counter(
            "cached_tokens_total",
            "Those of them that were there already.",
            counts.cached_tokens as f64,
        );
        page.counter(
            "generated_tokens_total",
            "Tokens that were generated.",
            counts.generated_tokens as f64,
        );
        page.histogram(
            "time_to_first_token_seconds",
            "From a request to its first token.",
            &FIRST_TOKEN,
            &counts.first_token,
        );
        page.histogram(
            "time_between_tokens_seconds",
            "From a token to the next of the same answer.",
            &NEXT_TOKEN,
            &counts.next_token,
        );
        page.gauge(
            "kv_positions_used",
            "Positions that running sequences hold.",
            now.load.held as f64,
        );
        page.gauge(
            "kv_positions",
            "Positions that there are.",
            now.load.positions as f64,
        );
        page.gauge(
            "kept_bytes",
            "Memory of states that no request uses.",
            now.load.kept_bytes as f64,
        );
        page.counter(
            "passes_total",
            "Passes over the layers.",
            counts.passes as f64,
        );
        page.counter(
            "pass_seconds_total",
            "Time that they took.",
            counts.pass_time.as_secs_f64(),
        );
        page.counter(
            "stall_seconds_total",
            "Of it, waiting for streamed layers.",
            counts.stalled.as_secs_f64(),
        );
        page.counter(
            "link_bytes_total",
            "Bytes of weights that crossed the link.",
            counts.link_bytes as f64,
        );
        page.gauge(
            "link_gigabytes_per_second",
            "What it carried in the last passes.",
            now.link_gbps,
        );
        if let Some(peak) = ready.and_then(|ready| ready.peak_gbps) {
            page.gauge(
                "link_peak_gigabytes_per_second",
                "What it carries alone, as measured.",
                peak,
            );
        }
        if counts.loads > 0 {
            let share = counts.loads_async as f64 / counts.loads as f64;
            page.gauge(
                "async_load_ratio",
                "Loads that were ordered ahead of their visit.",
                share,
            );
        }
        if let Some(ready) = ready {
            let count = |which: char| ready.layers.chars().filter(|&c| c == which).count() as f64;
            page.gauge("resident_layers", "Layers that stay.", count('R'));
            page.gauge("streamed_layers", "Layers that travel.", count('S'));
            if server.settings.vllm_metrics {
                page.push(&Aliases {
                    model: &ready.name,
                    load: now.load,
                    prompt_tokens: counts.prompt_tokens,
                    cached_tokens: counts.cached_tokens,
                });
            }
        }
        page.0
    }
}

#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Lines that are written elsewhere.
    fn push(&mut self, lines: &impl std::fmt::Display) {
        let _ = write!(self.0, "{lines}");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A text takes everything.
        let _ = write!(
            self.0,
            "# HELP engine_{name} {help}\n# TYPE engine_{name} {kind}\n"
        );
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let labels = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        let _ = writeln!(self.0, "engine_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        self.line(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "counter", help);
        self.line(name, "", value);
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        ends: &[f64; N],
        histogram: &Histogram<N>,
    ) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (end, count) in ends.iter().zip(histogram.buckets) {
            below += count;
            self.line(&bucket, &format!("le=\"{end}\""), below as f64);
        }
        self.line(&bucket, "le=\"+Inf\"", histogram.count as f64);
        self.line(&format!("{name}_sum"), "", histogram.sum.as_secs_f64());
        self.line(&format!("{name}_count"), "", histogram.count as f64);
    }
}

//! What the server counts: who runs and waits, tokens, times, what the link carries. Written by the
//! model's thread after each pass, read by whoever shows it. It knows no route.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine::{Account, Load};
use offload::{LoadKind, LoadRecord};

use super::server::{Ready, Server};

/// What `now` is a mean of.
const RECENT: Duration = Duration::from_secs(2);

/// Upper ends of the histograms' buckets, in seconds: from a small model's token to a long prompt
/// over a slow disk.
const FIRST_TOKEN: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];
const NEXT_TOKEN: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// How requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Stop,
    Length,
    Failed,
    /// The client went away.
    Gone,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Stop, "stop"),
    (Outcome::Length, "length"),
    (Outcome::Failed, "failed"),
    (Outcome::Gone, "gone"),
];

/// What one pass came to.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    began: Instant,
    ended: Instant,
    tokens: usize,
    bytes: u64,
    stalled: Duration,
    loads_async: u64,
    loads: u64,
}

impl Pass {
    /// Whether a layer came over the link.
    pub fn streamed(&self) -> bool {
        self.loads > 0
    }

    pub fn of<'a>(
        began: Instant,
        tokens: usize,
        loads: impl Iterator<Item = &'a LoadRecord>,
    ) -> Self {
        let mut pass = Self {
            began,
            ended: Instant::now(),
            tokens,
            bytes: 0,
            stalled: Duration::ZERO,
            loads_async: 0,
            loads: 0,
        };
        for load in loads {
            pass.bytes += load.bytes;
            pass.stalled += load.pre;
            pass.loads += 1;
            pass.loads_async += u64::from(load.kind == LoadKind::Async);
        }
        pass
    }
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    counts: Mutex<Counts>,
    layers_done: OnceLock<Arc<AtomicUsize>>,
}

#[derive(Debug, Default)]
struct Counts {
    load: Load,
    ended: [u64; OUTCOMES.len()],
    prompt_tokens: u64,
    cached_tokens: u64,
    generated_tokens: u64,
    first_token: Histogram<{ FIRST_TOKEN.len() }>,
    next_token: Histogram<{ NEXT_TOKEN.len() }>,
    passes: u64,
    pass_time: Duration,
    link_bytes: u64,
    stalled: Duration,
    loads_async: u64,
    loads: u64,
    recent: VecDeque<Pass>,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    buckets: [u64; N],
    count: u64,
    sum: Duration,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            count: 0,
            sum: Duration::ZERO,
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&mut self, ends: &[f64; N], time: Duration) {
        self.count += 1;
        self.sum += time;
        let seconds = time.as_secs_f64();
        if let Some(at) = ends.iter().position(|&end| seconds <= end) {
            self.buckets[at] += 1;
        }
    }
}

/// How it goes now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    pub load: Load,
    pub tokens_per_s: f64,
    /// Of a pass.
    pub stall_ms: f64,
    pub link_gbps: f64,
    /// `None`: nothing is streamed.
    pub async_percent: Option<f64>,
    pub layer: Option<usize>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            layers_done: OnceLock::new(),
        }
    }
}

impl Metrics {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn watch_layers(&self, layers_done: Arc<AtomicUsize>) {
        let _ = self.layers_done.set(layers_done);
    }

    pub fn load(&self, load: Load) {
        self.counts().load = load;
    }

    pub fn first_token(&self, after: Duration) {
        self.counts().first_token.add(&FIRST_TOKEN, after);
    }

    pub fn next_token(&self, after: Duration) {
        self.counts().next_token.add(&NEXT_TOKEN, after);
    }

    pub fn ended(&self, outcome: Outcome, account: &Account) {
        let mut counts = self.counts();
        let at = OUTCOMES.iter().position(|(known, _)| *known == outcome);
        counts.ended[at.unwrap_or(0)] += 1;
        counts.prompt_tokens += account.prompt_tokens as u64;
        counts.cached_tokens += account.cached_tokens as u64;
        counts.generated_tokens += account.generated_tokens as u64;
    }

    pub fn pass(&self, pass: Pass) {
        let mut counts = self.counts();
        counts.passes += 1;
        counts.pass_time += pass.ended - pass.began;
        counts.link_bytes += pass.bytes;
        counts.stalled += pass.stalled;
        counts.loads += pass.loads;
        counts.loads_async += pass.loads_async;
        counts.recent.push_back(pass);
        while counts
            .recent
            .front()
            .is_some_and(|old| pass.ended - old.ended > RECENT)
        {
            counts.recent.pop_front();
        }
    }

    pub fn now(&self) -> Now {
        let counts = self.counts();
        let since = Instant::now();
        let recent = counts
            .recent
            .iter()
            .filter(|pass| since.duration_since(pass.ended) <= RECENT);
        let (mut passes, mut tokens, mut bytes) = (0_u32, 0, 0);
        let (mut stalled, mut time) = (Duration::ZERO, Duration::ZERO);
        let (mut ahead, mut loads) = (0, 0);
        for pass in recent {
            passes += 1;
            tokens += pass.tokens;
            bytes += pass.bytes;
            stalled += pass.stalled;
            time += pass.ended - pass.began;
            ahead += pass.loads_async;
            loads += pass.loads;
        }
        let seconds = time.as_secs_f64();
        let per_second = |sum: f64| match seconds > 0.0 {
            true => sum / seconds,
            false => 0.0,
        };
        let running = counts.load.running > 0;
        let layers_done = self.layers_done.get().filter(|_| running);
        Now {
            load: counts.load,
            tokens_per_s: per_second(tokens as f64),
            stall_ms: stalled.as_secs_f64() * 1e3 / f64::from(passes.max(1)),
            link_gbps: per_second(bytes as f64 / 1e9),
            async_percent: (loads > 0).then(|| ahead as f64 * 100.0 / loads as f64),
            layer: layers_done.map(|done| done.load(Ordering::Relaxed)),
        }
    }

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
        }
        page.0
    }
}

#[derive(Debug, Default)]
struct Page(String);

impl Page {
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

/// From the first token of an answer to its last.
pub fn tokens_per_s(account: &Account) -> Option<f64> {
    let seconds = account.generating.as_secs_f64();
    let steps = account.generated_tokens.saturating_sub(1);
    (steps > 0 && seconds > 0.0).then(|| steps as f64 / seconds)
}

/// What its passes brought over the link, over their time.
pub fn link_gbps(account: &Account) -> Option<f64> {
    let seconds = account.passes.as_secs_f64();
    (account.link_bytes > 0 && seconds > 0.0).then(|| account.link_bytes as f64 / seconds / 1e9)
}

//! What the server counts: who runs and waits, tokens, times, what the link carries. Written by the
//! model's thread after each pass, read by whoever shows it. It knows no route.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine::{Account, Load};
use offload::{LoadKind, LoadRecord};

mod aliases;
mod page;

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

/// Counts and times, for `/metrics` and the panel.
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

//! What all requests share: how the server was set up, how far loading is, and what is there once the
//! model is. It knows no API.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::text::Sampling;
use tokio::sync::watch;

use super::ask::{Refusal, RefusalKind};
use super::body::Budget;
use super::door::{Door, Order};
use super::log::Log;
use super::metrics::Metrics;
use super::texts::Texts;

/// As it was typed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What `--host` said, and every other name that it may be called by.
    pub hosts: Vec<String>,
    pub cors: Vec<String>,
    pub api_key: Option<String>,
    pub strict: bool,
    /// Figures under vLLM's names as well.
    pub vllm_metrics: bool,
    pub body_limit: usize,
    pub parallel: usize,
    pub queue: usize,
    pub drain: Duration,
}

/// What is there once the model is.
#[derive(Debug)]
pub struct Ready {
    pub name: String,
    pub texts: Texts,
    /// Where a request says nothing.
    pub sampling: Sampling,
    /// One letter a layer: resident or streamed.
    pub layers: String,
    /// What the link reaches alone, where layers are streamed.
    pub peak_gbps: Option<f64>,
}

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// Told to stop: what is under way may end.
    Draining,
    /// It has had its time.
    Over,
}

/// What all handlers of requests share.
#[derive(Debug)]
pub struct Server {
    pub settings: Settings,
    pub door: Door,
    pub metrics: Metrics,
    pub log: Log,
    /// Memory that requests take until they are tokens.
    pub bodies: Budget,
    /// Requests that are turned into tokens at once.
    pub preparing: Arc<tokio::sync::Semaphore>,
    pub began: u64,
    loaded: AtomicU64,
    to_load: AtomicU64,
    ready: OnceLock<Ready>,
    phase: watch::Sender<Phase>,
}

/// Templates may take hundreds of megabytes each, and have cores to share with the model.
const PREPARING_MOST: usize = 2;

/// Requests may together take this many times the limit of a body, and this much in any case.
const BODIES: usize = 8;
const BODY_BYTES_LEAST: usize = 256 << 20;

impl Server {
    /// Also what the model's thread takes its orders from.
    pub fn new(settings: Settings, log: Log) -> (Self, Receiver<Order>) {
        let most = settings.parallel + settings.queue;
        let (orders, taken) = std::sync::mpsc::sync_channel(most);
        let server = Self {
            door: Door::new(orders, most),
            metrics: Metrics::default(),
            log,
            bodies: Budget::new(
                settings
                    .body_limit
                    .saturating_mul(BODIES)
                    .max(BODY_BYTES_LEAST),
            ),
            preparing: Arc::new(tokio::sync::Semaphore::new(PREPARING_MOST)),
            began: now(),
            loaded: AtomicU64::new(0),
            to_load: AtomicU64::new(0),
            ready: OnceLock::new(),
            phase: watch::channel(Phase::Open).0,
            settings,
        };
        (server, taken)
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn is_open(&self) -> bool {
        *self.phase.borrow() == Phase::Open
    }

    pub fn enter_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// There will be so many bytes to load.
    pub fn loads(&self, bytes: u64) {
        self.to_load.store(bytes, Ordering::Relaxed);
    }

    pub fn has_loaded(&self, bytes: u64) {
        self.loaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// From 0 to 1.
    pub fn progress(&self) -> f64 {
        let of = self.to_load.load(Ordering::Relaxed);
        let loaded = self.loaded.load(Ordering::Relaxed).min(of);
        match of {
            0 => 0.0,
            of => loaded as f64 / of as f64,
        }
    }

    /// The model is there.
    pub fn is_ready(&self, ready: Ready) {
        // Only its thread says it, once.
        let _ = self.ready.set(ready);
    }

    pub fn try_ready(&self) -> Option<&Ready> {
        self.ready.get()
    }

    /// What answers need, or why there are none now.
    pub fn ready(&self) -> Result<&Ready, Refusal> {
        let refusal = |message: String| Refusal {
            status: 503,
            kind: RefusalKind::Loading,
            message,
            field: None,
        };
        if !self.is_open() {
            return Err(refusal("the server was told to stop".to_owned()));
        }
        self.ready.get().ok_or_else(|| {
            refusal(format!(
                "the model is loading, {:.0} % are there: try again soon",
                self.progress() * 100.0
            ))
        })
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A number that no one foretells. Not for secrets.
pub fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A name that nothing else has.
pub fn name(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:016x}{count:08x}", chance())
}

/// What a call of a tool is known by. Nine letters and digits: some templates take no other length.
pub fn call_id() -> String {
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = chance();
    let letter = |_| {
        let letter = LETTERS[(number % 36) as usize];
        number /= 36;
        char::from(letter)
    };
    (0..9).map(letter).collect()
}

/// A server that is shared.
pub type Shared = Arc<Server>;

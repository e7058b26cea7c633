//! A bar with GB/s while bytes move, one that counts runs, and one for a prompt that takes its
//! time. Only on a terminal; elsewhere nothing is drawn and the caller's closing line says it all.

use std::borrow::Cow;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::Console;
use super::human::{gigabytes, seconds, three_digits, tokens};

/// A prompt that is read sooner shows nothing.
const PROMPT_SHOWN_AFTER: Duration = Duration::from_secs(2);
const PROMPT_REDRAWN_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(console: &Console, what: &'static str, total_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target(console));
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {moved} {rate}  {eta}") {
            let moved = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let total = gigabytes(state.len().unwrap_or(0));
                // The bar redraws; a failed draw is made good by the next.
                let _ = write!(to, "{} of {total}", gigabytes(state.pos()));
            };
            let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let _ = write!(to, "{} GB/s", three_digits(state.per_sec() / 1e9));
            };
            bar.set_style(
                style
                    .with_key("moved", moved)
                    .with_key("rate", rate)
                    .progress_chars("=> "),
            );
        }
        bar.set_message(what);
        Self(bar)
    }

    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Sound that is made, in seconds.
#[derive(Debug)]
pub struct SoundBar(ProgressBar);

impl SoundBar {
    pub fn new(console: &Console) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(console));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message("reading the script");
        Self(bar)
    }

    pub fn set(&self, what: String) {
        self.0.set_message(what);
        self.0.tick();
    }
}

impl Drop for SoundBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Runs that take seconds each, counted.
#[derive(Debug)]
pub struct Steps(ProgressBar);

impl Steps {
    pub fn new(console: &Console, count: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(count as u64), target(console));
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos} of {len}  {msg}  {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// The one before is done, if there was one; `what` begins.
    pub fn next(&self, what: impl Into<Cow<'static, str>>) {
        if !self.0.message().is_empty() {
            self.0.inc(1);
        }
        self.0.set_message(what);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The prompt's pass: layers done, tokens a second, time left. A thread of its own draws it,
/// because the one that computes has nothing to say in between; it goes when this is dropped, and
/// nothing of it stays on the terminal.
#[derive(Debug)]
pub struct PromptBar {
    /// Closed: the pass is over.
    over: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PromptBar {
    /// `None` where no terminal shows it.
    pub fn start(
        console: &Console,
        prompt_tokens: usize,
        layers: usize,
        layers_done: Vec<Arc<AtomicUsize>>,
    ) -> Option<Self> {
        if !is_seen(console) {
            return None;
        }
        let (over, told) = mpsc::channel();
        let from = Instant::now();
        let draw = move || {
            let goes_on = |time| told.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            if !goes_on(PROMPT_SHOWN_AFTER) {
                return;
            }
            let to = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(layers as u64), to);
            let template = "prompt [{bar:20}] {pos} of {len} layers{pace}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                let pace = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                    let done = state.pos() as usize;
                    // The bar redraws; a failed draw is made good by the next.
                    let _ = to.write_str(&pace(done, layers, prompt_tokens, from.elapsed()));
                };
                bar.set_style(style.with_key("pace", pace).progress_chars("=> "));
            }
            loop {
                let done = layers_done.iter().map(|done| done.load(Ordering::Relaxed));
                bar.set_position(done.sum::<usize>() as u64);
                bar.tick();
                if !goes_on(PROMPT_REDRAWN_EVERY) {
                    bar.finish_and_clear();
                    return;
                }
            }
        };
        // Without a thread the pass goes on unseen, as it would without a terminal.
        let thread = thread::Builder::new().name("prompt-bar".into()).spawn(draw);
        Some(Self {
            over: Some(over),
            thread: Some(thread.ok()?),
        })
    }
}

impl Drop for PromptBar {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, and then there is no bar to take away.
            let _ = thread.join();
        }
    }
}

/// As if all layers took the same: what a layer waited for is in it.
fn pace(done: usize, layers: usize, prompt_tokens: usize, time: Duration) -> String {
    if done == 0 || time.is_zero() {
        return String::new();
    }
    let share = done as f64 / layers.max(done) as f64;
    let per_s = prompt_tokens as f64 * share / time.as_secs_f64();
    match share < 1.0 {
        true => {
            let left = time.mul_f64((1.0 - share) / share);
            format!("  {}  {} left", tokens(per_s), seconds(left))
        }
        false => format!("  {}", tokens(per_s)),
    }
}

fn is_seen(console: &Console) -> bool {
    stderr().is_terminal() && !console.is_quiet()
}

fn target(console: &Console) -> ProgressDrawTarget {
    match is_seen(console) {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_tells_its_pace_and_what_is_left() {
        let after = |done, seconds| pace(done, 28, 3000, Duration::from_secs(seconds));
        assert_eq!(after(0, 2), "");
        assert_eq!(after(7, 28), "  26.8 tok/s  84.0 s left");
        assert_eq!(after(28, 112), "  26.8 tok/s");
        let slow = pace(1, 4, 1, Duration::from_secs(3));
        assert_eq!(slow, "  12.0 s/token  9.00 s left");
    }
}

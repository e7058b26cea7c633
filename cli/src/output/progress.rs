//! A bar with GB/s while bytes move, and one that counts runs. Only on a terminal; elsewhere
//! nothing is drawn and the caller's closing line says it all.

use std::borrow::Cow;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::Console;
use super::human::{gigabytes, three_digits};

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

fn target(console: &Console) -> ProgressDrawTarget {
    match stderr().is_terminal() && !console.is_quiet() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

//! A bar with GB/s while bytes move. Only on a terminal; elsewhere nothing is drawn and the
//! caller's closing line says it all.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::Console;
use super::human::{gigabytes, three_digits};

#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(console: &Console, what: &'static str, total_bytes: u64) -> Self {
        let visible = stderr().is_terminal() && !console.is_quiet();
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
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

/// A bar over steps of about equal length, with a word on the one under way. Drawn as the other.
#[derive(Debug)]
pub struct Steps(ProgressBar);

impl Steps {
    pub fn new(console: &Console, steps: usize) -> Self {
        let target = match stderr().is_terminal() && !console.is_quiet() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps as u64 + 1), target);
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {elapsed}  {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// The next step begins.
    pub fn next(&self, what: String) {
        self.0.inc(1);
        self.0.set_message(what);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

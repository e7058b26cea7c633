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

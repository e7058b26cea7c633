//! When the offload summary is due: every so many tokens, or every so many seconds, and at the
//! end for what is left. What it says is the engine's.

use std::time::Instant;

use engine::Measured;
use engine::profile::{SUMMARY_EVERY, Streaming, Summary, Window};

use crate::output::Console;

#[derive(Debug)]
pub struct Profiler {
    console: Console,
    streaming: Streaming,
    every: usize,
    window: Window,
    window_from: Instant,
    window_tokens: usize,
    tokens: usize,
}

impl Profiler {
    pub fn new(console: Console, streaming: Streaming, every: usize) -> Self {
        Self {
            console,
            streaming,
            every,
            window: Window::default(),
            window_from: Instant::now(),
            window_tokens: 0,
            tokens: 0,
        }
    }

    /// Takes in one token's pass; prints when a summary is due.
    pub fn pass(&mut self, pass: &Measured) {
        self.window.add(&pass.timing, &pass.loads);
        self.tokens += 1;
        self.window_tokens += 1;
        if self.window_tokens >= self.every || self.window_from.elapsed() >= SUMMARY_EVERY {
            self.print();
        }
    }

    /// Prints what came since the last summary.
    pub fn finish(&mut self) {
        if !self.window.is_empty() {
            self.print();
        }
    }

    fn print(&mut self) {
        let summary = Summary {
            token: self.tokens,
            window: &self.window,
            streaming: &self.streaming,
        };
        self.console.print(summary.to_string().trim_end());
        self.streaming.keep_best(&self.window);
        self.window.clear();
        self.window_from = Instant::now();
        self.window_tokens = 0;
    }
}

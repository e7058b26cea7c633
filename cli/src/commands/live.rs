//! `--profile=live`: what the panel is drawn from, and when it is due. Takes in every token at
//! the price of copying its records; figures are made only when they are drawn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine::profile::{Streaming, Totals, Window};
use engine::{Measured, memory};

use super::panel::Panel;
use crate::output::Console;

/// `now` is the mean of this many tokens.
const NOW_TOKENS: usize = 10;

/// The eye does not follow more, and the terminal need not.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Live {
    console: Console,
    streaming: Streaming,
    recent: VecDeque<Measured>,
    totals: Totals,
    tokens: usize,
    drawn: Option<Instant>,
}

impl Live {
    pub fn new(console: Console, streaming: Streaming) -> Self {
        Self {
            console,
            streaming,
            recent: VecDeque::with_capacity(NOW_TOKENS),
            totals: Totals::default(),
            tokens: 0,
            drawn: None,
        }
    }

    /// Takes in one token's pass. Whether the panel is to be drawn.
    pub fn pass(&mut self, pass: &Measured) -> bool {
        let mut kept = match self.recent.len() {
            NOW_TOKENS => self.recent.pop_front().map(|token| token.loads),
            _ => None,
        }
        .unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(&pass.loads);
        self.recent.push_back(Measured {
            timing: pass.timing,
            loads: kept,
        });
        self.totals.add(&pass.timing, &pass.loads);
        self.tokens += 1;
        let due = self
            .drawn
            .is_none_or(|drawn| drawn.elapsed() >= REDRAW_EVERY);
        if due {
            self.drawn = Some(Instant::now());
        }
        due
    }

    /// The panel as it is now. None before the first token.
    pub fn lines(&self, columns: usize) -> Vec<String> {
        if self.tokens == 0 {
            return Vec::new();
        }
        let mut now = Window::default();
        for token in &self.recent {
            now.add(&token.timing, &token.loads);
        }
        let panel = Panel {
            tokens: self.tokens,
            now: &now,
            mean_tokens_per_s: self.totals.tokens_per_s(),
            streaming: &self.streaming,
            memory_bytes: memory::held_bytes(),
        };
        panel.lines(columns, &self.console)
    }
}

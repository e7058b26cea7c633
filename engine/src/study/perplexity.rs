//! How well a model foretells a text: the text goes through in windows, and each token is scored by
//! what came before it in its window.

use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::run::session::Session;
use crate::text::logprobs::log_total;

/// How a text is cut. A stride shorter than the window gives later tokens more to go by, and takes as
/// many more passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    pub window: usize,
    pub stride: usize,
}

/// What has been scored so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scored {
    pub windows: usize,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Rows that went through the layers for it.
    pub rows: usize,
    /// Sums over the scored tokens: of the negative logarithm of their probability, and of its square.
    nll: f64,
    squares: f64,
    pub time: Duration,
}

/// Part of a text in one window: its tokens, and those of them that are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    from: usize,
    to: usize,
    scored_from: usize,
}

impl Windows {
    /// Whether a text of so many tokens can be scored so.
    pub fn check(self, tokens: usize) -> Result<(), EngineError> {
        let Self { window, stride } = self;
        if window < 2 || stride == 0 || stride > window {
            return Err(EngineError::Windows { window, stride });
        }
        match tokens {
            0 | 1 => Err(EngineError::NothingToScore { tokens }),
            _ => Ok(()),
        }
    }

    /// How many there are of a text of so many tokens.
    pub fn count(self, tokens: usize) -> usize {
        self.of(tokens).count()
    }

    /// Every token is scored once, where most is before it; the first of a text never is.
    fn of(self, tokens: usize) -> impl Iterator<Item = Window> {
        let mut scored = 0;
        let mut is_over = tokens < 2;
        let starts = (0..tokens).step_by(self.stride);
        starts.map_while(move |from| {
            if is_over {
                return None;
            }
            let to = (from + self.window).min(tokens);
            let scored_from = scored.max(from + 1);
            (scored, is_over) = (to, to == tokens);
            Some(Window {
                from,
                to,
                scored_from,
            })
        })
    }
}

impl Scored {
    /// The text's perplexity: e to the mean of the negative logarithms.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// One standard error of it, as if tokens were independent of each other.
    pub fn error(&self) -> f64 {
        let count = self.tokens as f64;
        let variance = (self.squares / count - self.mean().powi(2)).max(0.0);
        self.perplexity() * (variance / (count - 1.0).max(1.0)).sqrt()
    }

    /// The mean of the negative logarithms.
    pub fn mean(&self) -> f64 {
        self.nll / self.tokens as f64
    }

    /// Rows through the layers and the head.
    pub fn tokens_per_s(&self) -> f64 {
        self.rows as f64 / self.time.as_secs_f64()
    }

    fn add(&mut self, nll: f64) {
        self.tokens += 1;
        self.nll += nll;
        self.squares += nll * nll;
    }
}

/// Scores `tokens`, and tells after each window how far it is.
pub fn perplexity(
    session: &mut Session<'_>,
    tokens: &[u32],
    windows: Windows,
    on_window: &mut dyn FnMut(&Scored),
) -> Result<Scored, EngineError> {
    windows.check(tokens.len())?;
    let started = Instant::now();
    let mut scored = Scored::default();
    for window in windows.of(tokens.len()) {
        let text = &tokens[window.from..window.to];
        // A token is foretold by the row before it.
        let rows = window.scored_from - window.from - 1..text.len() - 1;
        session.restart()?;
        session.pass_rows(text, rows, &mut |row, logits| {
            scored.add(negative_log(logits, text[row + 1] as usize));
        })?;
        scored.windows += 1;
        scored.rows += text.len();
        scored.time = started.elapsed();
        on_window(&scored);
    }
    Ok(scored)
}

/// The negative logarithm of the probability that these logits give to a token.
fn negative_log(logits: &[f32], token: usize) -> f64 {
    log_total(logits) - f64::from(logits[token])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(window: usize, stride: usize, tokens: usize) -> Vec<(usize, usize, usize)> {
        let windows = Windows { window, stride }.of(tokens);
        windows.map(|it| (it.from, it.to, it.scored_from)).collect()
    }

    #[test]
    fn every_token_but_the_first_is_scored_once() {
        assert_eq!(cut(4, 2, 9), [(0, 4, 1), (2, 6, 4), (4, 8, 6), (6, 9, 8)]);
        assert_eq!(cut(4, 4, 4), [(0, 4, 1)]);
        assert_eq!(cut(10, 3, 4), [(0, 4, 1)]);
        // Without overlap the first token of each window has nothing before it.
        assert_eq!(cut(4, 4, 9), [(0, 4, 1), (4, 8, 5), (8, 9, 9)]);
        assert_eq!(cut(4, 2, 1), []);
    }

    #[test]
    fn a_token_is_as_unlikely_as_its_share() {
        let logits = [0.0_f32, 2.0_f32.ln(), 5.0_f32.ln()];
        let found = negative_log(&logits, 1);
        assert!((found - 4.0_f64.ln()).abs() < 1e-6, "{found}");
        // However large they are.
        let large = logits.map(|logit| logit + 1e4);
        assert!((negative_log(&large, 1) - 4.0_f64.ln()).abs() < 1e-3);
    }

    #[test]
    fn the_error_follows_from_the_spread() {
        let mut scored = Scored::default();
        for nll in [1.0, 2.0, 3.0, 2.0] {
            scored.add(nll);
        }
        let mean = 2.0_f64;
        assert!((scored.perplexity() - mean.exp()).abs() < 1e-9);
        // A variance of 0.5, over three.
        let error = mean.exp() * (0.5_f64 / 3.0).sqrt();
        assert!((scored.error() - error).abs() < 1e-9);
    }
}

//! Busy is not efficient: what a token reads of memory beside how fast this memory can be read, and
//! what a prompt computes beside how fast this processor can compute.

use std::fmt;
use std::time::Duration;

use loader::units::rate;
use serde::Serialize;

use super::pass::PassTiming;
use super::peak::{PercentOf, is_too_low};
use super::stage::Stage;
use super::totals::Totals;
use super::window::{Streaming, Window, ms};
use crate::machine::CoreShares;

/// The memory's limit on decode, measured on this machine in this run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryLimit {
    /// What all compute threads reach together with plain reads.
    pub gbps: f64,
    /// Weights that a pass of one row reads: every layer, and the head.
    pub weight_bytes: u64,
    /// What a frame of sound reads beside them.
    pub frame_bytes: u64,
    /// Keys and values that a row reads for each position it sees.
    pub cache_bytes_per_position: u64,
    /// The cores were not free when it was measured: memory gives more.
    pub lacking: Option<CoreShares>,
}

/// A rate, and the share of its limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utilisation {
    pub gbps: f64,
    pub share: f64,
}

impl MemoryLimit {
    /// Bytes of weights and cache a token, over the time in which it was not waiting for layers.
    /// `None` for a window without tokens.
    pub fn utilisation(&self, window: &Window) -> Option<Utilisation> {
        let positions = window.mean_positions()?;
        let busy_ms = window.token_ms() - window.stalled_ms();
        Some(self.of(positions, window.frames_per_pass(), busy_ms))
    }

    /// Of a token that sees so many positions, and is so much of a frame.
    fn of(&self, positions: f64, frames: f64, busy_ms: f64) -> Utilisation {
        let bytes = self.weight_bytes as f64
            + self.frame_bytes as f64 * frames
            + self.cache_bytes_per_position as f64 * positions;
        let gbps = bytes / busy_ms / 1e6;
        Utilisation {
            gbps,
            share: gbps / self.gbps,
        }
    }
}

/// The processor's limit on prompts, measured on this machine in this run.
#[derive(Debug, Clone, PartialEq)]
pub struct ArithmeticLimit {
    /// What passes are made of, by how many rows they have at the least; most rows first.
    pub peaks: Vec<ArithmeticPeak>,
    /// Multiply-adds that every row takes: the projections of all layers.
    pub per_row: u64,
    /// That the last row takes: the head.
    pub per_pass: u64,
    /// That a row takes in one layer for each position it sees.
    pub per_position: u64,
    /// How many positions a row of each layer sees at the most.
    pub windows: Vec<Option<usize>>,
    /// The cores were not free when the peaks were measured: they are higher.
    pub lacking: Option<CoreShares>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArithmeticPeak {
    pub rows_min: usize,
    /// All compute threads together, in registers, a multiply-add being two operations.
    pub gflops: f64,
    /// The products that this was measured with, in words.
    pub products: &'static str,
}

/// What a prompt's pass computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptRate {
    pub rows: usize,
    pub total: Duration,
    pub tokens_per_s: f64,
    /// While it did not wait for layers.
    pub gflops: f64,
    pub share: f64,
    pub peak: ArithmeticPeak,
}

impl ArithmeticLimit {
    /// Operations of a pass, over the time in which it was not waiting for layers. `None` for one
    /// that took none.
    pub fn utilisation(&self, pass: &PassTiming) -> Option<PromptRate> {
        let computing = pass.total.checked_sub(pass.stalled())?;
        let peak = *self.peaks.iter().find(|peak| pass.rows >= peak.rows_min)?;
        if pass.rows == 0 || computing.is_zero() {
            return None;
        }
        let gflops = self.operations(pass.rows, pass.position) / computing.as_secs_f64() / 1e9;
        Some(PromptRate {
            rows: pass.rows,
            total: pass.total,
            tokens_per_s: pass.rows as f64 / pass.total.as_secs_f64(),
            gflops,
            share: gflops / peak.gflops,
            peak,
        })
    }

    fn operations(&self, rows: usize, position: usize) -> f64 {
        let seen = |window: &Option<usize>| -> usize {
            let most = window.unwrap_or(usize::MAX);
            (position + 1..=position + rows)
                .map(|seen| seen.min(most))
                .sum()
        };
        let positions: usize = self.windows.iter().map(seen).sum();
        let multiply_adds = self.per_row as f64 * rows as f64
            + self.per_position as f64 * positions as f64
            + self.per_pass as f64;
        2.0 * multiply_adds
    }
}

impl fmt::Display for PromptRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tokens in {:.1} ms, {} tok/s, {:.1} GFLOP/s while computing, {} the {:.1} measured ({})",
            self.rows,
            ms(self.total),
            rate(self.tokens_per_s),
            self.gflops,
            PercentOf(self.share),
            self.peak.gflops,
            self.peak.products
        )
    }
}

/// The rates of a whole run beside their limits, as the JSON reports have them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RunUtilisation {
    /// Whether compute had the cores it asked for; `null` where the run was too short to say.
    pub cores: Option<CoreShares>,
    /// Bytes over the time of the passes after the prompt's.
    pub link: Option<OfPeak>,
    /// Weights and cache read in these passes, while they did not wait.
    pub memory: Option<OfPeak>,
    pub prompt: Option<PromptOfPeak>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OfPeak {
    pub gbps: f64,
    pub peak_gbps: f64,
    pub share_of_peak: f64,
    /// The run reached more than the peak that was measured.
    pub peak_too_low: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PromptOfPeak {
    pub tokens_per_s: f64,
    pub gflops: f64,
    pub peak_gflops: f64,
    pub share_of_peak: f64,
    pub peak_too_low: bool,
    pub products: &'static str,
}

impl OfPeak {
    fn new(gbps: f64, peak_gbps: f64) -> Self {
        Self {
            gbps,
            peak_gbps,
            share_of_peak: gbps / peak_gbps,
            peak_too_low: is_too_low(gbps / peak_gbps),
        }
    }
}

impl Streaming {
    /// Peaks that these passes exceeded were measured too low: what was reached is then the best
    /// that is known. The rate of an emulated link was set, and stays.
    pub fn keep_best(&mut self, window: &Window) {
        if let (Some(peak), Some(reached)) = (&mut self.peak_gbps, window.link_gbps())
            && self.link.emulated_gbps.is_none()
        {
            *peak = peak.max(reached);
        }
        if let Some(limit) = &mut self.memory
            && let Some(reached) = limit.utilisation(window)
        {
            limit.gbps = limit.gbps.max(reached.gbps);
        }
    }

    /// What a rate is of the link's peak. An emulated link's was set, and cannot be too low: what
    /// seems to be above it was under way before the window began.
    pub fn link_percent(&self, gbps: f64) -> Option<PercentOf> {
        let share = gbps / self.peak_gbps?;
        Some(PercentOf(match self.link.emulated_gbps {
            Some(_) => share.min(1.0),
            None => share,
        }))
    }

    /// Of a run. What was not measured, or did not occur, is `None`.
    pub fn utilisation(&self, totals: &Totals) -> RunUtilisation {
        let passes = totals.decode_passes as f64;
        let (total_ms, stalled_ms) = (ms(totals.decode.total), ms(totals.decode.stalled()));
        let prompt = &totals.prompt;
        let positions = totals.decode.seen as f64 / passes.max(1.0);
        let frames = totals.decode.stages[Stage::Codec].count as f64 / passes.max(1.0);
        let token = (passes > 0.0).then_some((total_ms - stalled_ms) / passes);
        let link_bytes = self.plan.streamed_bytes_per_pass() as f64 * passes;
        let mut cores = totals.prompt.cores;
        cores.add(&totals.decode.cores);
        RunUtilisation {
            cores: cores.shares(),
            link: (self.peak_gbps)
                .filter(|_| link_bytes > 0.0)
                .map(|peak| OfPeak::new(link_bytes / total_ms / 1e6, peak)),
            memory: (self.memory.as_ref())
                .zip(token)
                .map(|(limit, ms)| OfPeak::new(limit.of(positions, frames, ms).gbps, limit.gbps)),
            prompt: (self.arithmetic.as_ref())
                .and_then(|limit| limit.utilisation(prompt))
                .map(|rate| PromptOfPeak {
                    tokens_per_s: rate.tokens_per_s,
                    gflops: rate.gflops,
                    peak_gflops: rate.peak.gflops,
                    share_of_peak: rate.share,
                    peak_too_low: is_too_low(rate.share),
                    products: rate.peak.products,
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    fn limit(windows: &[Option<usize>]) -> ArithmeticLimit {
        let peak = |rows_min, gflops| ArithmeticPeak {
            rows_min,
            gflops,
            products: "products",
        };
        ArithmeticLimit {
            peaks: vec![peak(32, 1000.0), peak(1, 400.0)],
            per_row: 1_000_000_000,
            per_pass: 500_000_000,
            per_position: 1_000_000,
            windows: windows.to_vec(),
            lacking: None,
        }
    }

    fn pass(rows: usize, position: usize) -> PassTiming {
        let mut pass = PassTiming {
            rows,
            position,
            seen: position + rows,
            total: Duration::from_millis(1250),
            ..PassTiming::default()
        };
        pass.stages[Stage::Transfer].wall = Duration::from_millis(250);
        pass
    }

    #[test]
    fn a_prompt_is_measured_against_the_products_it_is_made_of() {
        let limit = limit(&[None, None]);
        // Two layers of 1 + 2 + .. + 40 positions, in the second that it did not wait.
        let long = limit.utilisation(&pass(40, 0)).unwrap();
        assert!((long.gflops - 2.0 * (40.0 + 0.5 + 2.0 * 0.82)).abs() < 1e-9);
        assert!((long.share - long.gflops / 1000.0).abs() < 1e-12);
        assert_eq!(long.tokens_per_s, 32.0);
        assert_eq!(limit.utilisation(&pass(31, 0)).unwrap().peak.gflops, 400.0);
        assert_eq!(limit.utilisation(&pass(0, 0)), None);
        assert_eq!(
            long.to_string(),
            "40 tokens in 1250.0 ms, 32.0 tok/s, 84.3 GFLOP/s while computing, 8% of the 1000.0 measured (products)"
        );
    }

    #[test]
    fn a_window_bounds_what_a_row_sees() {
        let open = limit(&[None]).operations(10, 90);
        let bounded = limit(&[Some(50)]).operations(10, 90);
        // 91 to 100 positions, or 50 each.
        assert_eq!(open - bounded, 2.0 * 1e6 * (955.0 - 500.0));
    }
}

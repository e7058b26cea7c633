//! Sums over a whole run.

use std::time::Duration;

use offload::{LoadKind, LoadRecord};

use super::{PassKind, PassTiming, ms};

/// Loads and times of a run. Passes that read prompts are counted apart: many tokens share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub prompt: PassTiming,
    pub prompt_passes: usize,
    /// Sums over the passes that only generate. Its units are tokens.
    pub decode: PassTiming,
    pub decode_passes: usize,
    pub loads_async: u64,
    pub loads_sync: u64,
    pub bytes: u64,
    pub stalled: Duration,
    /// Holding loads against their checksums, on a thread of its own.
    pub verify: Duration,
}

impl Totals {
    pub fn add(&mut self, pass: &PassTiming, loads: &[LoadRecord]) {
        match pass.kind {
            PassKind::Prompt => {
                match self.prompt_passes {
                    0 => self.prompt = *pass,
                    _ => self.prompt.add(pass),
                }
                self.prompt_passes += 1;
            }
            PassKind::Decode => {
                self.decode.add(pass);
                self.decode_passes += 1;
            }
        }
        for load in loads {
            match load.kind {
                LoadKind::Async => self.loads_async += 1,
                LoadKind::Sync => self.loads_sync += 1,
            }
            self.bytes += load.bytes;
            self.stalled += load.pre;
            self.verify += load.verify;
        }
    }

    /// Share of loads that were ahead of their visit, in whole percent, rounded down. `None` when
    /// nothing was streamed.
    pub fn async_percent(&self) -> Option<u64> {
        (self.loads_async * 100).checked_div(self.loads_async + self.loads_sync)
    }

    /// What verifying took a pass, in ms, and its share of the passes' time. `None` where nothing
    /// was verified.
    pub fn verify_per_pass(&self) -> Option<(f64, f64)> {
        let passes = self.prompt_passes + self.decode_passes;
        let total = self.prompt.total + self.decode.total;
        let share = self.verify.as_secs_f64() / total.as_secs_f64();
        (!self.verify.is_zero()).then(|| (ms(self.verify) / passes as f64, share))
    }

    /// Decode speed: tokens of the passes that only generate, by their own time.
    pub fn tokens_per_s(&self) -> Option<f64> {
        let seconds = self.decode.total.as_secs_f64();
        (self.decode.units > 0 && seconds > 0.0).then(|| self.decode.units as f64 / seconds)
    }
}

//! Sums over a whole run.

use std::time::Duration;

use offload::{LoadKind, LoadRecord};

use super::PassTiming;

/// Loads and times of a run. The prompt's pass is counted apart: its tokens share one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub prompt: PassTiming,
    /// Sums over the passes after the prompt's.
    pub decode: PassTiming,
    pub decode_passes: usize,
    pub loads_async: u64,
    pub loads_sync: u64,
    pub bytes: u64,
    pub stalled: Duration,
}

impl Totals {
    pub fn add(&mut self, pass: &PassTiming, loads: &[LoadRecord]) {
        if self.prompt.rows == 0 {
            self.prompt = *pass;
        } else {
            self.decode.add(pass);
            self.decode_passes += 1;
        }
        for load in loads {
            match load.kind {
                LoadKind::Async => self.loads_async += 1,
                LoadKind::Sync => self.loads_sync += 1,
            }
            self.bytes += load.bytes;
            self.stalled += load.pre;
        }
    }

    /// Share of loads that were ahead of their visit, in whole percent, rounded down. `None` when
    /// nothing was streamed.
    pub fn async_percent(&self) -> Option<u64> {
        (self.loads_async * 100).checked_div(self.loads_async + self.loads_sync)
    }

    /// Decode speed: passes after the prompt's, by their own time.
    pub fn tokens_per_s(&self) -> Option<f64> {
        let seconds = self.decode.total.as_secs_f64();
        (self.decode_passes > 0 && seconds > 0.0).then(|| self.decode_passes as f64 / seconds)
    }
}

//! How many tokens of prompts a pass may take, so that those who wait for their next token do not wait
//! much longer for it. Learned from the passes before.

use std::time::Duration;

use crate::profile::PassTiming;

/// What a chunk may add to a pass in which others wait for their next token.
const BESIDE_OTHERS: Duration = Duration::from_millis(200);

/// What a pass may take in which no request waits for a token: others may come meanwhile.
const ALONE: Duration = Duration::from_secs(2);

/// Before anything is known.
const FIRST_ROWS: usize = 32;

/// Fewer rows say little of what one takes.
const TELLING_ROWS: usize = 8;

/// Rows are computed in tiles.
const ROW_STEP: usize = 16;

/// How long rows take, as learned from passes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Computing one row of a prompt, in seconds.
    row_s: Option<f64>,
    /// Computing the next token of as many sequences as there were last.
    decode_s: f64,
    /// The streamed layers of a pass on the link.
    link_s: f64,
}

impl Pace {
    /// A pass of so many rows of prompts beside `others`, which wait for their next token.
    pub fn learn(&mut self, timing: &PassTiming, rows: usize, others: usize) {
        let total = timing.total.as_secs_f64();
        let stalled = timing.stalled().as_secs_f64();
        let computed = total - stalled;
        self.link_s = match stalled > total / 10.0 {
            true => total,
            // The link had time to spare.
            false => self.link_s.min(total),
        };
        if rows == 0 {
            self.decode_s = computed;
        } else if rows >= TELLING_ROWS {
            let beside = if others > 0 { self.decode_s } else { 0.0 };
            let row = ((computed - beside) / rows as f64).max(f64::MIN_POSITIVE);
            self.row_s = Some(self.row_s.map_or(row, |before| (before + row) / 2.0));
        }
    }

    /// How many rows the next pass may take beside `others`.
    pub fn rows(&self, others: usize) -> usize {
        let Some(row_s) = self.row_s else {
            return FIRST_ROWS;
        };
        let seconds = match others {
            // Long enough for the link to be no limit.
            0 => ALONE.as_secs_f64().max(2.0 * self.link_s),
            // What the link takes longer than they do costs them nothing.
            _ => BESIDE_OTHERS.as_secs_f64() + (self.link_s - self.decode_s).max(0.0),
        };
        let rows = (seconds / row_s) as usize;
        (rows / ROW_STEP * ROW_STEP).max(ROW_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Stage, StageTimes};

    fn pass(total_ms: u64, stalled_ms: u64) -> PassTiming {
        let mut stages = StageTimes::default();
        stages[Stage::Transfer].wall = Duration::from_millis(stalled_ms);
        PassTiming {
            total: Duration::from_millis(total_ms),
            stages,
            ..PassTiming::default()
        }
    }

    #[test]
    fn a_chunk_takes_no_longer_than_others_may_wait() {
        let mut pace = Pace::default();
        assert_eq!(pace.rows(0), FIRST_ROWS);
        // 2 ms a row.
        pace.learn(&pass(64, 0), 32, 0);
        assert!((80..=96).contains(&pace.rows(1)));
        assert!((976..=992).contains(&pace.rows(0)));
        // Beside others, what they take is not the chunk's.
        pace.learn(&pass(40, 0), 0, 2);
        pace.learn(&pass(240, 0), 100, 2);
        assert!((80..=96).contains(&pace.rows(2)));
    }

    #[test]
    fn what_the_link_takes_anyway_is_free() {
        let mut pace = Pace::default();
        pace.learn(&pass(1000, 900), 0, 1);
        // 2 ms a row beside 100 ms for the others.
        pace.learn(&pass(1000, 700), 100, 1);
        assert!((528..=544).contains(&pace.rows(1)));
        assert!((976..=992).contains(&pace.rows(0)));
        // A slow link: a chunk is computed while it carries the layers twice.
        pace.learn(&pass(10_000, 9_700), 100, 1);
        assert!((9_984..=10_000).contains(&pace.rows(0)));
        // It did not slow this one down.
        pace.learn(&pass(300, 0), 100, 1);
        assert!(pace.rows(1) < 208);
    }

    #[test]
    fn few_rows_say_nothing_and_a_slow_machine_still_gets_on() {
        let mut pace = Pace::default();
        pace.learn(&pass(500, 0), 1, 0);
        assert_eq!(pace.rows(1), FIRST_ROWS);
        pace.learn(&pass(10_000, 0), 8, 0);
        assert_eq!(pace.rows(1), ROW_STEP);
    }
}

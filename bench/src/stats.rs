//! Medians with their spread: the only way a number leaves this program.

use std::fmt;

/// Values of the rounds, kept whole.
#[derive(Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
            return f.write_str("no rounds");
        };
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        write!(
            f,
            "{median:.2} (median of {}, {least:.2} to {most:.2})",
            sorted.len()
        )
    }
}

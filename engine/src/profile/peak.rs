//! Shares of measured peaks. A peak that a run exceeds was measured too low, and whoever prints a
//! share of it says so.

use std::fmt;

use crate::machine::CoreShares;

/// What a link reaches when it does nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkPeak {
    pub gbps: f64,
    /// The cores were not free when it was measured: it may be higher.
    pub lacking: Option<CoreShares>,
}

/// Two clocks that time the same differ by less.
const SAME: f64 = 1.005;

/// Whether something reached so much more than a peak that the peak was measured too low.
pub fn is_too_low(share: f64) -> bool {
    share > SAME
}

/// A share in words, with what it is of to follow: `96% of the 25.6 GB/s measured`, or
/// `over 100% (the peak was measured too low) of the 2.1 GB/s measured`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PercentOf(pub f64);

impl fmt::Display for PercentOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_too_low(self.0) {
            f.write_str("over 100% (the peak was measured too low) of")
        } else {
            write!(f, "{:.0}% of", self.0 * 100.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_100_is_printed_without_a_word() {
        let said = |share| PercentOf(share).to_string();
        assert_eq!(said(0.957), "96% of");
        assert_eq!(said(1.0049), "100% of");
        assert_eq!(said(6.52), "over 100% (the peak was measured too low) of");
        assert!(is_too_low(1.01) && !is_too_low(1.0));
    }
}

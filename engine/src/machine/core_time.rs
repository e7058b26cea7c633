//! Whether compute had the cores that it asked for. Times that were measured while it had not say
//! little about the model, the machine or the plan.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What the system counted over some stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoreTime {
    /// The stretch; zero where nothing was looked at.
    pub watched: Duration,
    /// Compute threads were ready to run and had no core: the mean of the threads.
    pub waited: Duration,
    /// Other programs were on a core: the mean of the cores.
    pub others: Duration,
    /// The host of a virtual machine had taken a core away: the mean of the cores.
    pub stolen: Duration,
}

/// Its shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CoreShares {
    pub waited: f64,
    pub others: f64,
    pub stolen: f64,
}

/// Compute that lacks a core for less is what a quiet system has, too.
const QUIET: f64 = 0.05;

/// The share of all cores that other programs may use before none is left.
const CROWDED: f64 = 0.9;

impl CoreTime {
    pub fn add(&mut self, other: &Self) {
        self.watched += other.watched;
        self.waited += other.waited;
        self.others += other.others;
        self.stolen += other.stolen;
    }

    /// `None` where nothing was looked at.
    pub fn shares(&self) -> Option<CoreShares> {
        let watched = self.watched.as_secs_f64();
        let share = |time: Duration| (time.as_secs_f64() / watched).min(1.0);
        (watched > 0.0).then(|| CoreShares {
            waited: share(self.waited),
            others: share(self.others),
            stolen: share(self.stolen),
        })
    }

    /// The shares, where work that reads and does not compute may have lacked cores: other programs
    /// had nearly all of them. While one is free, reads find it.
    pub fn crowded(&self) -> Option<CoreShares> {
        let full = |shares: &CoreShares| shares.lacked() >= QUIET || shares.others >= CROWDED;
        self.shares().filter(full)
    }

    /// The shares, where compute lacked cores so much that times say little.
    pub fn lacking(&self) -> Option<CoreShares> {
        self.shares().filter(|shares| shares.lacked() >= QUIET)
    }
}

impl CoreShares {
    /// The share of the time that compute was without a core that it could have used.
    pub fn lacked(&self) -> f64 {
        self.waited + self.stolen
    }

    /// Other programs had the cores; otherwise this one's own threads are too many for them, or a
    /// quota holds it back.
    pub fn by_others(&self) -> bool {
        self.stolen > self.waited || self.others >= QUIET
    }
}

/// How much, and why, to be said after "The": `compute threads waited for a core 41% of the time
/// (other programs used 50% of the cores)`.
impl fmt::Display for CoreShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Self {
            waited,
            others,
            stolen,
        } = *self;
        if stolen > waited {
            return write!(
                f,
                "host of this virtual machine took {:.0}% of the cores' time away",
                percent(stolen)
            );
        }
        write!(
            f,
            "compute threads waited for a core {:.0}% of the time ",
            percent(waited)
        )?;
        if self.by_others() {
            write!(
                f,
                "(other programs used {:.0}% of the cores)",
                percent(others)
            )
        } else {
            f.write_str("(no other program was busy: more threads than cores, or a quota)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(waited_ms: u64, others_ms: u64, stolen_ms: u64) -> CoreTime {
        CoreTime {
            watched: Duration::from_millis(1000),
            waited: Duration::from_millis(waited_ms),
            others: Duration::from_millis(others_ms),
            stolen: Duration::from_millis(stolen_ms),
        }
    }

    fn check(time: CoreTime, expected: Option<&str>) {
        let text = time.lacking().map(|shares| shares.to_string());
        assert_eq!(text.as_deref(), expected, "{time:?}");
    }

    #[test]
    fn reads_lack_a_core_only_where_none_is_left() {
        assert_eq!(time(0, 500, 0).crowded(), None);
        assert!(time(0, 950, 0).crowded().is_some());
        assert!(time(0, 0, 100).crowded().is_some());
        assert_eq!(CoreTime::default().crowded(), None);
    }

    #[test]
    fn who_had_the_cores_is_said() {
        check(time(20, 500, 10), None);
        check(CoreTime::default(), None);
        check(
            time(410, 500, 0),
            Some(
                "compute threads waited for a core 41% of the time (other programs used 50% of the cores)",
            ),
        );
        check(
            time(330, 10, 0),
            Some(
                "compute threads waited for a core 33% of the time (no other program was busy: more threads than cores, or a quota)",
            ),
        );
        check(
            time(20, 10, 120),
            Some("host of this virtual machine took 12% of the cores' time away"),
        );
        assert!(
            time(410, 500, 0)
                .lacking()
                .is_some_and(|shares| shares.by_others())
        );
        assert!(
            time(410, 0, 0)
                .lacking()
                .is_some_and(|shares| !shares.by_others())
        );
    }
}

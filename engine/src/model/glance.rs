//! What is measured of a link in a moment, for choices that are made before a plan is: about the
//! rate, and what a copy takes longer on its own. Once in a process for a model and a home: runs
//! that are compared should not differ because a disk was busy when one of them was planned.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use loader::Checkpoint;
use offload::{Home, Place};

use crate::error::EngineError;

/// How long looking at the rate may take.
const RATE_BUDGET: Duration = Duration::from_millis(15);

/// How long copies on their own are timed.
const LONE_COPY_BUDGET: Duration = Duration::from_millis(50);

/// Numbers that were measured, by what they are of.
struct Known<Of>(Mutex<Vec<(Of, f64)>>);

impl<Of: PartialEq> Known<Of> {
    const fn nothing() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn or_measure(
        &self,
        of: Of,
        measure: impl FnOnce() -> Result<f64, EngineError>,
    ) -> Result<f64, EngineError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, number)) = known.iter().find(|(known, _)| *known == of) {
            return Ok(*number);
        }
        let number = measure()?;
        known.push((of, number));
        Ok(number)
    }
}

/// About what the link reaches, in GB/s.
pub(crate) fn link_gbps(
    checkpoint: &Checkpoint,
    home: Home,
    place: &dyn Place,
) -> Result<f64, EngineError> {
    static KNOWN: Known<(String, Home)> = Known::nothing();
    KNOWN.or_measure((checkpoint.location().to_owned(), home), || {
        Ok(match home {
            Home::Disk => loader::measure_read_gbps(checkpoint, RATE_BUDGET)?.gbps,
            Home::Ram => place.measure_link_gbps(RATE_BUDGET)?,
        })
    })
}

/// What a copy of a block takes longer on its own than its bytes do at this rate.
pub(crate) fn start_ms(
    checkpoint: &Checkpoint,
    home: Home,
    block_bytes: u64,
    link_gbps: f64,
) -> Result<f64, EngineError> {
    static KNOWN: Known<(String, u64)> = Known::nothing();
    match home {
        Home::Disk => KNOWN.or_measure((checkpoint.location().to_owned(), block_bytes), || {
            let alone = loader::measure_lone_read(checkpoint, block_bytes, LONE_COPY_BUDGET)?;
            Ok(alone.start_ms(link_gbps))
        }),
        // One thread copies, and begins at once.
        Home::Ram => Ok(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_once_is_not_measured_again() {
        let known = Known::nothing();
        let first = known.or_measure(("model", 1), || Ok(2.0)).unwrap();
        let again = known.or_measure(("model", 1), || Ok(3.0)).unwrap();
        let other = known.or_measure(("model", 2), || Ok(4.0)).unwrap();
        assert_eq!((first, again, other), (2.0, 2.0, 4.0));
        // A failure is not kept.
        let failed = known.or_measure(("other", 1), || Err(EngineError::Interrupted));
        assert!(failed.is_err());
        assert_eq!(known.or_measure(("other", 1), || Ok(5.0)).unwrap(), 5.0);
    }
}

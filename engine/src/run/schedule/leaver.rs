//! Ends a pass from another thread when no client waits for it any more: it may take minutes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends passes that are made for clients who are gone.
#[derive(Debug, Clone, Default)]
pub struct Leaver {
    /// Those that the pass under way reads prompts for, unless it gives another request a token.
    reads_for: Arc<Mutex<Vec<u64>>>,
    cancel: Arc<AtomicBool>,
}

impl Leaver {
    /// The request is not waited for. (It is still to be dropped, which is the scheduler's.)
    pub fn leave(&self, id: u64) {
        let mut reads_for = self.reads_for();
        let before = reads_for.len();
        reads_for.retain(|&other| other != id);
        if before > 0 && reads_for.is_empty() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// A pass begins: it reads prompts for these and nothing else, or must not be ended if there are
    /// none.
    pub(super) fn begin(&self, reads_for: impl Iterator<Item = u64>) {
        let mut inside = self.reads_for();
        inside.clear();
        inside.extend(reads_for);
        self.cancel.store(false, Ordering::Relaxed);
    }

    fn reads_for(&self) -> MutexGuard<'_, Vec<u64>> {
        self.reads_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_ends_when_the_last_of_them_leaves() {
        let leaver = Leaver::default();
        let ended = || leaver.flag().load(Ordering::Relaxed);
        leaver.begin([1, 2].into_iter());
        leaver.leave(3);
        leaver.leave(1);
        leaver.leave(1);
        assert!(!ended());
        leaver.leave(2);
        assert!(ended());
        // One that gives a request a token does not.
        leaver.begin(std::iter::empty());
        leaver.leave(2);
        assert!(!ended());
    }
}

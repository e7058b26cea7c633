//! The mark of a copy made by host threads: a count of parts still to land. One per copy in
//! flight, opened when the last part has landed or failed, and whoever lent the memory to the parts
//! has it back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::LinkError;
use crate::links::{Arrival, Mark};

#[derive(Debug)]
pub struct Latch {
    state: Mutex<State>,
    /// For whoever lent the memory, and for whoever wants what is in it.
    parts_over: Condvar,
    opened: Condvar,
}

#[derive(Debug)]
struct State {
    parts_left: usize,
    /// Somebody has lent the memory to the parts.
    lent: bool,
    error: Option<LinkError>,
    copy_from: Option<Instant>,
    copy_to: Option<Instant>,
}

impl Latch {
    /// Opens after `parts` parts; a copy of no parts has landed already.
    pub fn new(parts: usize) -> Self {
        let copy_to = (parts == 0).then(Instant::now);
        let state = State {
            parts_left: parts,
            lent: false,
            error: None,
            copy_from: copy_to,
            copy_to,
        };
        Self {
            state: Mutex::new(state),
            parts_over: Condvar::new(),
            opened: Condvar::new(),
        }
    }

    /// The same, and it stays closed until `returned`.
    pub fn lent(parts: usize) -> Self {
        let latch = Self::new(parts);
        latch.lock().lent = true;
        latch
    }

    /// Blocks until every part has landed or failed: nobody has the memory any more.
    pub fn wait_for_parts(&self) {
        let waited = self
            .parts_over
            .wait_while(self.lock(), |state| state.parts_left > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whoever lent the memory has it back, or never lent it: no part will land any more.
    pub fn returned(&self, result: Result<(), LinkError>) {
        let mut state = self.lock();
        state.lent = false;
        if let Err(error) = result {
            state.error.get_or_insert(error);
            state.parts_left = 0;
        }
        self.opened.notify_all();
    }

    /// The first byte is about to move.
    pub fn begin(&self) {
        self.lock().copy_from.get_or_insert_with(Instant::now);
    }

    /// One part has landed or failed. The first error is the one reported.
    pub fn part(&self, result: Result<(), LinkError>) {
        let mut state = self.lock();
        state.parts_left = state.parts_left.saturating_sub(1);
        if let Err(error) = result {
            state.error.get_or_insert(error);
        }
        // An error does not open the latch early: other workers may still be writing the slab.
        if state.parts_left == 0 {
            state.copy_to = Some(Instant::now());
            match state.lent {
                true => self.parts_over.notify_all(),
                false => self.opened.notify_all(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain numbers, valid after every statement, so poison means nothing here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_closed(&self) -> bool {
        self.parts_left > 0 || self.lent
    }
}

impl Mark for Latch {
    fn landed_within(&self, patience: Duration) -> bool {
        let waited = self
            .opened
            .wait_timeout_while(self.lock(), patience, |state| state.is_closed());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_closed()
    }

    fn wait(&self) -> Result<(), LinkError> {
        let waited = self
            .opened
            .wait_while(self.lock(), |state| state.is_closed());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.error.take().map_or(Ok(()), Err)
    }

    fn arrival(&self) -> Result<Arrival, LinkError> {
        let state = self.lock();
        let copy_to = state.copy_to.unwrap_or_else(Instant::now);
        Ok(Arrival {
            copy_from: state.copy_from.unwrap_or(copy_to),
            copy_to,
            visit: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_memory_is_there_when_it_was_returned_and_not_before() {
        let latch = Latch::lent(1);
        latch.part(Ok(()));
        latch.wait_for_parts();
        assert!(!latch.landed_within(Duration::ZERO));
        latch.returned(Ok(()));
        assert!(latch.landed_within(Duration::ZERO));
        latch.wait().unwrap();
    }

    #[test]
    fn memory_that_could_not_be_lent_is_waited_for_by_nobody() {
        let latch = Latch::lent(7);
        latch.returned(Err(LinkError::WorkersGone));
        assert!(latch.landed_within(Duration::ZERO));
        latch.wait().unwrap_err();
    }
}

//! The stack that the blocks of one model are in, or of several that share a ring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offload::StreamedStack;

/// A handle to it. Passes are made one after the other, and no visit opens inside a visit, so that
/// nothing ever waits for it.
#[derive(Debug, Clone)]
pub(crate) struct SharedStack(Arc<Mutex<StreamedStack>>);

impl SharedStack {
    pub fn new(stack: StreamedStack) -> Self {
        Self(Arc::new(Mutex::new(stack)))
    }

    pub fn get(&self) -> MutexGuard<'_, StreamedStack> {
        // A visit whose work panics has given its slot back before it goes on to panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

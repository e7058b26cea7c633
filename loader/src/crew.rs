//! Several threads that share out one piece of work. Knows nothing of it.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Deals `items` out, in their order, to up to `threads` threads, the caller's among them, each
/// with a tool of its own. The first failure is returned; what was not dealt by then is left. Where
/// the system refuses a thread there are fewer.
pub(crate) fn deal<T, Tool, E: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    tool: impl Fn() -> Tool + Sync,
    work: impl Fn(&mut Tool, T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    // A failure takes the place of what is left.
    let left = Mutex::new(Ok(items));
    let worker = || {
        let mut tool = tool();
        loop {
            let next = match &mut *left.lock().unwrap_or_else(PoisonError::into_inner) {
                Ok(items) => items.next(),
                Err(_) => None,
            };
            let Some(item) = next else { return };
            if let Err(error) = work(&mut tool, item) {
                let left = &mut *left.lock().unwrap_or_else(PoisonError::into_inner);
                if left.is_ok() {
                    *left = Err(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let started = thread::Builder::new().spawn_scoped(scope, worker);
            if let Err(error) = started {
                tracing::info!(%error, "a reading thread was refused");
                break;
            }
        }
        worker();
    });
    let left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
    left.map(|_| ())
}

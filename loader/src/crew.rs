//! Several threads that share out one piece of work. Knows nothing of it.

use std::thread;

/// Runs `worker` on up to `threads` threads, the caller's among them, and returns when all have
/// returned. Where the system refuses a thread there are fewer: the work must not depend on their
/// number.
pub(crate) fn run(threads: usize, worker: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..threads {
            let started = thread::Builder::new().spawn_scoped(scope, &worker);
            if let Err(error) = started {
                tracing::info!(%error, "a reading thread was refused");
                break;
            }
        }
        worker();
    });
}

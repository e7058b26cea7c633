//! A thread whose answers are waited for with an eye on a flag: a disk that hangs must not keep
//! the waiting thread from giving up.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use offload::OffloadError;

use crate::error::EngineError;

/// Dropping it waits for the thread, which must have nothing to wait for by then.
#[derive(Debug)]
pub struct Background<T> {
    answers: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

/// How long to wait before looking at the flag.
const PATIENCE: Duration = Duration::from_millis(50);

impl<T: Send + 'static> Background<T> {
    /// One answer has room: the thread does not wait until it is taken.
    pub fn start(
        name: &str,
        work: impl FnOnce(&Sender<T>) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let (answer, answers) = bounded(1);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&answer));
        Ok(Self {
            answers,
            thread: Some(thread.map_err(|source| OffloadError::refused(name, source))?),
        })
    }

    /// The next answer, or [`EngineError::Interrupted`] when the flag is raised.
    ///
    /// # Panics
    /// If the thread did, or has given its last answer.
    pub fn answer(&mut self, cancel: &AtomicBool) -> Result<T, EngineError> {
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => {
                    return Err(EngineError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    match self.thread.take().map(JoinHandle::join) {
                        Some(Err(panic)) => resume_unwind(panic),
                        _ => unreachable!("a thread that owes an answer has ended"),
                    }
                }
            }
        }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread that waited for an answer has heard of a panic.
            let _ = thread.join();
        }
    }
}

//! Ctrl-C, and the polite kill. A run that can end by itself claims the first one and ends after
//! what it has; the next one, or the first if no run claimed it, ends the process at once,
//! with nothing half-written left behind.

use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::output;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// Signals closer together than this are one: `timeout` and others send theirs to the process and
/// then to its group.
const ONE_PRESS: Duration = Duration::from_millis(100);

/// The flag of the run that ends by itself.
static CLAIMED: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// Listens from now on.
pub fn watch() -> Result<(), Failure> {
    let mut told: Option<Instant> = None;
    let handler = move || {
        let again = told.is_some_and(|told| told.elapsed() < ONE_PRESS);
        let first = told.is_none();
        match &*CLAIMED.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(flag) if first => flag.store(true, Ordering::Relaxed),
            Some(_) if again => {}
            _ => {
                output::abandon();
                if first {
                    say();
                }
                process::exit(INTERRUPTED);
            }
        }
        told.get_or_insert_with(Instant::now);
    };
    ctrlc::set_handler(handler).map_err(|error| {
        Failure::Signals(match error {
            ctrlc::Error::System(error) => error,
            other => io::Error::other(other),
        })
    })
}

/// Writes on a thread of its own: the reader of stderr may not read on, and is not waited for.
fn say() {
    let (said, heard) = mpsc::channel();
    let write = move || {
        let _ = io::stderr().lock().write_all(b"interrupted\n");
        let _ = said.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = heard.recv_timeout(ONE_PRESS);
    }
}

/// A flag that the first Ctrl-C sets, for a run that looks at it.
pub fn flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    *claimed = Some(Arc::clone(&flag));
    flag
}

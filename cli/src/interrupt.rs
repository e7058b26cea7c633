//! Ctrl-C, and the polite kill. A run that can end by itself claims the first one and ends after
//! what it has; the next one, or the first if no run claimed it, ends the process at once,
//! with nothing half-written left behind.

use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::output;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// Signals closer together than this are one: `timeout` and others send theirs to the process and
/// then to its group.
const ONE_PRESS: Duration = Duration::from_millis(100);

/// Who ends by itself, and what was pressed.
static CLAIMED: Mutex<Claim> = Mutex::new(Claim {
    flag: None,
    set: false,
    told: None,
});

struct Claim {
    /// The flag of the run that ends by itself.
    flag: Option<Arc<AtomicBool>>,
    /// Whether it was told to.
    set: bool,
    /// When a signal came that meant something.
    told: Option<Instant>,
}

fn claimed() -> MutexGuard<'static, Claim> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens from now on.
pub fn watch() -> Result<(), Failure> {
    let handler = move || {
        let mut claim = claimed();
        if claim.told.is_some_and(|told| told.elapsed() < ONE_PRESS) {
            return;
        }
        let first = !std::mem::replace(&mut claim.set, true);
        claim.told = Some(Instant::now());
        match &claim.flag {
            Some(flag) if first => flag.store(true, Ordering::Relaxed),
            _ => {
                output::abandon();
                if first {
                    say();
                }
                process::exit(INTERRUPTED);
            }
        }
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
    claimed().flag = Some(Arc::clone(&flag));
    flag
}

/// Until it is dropped, the first Ctrl-C sets the flag. After that none is claimed.
#[derive(Debug)]
pub struct Claimed(Arc<AtomicBool>);

/// Claims the first Ctrl-C from now on for a part of a run. The flag is then not set.
pub fn claim(flag: &Arc<AtomicBool>) -> Claimed {
    flag.store(false, Ordering::Relaxed);
    let mut claim = claimed();
    (claim.flag, claim.set) = (Some(Arc::clone(flag)), false);
    Claimed(Arc::clone(flag))
}

impl Claimed {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut claim = claimed();
        (claim.flag, claim.set) = (None, false);
    }
}

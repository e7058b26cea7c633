//! How the terminal that we read from behaved before a line was edited on it. A process that is
//! ended in the middle of a line leaves it as it was.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{self, OptionalActions, Termios};

/// The editor asks the terminal to mark what is pasted.
const NO_MARKS: &[u8] = b"\x1b[?2004l";

static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Notes how it behaves now.
pub fn keep_terminal() {
    let now = termios::tcgetattr(std::io::stdin()).ok();
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = now;
}

/// Makes it behave so again.
pub fn abandon() {
    if let Some(before) = &*BEFORE.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        // Not to stdout: who writes there may hold its lock.
        if stderr().is_terminal() {
            let _ = stderr().lock().write_all(NO_MARKS);
        }
    }
}

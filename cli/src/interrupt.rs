//! Ctrl-C while text is generated: the first one asks the run to end after what it has, the
//! second ends the process at once. Before the first token the system's own way is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output::{self, Console};

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// A flag that the first Ctrl-C sets.
pub fn flag(console: &Console) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    let handler = move || {
        if seen.swap(true, Ordering::Relaxed) {
            output::abandon();
            std::process::exit(INTERRUPTED);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        console.say(format_args!(
            "note: Ctrl-C will end the program at once: {error}"
        ));
    }
    flag
}

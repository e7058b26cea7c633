//! Lines for the person who runs the server, written by a thread of its own: who reads stderr may
//! stop reading, and no answer waits for that. What does not fit meanwhile is left out.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::output::Console;

/// Lines that wait to be written.
const WAITING_MOST: usize = 1024;

/// Where lines go; by default nowhere.
#[derive(Debug, Clone, Default)]
pub struct Log(Option<SyncSender<String>>);

impl Log {
    /// One that says nothing where the console is quiet.
    pub fn start(console: Console) -> Self {
        if console.is_quiet() {
            return Self(None);
        }
        let (to, lines) = sync_channel::<String>(WAITING_MOST);
        let write = move || lines.iter().for_each(|line| console.say(line));
        let started = thread::Builder::new().name("log".to_owned()).spawn(write);
        Self(started.is_ok().then_some(to))
    }

    pub fn say(&self, line: impl FnOnce() -> String) {
        if let Some(to) = &self.0 {
            let _ = to.try_send(line());
        }
    }
}

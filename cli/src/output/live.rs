//! The terminal under a panel that is redrawn in place. Only writes; what is written is
//! [`Screen`]'s.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Stdout;
use super::screen::{Screen, Size, Writes};
use crate::failure::Failure;

/// The size of a terminal that does not tell.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// A panel is on the terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub struct LivePanel {
    screen: Screen,
}

impl LivePanel {
    /// Whether stderr is a terminal that can be drawn on.
    pub fn possible() -> bool {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        io::stderr().is_terminal() && !dumb
    }

    /// `text_beside`: text is written to a stdout that is a terminal. Two different terminals are
    /// treated as one: that costs nothing but a blank row.
    pub fn new(text_beside: bool) -> Self {
        Self {
            screen: Screen::new(text_beside),
        }
    }

    pub fn columns() -> usize {
        size().columns
    }

    pub fn text(&mut self, out: &mut Stdout, text: &str) -> Result<(), Failure> {
        let writes = self.screen.text(text, size());
        write(out, &writes)
    }

    pub fn show(&mut self, lines: Vec<String>) {
        SHOWN.store(true, Ordering::Relaxed);
        control(&self.screen.show(lines, size()).before);
    }

    /// Leaves the text alone on the terminal, whole.
    pub fn close(&mut self, out: &mut Stdout) -> Result<(), Failure> {
        let writes = self.screen.close();
        let written = write(out, &writes);
        SHOWN.store(false, Ordering::Relaxed);
        written
    }
}

/// Takes the panel away when the process is about to end without any further ado.
pub fn abandon() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        control("\x1b[J\r\n");
    }
}

fn write(out: &mut Stdout, writes: &Writes) -> Result<(), Failure> {
    control(&writes.before);
    if !writes.text.is_empty() {
        out.show(&writes.text)?;
    }
    control(&writes.after);
    Ok(())
}

/// Writes it at once, so that no half of it is seen. Errors cannot be told.
fn control(text: &str) {
    if !text.is_empty() {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

fn size() -> Size {
    let told = terminal_size::terminal_size_of(io::stderr());
    told.map_or(USUAL, |(columns, rows)| Size {
        columns: columns.0.into(),
        rows: rows.0.into(),
    })
}

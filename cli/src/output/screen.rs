//! Text that grows and a panel that is redrawn below it, on one terminal: what is to be written
//! where, as a value. Writes nothing itself, and knows neither what the text nor what the panel
//! says.
//!
//! Between two calls the terminal's cursor stands where the text goes on, and the panel lies on
//! the rows below. So most text is simply written, and the panel stays. Before text that leaves
//! its line everything below the cursor is erased, and after it the panel is drawn again: room is
//! made below by index (which scrolls at the last row and keeps the column), the cursor goes back
//! up and is saved, the panel is written, the cursor restored. The column is thus the terminal's
//! own; the one counted here only tells when a line is left. Where that count is wrong (a sequence
//! that the terminal joins to one glyph, a window that was resized) the text runs into the panel's
//! first row until the next draw, which begins at the cursor and sets it right.
//!
//! A character in the last column puts a terminal into a state that neither moving nor, on some,
//! restoring the cursor keeps: the next one would overwrite it. It is held back until the next
//! text comes, or the end.

use unicode_width::UnicodeWidthChar;

const ERASE_BELOW: &str = "\x1b[J";
const INDEX: &str = "\x1bD";
const SAVE: &str = "\x1b7";
const RESTORE: &str = "\x1b8";

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

#[derive(Debug)]
pub struct Screen {
    /// The text goes to the same terminal. Otherwise the panel has it to itself.
    shared: bool,
    column: usize,
    held: String,
    panel: Vec<String>,
}

/// What is to be written, in this order: the text to stdout, what is around it to stderr.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Writes {
    pub before: String,
    pub text: String,
    pub after: String,
}

impl Screen {
    pub fn new(shared: bool) -> Self {
        Self {
            shared,
            column: 0,
            held: String::new(),
            panel: Vec::new(),
        }
    }

    pub fn text(&mut self, text: &str, size: Size) -> Writes {
        if !self.shared {
            return Writes {
                text: text.to_owned(),
                ..Writes::default()
            };
        }
        self.held.push_str(text);
        let laid = lay(self.column, size.columns, &self.held);
        self.column = laid.column;
        let text: String = self.held.drain(..laid.written_bytes).collect();
        if !laid.leaves_line || self.panel.is_empty() {
            return Writes {
                text,
                ..Writes::default()
            };
        }
        Writes {
            before: ERASE_BELOW.into(),
            text,
            after: self.draw(size),
        }
    }

    /// The panel is these lines from now on. None may be wider than the terminal; rows that do not
    /// fit below the text are left out.
    pub fn show(&mut self, panel: Vec<String>, size: Size) -> Writes {
        self.panel = panel;
        Writes {
            before: self.draw(size),
            ..Writes::default()
        }
    }

    /// No panel, and all of the text.
    pub fn close(&mut self) -> Writes {
        let before = match std::mem::take(&mut self.panel).is_empty() {
            true => "",
            false => ERASE_BELOW,
        };
        Writes {
            before: before.into(),
            text: std::mem::take(&mut self.held),
            after: String::new(),
        }
    }

    fn draw(&self, size: Size) -> String {
        let above = usize::from(self.shared);
        let rows = self.panel.len().min(size.rows.saturating_sub(above));
        let below = (rows + above).saturating_sub(1);
        let mut drawn = String::from(ERASE_BELOW);
        if below > 0 {
            drawn.push_str(&INDEX.repeat(below));
            drawn.push_str(&format!("\x1b[{below}A"));
        }
        drawn.push_str(SAVE);
        for (row, line) in self.panel[..rows].iter().enumerate() {
            if row > 0 || self.shared {
                drawn.push_str("\r\n");
            }
            drawn.push_str(line);
        }
        drawn.push_str(RESTORE);
        drawn
    }
}

/// What becomes of a text that is written from a column on.
#[derive(Debug, PartialEq, Eq)]
struct Laid {
    /// What would end in the last column is not among them.
    written_bytes: usize,
    /// Where that leaves the cursor.
    column: usize,
    leaves_line: bool,
}

fn lay(column: usize, columns: usize, text: &str) -> Laid {
    // After a resize the line may have been longer than it can be now.
    let mut column = column.min(columns.saturating_sub(1));
    let mut leaves_line = false;
    let mut last_column = None;
    for (byte, character) in text.char_indices() {
        match character {
            '\n' => {
                (column, leaves_line, last_column) = (0, true, None);
            }
            '\r' => (column, last_column) = (0, None),
            '\t' if column < columns => {
                column = ((column / 8 + 1) * 8).min(columns.saturating_sub(1));
            }
            _ => {
                let width = character.width().unwrap_or(0);
                let from = column;
                if width > 0 && column + width > columns {
                    (column, leaves_line, last_column) = (width, true, None);
                } else {
                    column += width;
                }
                if width > 0 && column == columns {
                    last_column = Some((byte, from));
                }
            }
        }
    }
    let (written_bytes, column) = last_column.unwrap_or((text.len(), column));
    Laid {
        written_bytes,
        column,
        leaves_line,
    }
}

#[cfg(test)]
#[path = "../../tests/cli/terminal.rs"]
mod terminal;

#[cfg(test)]
mod tests {
    use super::terminal::Terminal;
    use super::*;

    /// Writes pieces and panels to a terminal, and looks at it after each.
    fn check(size: Size, pieces: &[&str], panel_rows: usize) {
        let terminal = || Terminal::new(size.columns, size.rows);
        let (mut shown, mut alone) = (terminal(), terminal());
        let mut screen = Screen::new(true);
        let mut written = String::new();
        let mut panel = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let mut write = |writes: Writes| {
                for part in [&writes.before, &writes.text, &writes.after] {
                    shown.feed(part);
                }
                alone.feed(&writes.text);
                written.push_str(&writes.text);
            };
            write(screen.text(piece, size));
            if index % 3 == 0 {
                let row = |row| format!("{}{row}", "#".repeat(size.columns - 2));
                panel = (0..panel_rows).map(row).collect::<Vec<_>>();
                write(screen.show(panel.clone(), size));
            }
            let mut expected = alone.lines_to_cursor();
            expected.extend(panel.iter().take(size.rows - 1).cloned());
            let whole: String = pieces[..=index].concat();
            assert_eq!(shown.lines(), expected, "{size:?} {whole:?}");
            assert_eq!(shown.cursor_column(), alone.cursor_column(), "{whole:?}");
            assert!(whole.starts_with(&written));
            assert!(whole.chars().count() <= written.chars().count() + 2);
        }
        let end = screen.close();
        shown.feed(&end.before);
        shown.feed(&end.text);
        written.push_str(&end.text);
        alone.feed(&end.text);
        assert_eq!(written, pieces.concat());
        assert_eq!(shown.lines_to_cursor(), alone.lines_to_cursor());
        assert_eq!(shown.lines(), alone.lines());
    }

    #[test]
    fn text_and_panel_never_meet() {
        let words = [
            "a",
            " word",
            "\n",
            "\n\n",
            "",
            " longer than a line of it",
            "漢字",
            "é",
            "e\u{301}",
            "x\n",
            "\tT",
            ".",
            "12345678",
        ];
        let mut state = 1u32;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        for _ in 0..400 {
            let size = Size {
                columns: 8 + draw(20),
                rows: 2 + draw(12),
            };
            let pieces: Vec<&str> = (0..60).map(|_| words[draw(words.len())]).collect();
            check(size, &pieces, 1 + draw(9));
        }
    }

    #[test]
    fn a_line_that_is_just_full_loses_nothing() {
        let size = Size {
            columns: 8,
            rows: 6,
        };
        check(size, &["1234567", "8", "9", "0"], 2);
        check(size, &["12345678", "\n", "9"], 2);
        check(size, &["123456漢", "字"], 2);
        check(size, &["1234567漢", "字"], 2);
        check(size, &["1234567e", "\u{301}", "9"], 2);
    }

    #[test]
    fn a_panel_of_its_own_is_redrawn_in_place() {
        let size = Size {
            columns: 10,
            rows: 4,
        };
        let mut terminal = Terminal::new(size.columns, size.rows);
        terminal.feed("one\r\ntwo\r\nthree\r\n");
        let mut screen = Screen::new(false);
        for round in 0..3 {
            assert_eq!(screen.text("text", size).text, "text");
            let lines = vec![format!("a {round}"), format!("b {round}")];
            terminal.feed(&screen.show(lines, size).before);
        }
        let lines = ["one", "two", "three", "a 2", "b 2"];
        assert_eq!(terminal.lines(), lines);
        terminal.feed(&screen.close().before);
        assert_eq!(terminal.lines(), lines[..3]);
        assert_eq!(screen.close(), Writes::default());
    }
}

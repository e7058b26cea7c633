//! A terminal, as far as text and a redrawn panel need one: wraps late like the real ones,
//! scrolls, moves, saves and erases. Panics at anything it does not know.

use unicode_width::UnicodeWidthChar;

#[derive(Debug)]
pub struct Terminal {
    columns: usize,
    /// What has left the screen at its top.
    scrolled: Vec<Vec<String>>,
    screen: Vec<Vec<String>>,
    row: usize,
    column: usize,
    /// The last column was written to; the next character wraps first.
    wraps: bool,
    saved: (usize, usize),
    escape: String,
}

impl Terminal {
    pub fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            scrolled: Vec::new(),
            screen: vec![vec![String::new(); columns]; rows],
            row: 0,
            column: 0,
            wraps: false,
            saved: (0, 0),
            escape: String::new(),
        }
    }

    /// Everything that was ever shown and not erased, to the last line with something on it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.lines_to(self.screen.len());
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// The same, to the line that the cursor is on.
    pub fn lines_to_cursor(&self) -> Vec<String> {
        self.lines_to(self.row + 1)
    }

    pub fn cursor_column(&self) -> usize {
        self.column
    }

    /// As after the driver of a terminal: a line feed returns to the first column.
    pub fn feed(&mut self, text: &str) {
        for character in text.chars() {
            self.take(character);
        }
    }

    fn lines_to(&self, rows: usize) -> Vec<String> {
        let lines = self.scrolled.iter().chain(&self.screen[..rows]);
        lines
            .map(|cells| {
                let cell = |cell: &String| match cell.as_str() {
                    "" => " ".to_owned(),
                    // The second half of a wide character.
                    "\0" => String::new(),
                    cell => cell.to_owned(),
                };
                let line: String = cells.iter().map(cell).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    fn take(&mut self, character: char) {
        if !self.escape.is_empty() {
            self.escape.push(character);
            self.escape();
            return;
        }
        match character {
            '\x1b' => self.escape.push(character),
            '\n' => {
                self.column = 0;
                self.down();
            }
            '\r' => (self.column, self.wraps) = (0, false),
            '\t' => self.column = ((self.column / 8 + 1) * 8).min(self.columns - 1),
            '\x08' => self.column = self.column.saturating_sub(1),
            other => self.print(other),
        }
    }

    fn escape(&mut self) {
        let escape = std::mem::take(&mut self.escape);
        match escape.as_str() {
            "\x1b[" => self.escape = escape,
            "\x1bD" => self.down(),
            "\x1b7" => self.saved = (self.row, self.column),
            "\x1b8" => {
                (self.row, self.column) = self.saved;
                self.wraps = false;
            }
            "\x1b[J" => {
                self.screen[self.row][self.column..].fill(String::new());
                for row in &mut self.screen[self.row + 1..] {
                    row.fill(String::new());
                }
            }
            sequence if sequence.ends_with('A') => {
                let rows: usize = sequence[2..sequence.len() - 1].parse().unwrap();
                self.row = self.row.saturating_sub(rows);
                self.wraps = false;
            }
            // Colours.
            sequence if sequence.ends_with('m') => {}
            sequence if sequence.ends_with(|end: char| end.is_ascii_digit() || end == ';') => {
                self.escape = escape;
            }
            sequence => panic!("unknown to this terminal: {sequence:?}"),
        }
    }

    fn down(&mut self) {
        self.wraps = false;
        if self.row + 1 < self.screen.len() {
            self.row += 1;
            return;
        }
        self.scrolled.push(self.screen.remove(0));
        self.screen.push(vec![String::new(); self.columns]);
    }

    fn print(&mut self, character: char) {
        let width = character.width().unwrap_or(0);
        if width == 0 {
            let before = if self.wraps {
                self.column
            } else {
                self.column.saturating_sub(1)
            };
            self.screen[self.row][before].push(character);
            return;
        }
        if self.wraps || self.column + width > self.columns {
            self.column = 0;
            self.down();
        }
        let cells = &mut self.screen[self.row];
        cells[self.column] = character.to_string();
        if width == 2 {
            cells[self.column + 1] = "\0".into();
        }
        self.wraps = self.column + width == self.columns;
        self.column = (self.column + width).min(self.columns - 1);
    }
}

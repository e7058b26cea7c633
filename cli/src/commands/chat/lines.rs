//! From lines to messages and commands. A message may go over several lines. It must not know where
//! lines come from.

/// What was typed, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    Message(String),
    /// A line that begins with `/`.
    Command(String),
    /// Nothing was.
    Nothing,
}

const QUOTE: &str = "\"\"\"";

/// The lines of a message that is not whole yet.
#[derive(Debug, Default)]
pub struct Lines {
    parts: Vec<String>,
    quoted: bool,
    bytes: usize,
}

impl Lines {
    /// Takes the next line, and says whether it was the last one.
    pub fn take(&mut self, line: &str) -> bool {
        let first = self.parts.is_empty() && !self.quoted;
        let (line, opened) = match line.trim_start().strip_prefix(QUOTE) {
            Some(rest) if first => (rest, true),
            _ => (line, false),
        };
        self.quoted |= opened;
        match self.quoted {
            true => {
                let end = line.trim_end().strip_suffix(QUOTE);
                let text = end.unwrap_or(line);
                // The quotes may have lines of their own, which are no part of it.
                if !(text.is_empty() && (opened || end.is_some())) {
                    self.push(text);
                }
                end.is_some()
            }
            false => {
                let more = line.strip_suffix('\\');
                self.push(more.unwrap_or(line));
                more.is_none()
            }
        }
    }

    fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.parts.push(line.to_owned());
    }

    /// How long it is by now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all lines come to.
    pub fn end(self) -> Typed {
        let alone = self.parts.len() == 1 && !self.quoted;
        let text = self.parts.join("\n");
        let command = text.trim_start();
        match alone.then(|| command.strip_prefix('/')).flatten() {
            _ if text.trim().is_empty() => Typed::Nothing,
            Some(rest) if rest.starts_with('/') => Typed::Message(rest.to_owned()),
            Some(_) => Typed::Command(command.to_owned()),
            None => Typed::Message(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that the lines come to; the last ends without being told.
    fn of(text: &str) -> Vec<Typed> {
        let mut all = Vec::new();
        let mut lines = Lines::default();
        let mut open = false;
        for line in text.split('|') {
            open = !lines.take(line);
            if !open {
                all.push(std::mem::take(&mut lines).end());
            }
        }
        if open {
            all.push(lines.end());
        }
        all
    }

    #[test]
    fn a_line_is_a_message_unless_it_goes_on() {
        let message = |text: &str| Typed::Message(text.to_owned());
        let quoted = "\"\"\"a|/b\\||c\"\"\"|d";
        for (lines, expected) in [
            ("a|b", vec![message("a"), message("b")]),
            ("a\\|b|c", vec![message("a\nb"), message("c")]),
            ("a\\", vec![message("a")]),
            (quoted, vec![message("a\n/b\\\n\nc"), message("d")]),
            ("\"\"\"|a|\"\"\"", vec![message("a")]),
            ("\"\"\"a b\"\"\"", vec![message("a b")]),
            ("\"\"\"|a", vec![message("a")]),
            ("\"\"\"/quit\"\"\"", vec![message("/quit")]),
            ("say \"\"\"", vec![message("say \"\"\"")]),
            (" /quit", vec![Typed::Command("/quit".into())]),
            ("//quit", vec![message("/quit")]),
            ("/a\\|b", vec![message("/a\nb")]),
            ("|  ", vec![Typed::Nothing, Typed::Nothing]),
            ("\"\"\"\"\"\"", vec![Typed::Nothing]),
        ] {
            assert_eq!(of(lines), expected, "{lines}");
        }
    }
}

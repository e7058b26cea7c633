//! A stream watched for marks: what cannot become one passes at once, and blanks wait with what may,
//! because a blank beside a tag belongs to the tag. It must not know what marks mean.

/// What is undecided: blanks, then what may be the begin of a mark. Once a mark is found it stays,
/// so that it can be taken for text after all.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    held: String,
    blank: usize,
}

/// What a character made of the text that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Undecided,
    /// This is text; what comes after it is to be read again.
    Text {
        text: String,
        again: String,
    },
    /// The mark of this index is whole.
    Mark(usize),
}

impl Watch {
    /// `blanks`: whether blanks before a mark belong to it.
    pub(super) fn step(&mut self, c: char, marks: &[&str], blanks: bool) -> Seen {
        if blanks && is_blank(c) && self.held.len() == self.blank {
            self.keep(c);
            return Seen::Undecided;
        }
        self.held.push(c);
        let tail = &self.held[self.blank..];
        if let Some(index) = marks.iter().position(|&mark| mark == tail) {
            return Seen::Mark(index);
        }
        if marks.iter().any(|mark| mark.starts_with(tail)) {
            return Seen::Undecided;
        }
        let first = tail.chars().next().map_or(0, char::len_utf8);
        let again = self.held.split_off(self.blank + first);
        Seen::Text {
            text: self.take(),
            again,
        }
    }

    /// Holds a character for one of the blanks.
    pub(super) fn keep(&mut self, c: char) {
        self.held.push(c);
        self.blank = self.held.len();
    }

    /// What is held and only blanks, or nothing.
    pub(super) fn is_blank(&self) -> bool {
        self.held.len() == self.blank
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn take(&mut self) -> String {
        self.blank = 0;
        std::mem::take(&mut self.held)
    }
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

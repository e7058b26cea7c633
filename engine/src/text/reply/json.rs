//! One JSON object, character by character: where it ends, where its fields are, and the first
//! character that does not belong to it. It holds no tree and calls nothing again and again for what
//! lies inside, so a hostile object costs its bytes. It must not know what the fields mean.

use std::ops::Range;

use serde_json::{Map, Value};

/// A little less than what readers of JSON usually take: what passes here can be read elsewhere.
const DEPTH_MAX: usize = 100;

/// What a character was to the one who was waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs, and more is to come.
    More,
    /// It belongs, and is the last.
    Done,
    /// It does not belong. It was not taken.
    Fail,
}

/// An object as far as it has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    text: String,
    /// What is open, outermost first.
    open: Vec<Inside>,
    at: At,
    /// The object's own fields, as they are written.
    fields: Vec<Field>,
    /// Of the field that is under way.
    key: Range<usize>,
    value_from: usize,
}

#[derive(Debug, Clone)]
struct Field {
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Object,
    Array,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Begin,
    KeyOrEnd,
    Key,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
    String(Of),
    Escape(Of),
    /// Digits of `\u` that are missing.
    Hex(Of, u8),
    Number(Number),
    /// What is missing of `true`, `false` or `null`.
    Word(&'static str),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Key,
    Value,
}

/// What a number ends with so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    /// With one character more, if it goes on.
    fn with(self, c: char) -> Option<Self> {
        match (self, c) {
            (Self::Minus, '0') => Some(Self::Zero),
            (Self::Minus, '1'..='9') | (Self::Digits, '0'..='9') => Some(Self::Digits),
            (Self::Zero | Self::Digits, '.') => Some(Self::Point),
            (Self::Point | Self::Fraction, '0'..='9') => Some(Self::Fraction),
            (Self::Zero | Self::Digits | Self::Fraction, 'e' | 'E') => Some(Self::E),
            (Self::E, '+' | '-') => Some(Self::Sign),
            (Self::E | Self::Sign | Self::Exponent, '0'..='9') => Some(Self::Exponent),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Digits | Self::Fraction | Self::Exponent
        )
    }
}

impl Object {
    pub(super) fn step(&mut self, c: char) -> Step {
        // A number is the one thing that ends with what comes after it.
        if let At::Number(number) = self.at {
            match number.with(c) {
                Some(longer) => self.at = At::Number(longer),
                None if number.may_end() => {
                    self.value_ends();
                    return self.step(c);
                }
                None => return Step::Fail,
            }
            self.text.push(c);
            return Step::More;
        }
        let Some(next) = self.after(c) else {
            return Step::Fail;
        };
        let from = self.text.len();
        self.text.push(c);
        self.go(next, c, from);
        match self.at {
            At::End => Step::Done,
            _ => Step::More,
        }
    }

    /// Where it is after this character, before what opens or closes with it is counted.
    fn after(&self, c: char) -> Option<At> {
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        match self.at {
            At::Begin => (c == '{').then_some(At::KeyOrEnd),
            At::KeyOrEnd | At::Key | At::Colon | At::Value | At::ValueOrEnd | At::CommaOrEnd
                if blank =>
            {
                Some(self.at)
            }
            At::KeyOrEnd if c == '}' => Some(At::End),
            At::KeyOrEnd | At::Key => (c == '"').then_some(At::String(Of::Key)),
            At::Colon => (c == ':').then_some(At::Value),
            At::ValueOrEnd if c == ']' => Some(At::End),
            At::Value | At::ValueOrEnd => match c {
                '{' if self.open.len() < DEPTH_MAX => Some(At::KeyOrEnd),
                '[' if self.open.len() < DEPTH_MAX => Some(At::ValueOrEnd),
                '"' => Some(At::String(Of::Value)),
                't' => Some(At::Word("rue")),
                'f' => Some(At::Word("alse")),
                'n' => Some(At::Word("ull")),
                '-' => Some(At::Number(Number::Minus)),
                _ => Number::Minus.with(c).map(At::Number),
            },
            At::CommaOrEnd => match (c, self.open.last()?) {
                (',', Inside::Object) => Some(At::Key),
                (',', Inside::Array) => Some(At::Value),
                ('}', Inside::Object) | (']', Inside::Array) => Some(At::End),
                _ => None,
            },
            At::String(of) => match c {
                '"' if of == Of::Key => Some(At::Colon),
                '"' => Some(At::CommaOrEnd),
                '\\' => Some(At::Escape(of)),
                '\0'..='\u{1f}' => None,
                _ => Some(self.at),
            },
            At::Escape(of) => match c {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => Some(At::String(of)),
                'u' => Some(At::Hex(of, 4)),
                _ => None,
            },
            At::Hex(of, left) if c.is_ascii_hexdigit() => match left {
                0 | 1 => Some(At::String(of)),
                _ => Some(At::Hex(of, left - 1)),
            },
            At::Word(rest) => rest.strip_prefix(c).map(At::Word),
            At::Hex(..) | At::Number(_) | At::End => None,
        }
    }

    /// Goes there; the character is the text's last and stands at `from`.
    fn go(&mut self, next: At, c: char, from: usize) {
        let was = std::mem::replace(&mut self.at, next);
        let outermost = self.open.len() == 1;
        if outermost && matches!(was, At::KeyOrEnd | At::Key) && next == At::String(Of::Key) {
            self.key.start = from;
        }
        if outermost && was == At::String(Of::Key) && next == At::Colon {
            self.key.end = self.text.len();
        }
        if outermost && was == At::Value && next != At::Value {
            self.value_from = from;
        }
        match (was, next) {
            (At::Begin | At::Value | At::ValueOrEnd, At::KeyOrEnd) => {
                self.open.push(Inside::Object);
            }
            (At::Value, At::ValueOrEnd) => self.open.push(Inside::Array),
            // A blank leaves it where it was.
            (At::ValueOrEnd, At::ValueOrEnd) if c == '[' => self.open.push(Inside::Array),
            (_, At::End) => {
                self.open.pop();
                if !self.open.is_empty() {
                    self.value_ends();
                }
            }
            (At::String(Of::Value), At::CommaOrEnd) | (_, At::Word("")) => self.value_ends(),
            _ => {}
        }
    }

    fn value_ends(&mut self) {
        self.at = At::CommaOrEnd;
        if self.open.len() == 1 {
            self.fields.push(Field {
                key: self.key.clone(),
                value: self.value_from..self.text.len(),
            });
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.at == At::End
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its own fields in order, keys and values as they are written.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = &self.text;
        (self.fields.iter()).map(|field| (&text[field.key.clone()], &text[field.value.clone()]))
    }

    /// The key of the field whose value comes now, right after it was written.
    pub(super) fn new_key(&self) -> Option<&str> {
        (self.open.len() == 1 && self.at == At::Colon).then(|| &self.text[self.key.clone()])
    }
}

/// A whole JSON text of any kind, as a value. What passes [`Object`] may still be refused: half a
/// surrogate, a number that is too large.
pub(super) fn value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Whether a text is an object to those who read it.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text).is_ok()
}

/// The text of a string that is written with its quotes.
pub(super) fn string(written: &str) -> Option<String> {
    serde_json::from_str(written).ok()
}

//! The settings in a GGUF file's header, by key. Texts may be any bytes until they are asked for as
//! text. Must not know what any key means.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::problem::GgufProblem;
use super::reader::Reader;
use crate::Error;

/// Published files have fewer than a hundred.
const ENTRIES_MAX: u64 = 1 << 16;

/// A key's length, a type and one byte: less takes no entry.
const ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(Number),
    Bool(bool),
    Text(Vec<u8>),
    List(List),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// Holds all of the format's whole numbers.
    Whole(i128),
    Fraction(f64),
}

/// Kept as the file has it, because lists are as long as vocabularies.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum List {
    Numbers { kind: NumberKind, bytes: Vec<u8> },
    Bools(Vec<u8>),
    Texts(Texts),
}

/// Many texts, one after another. The header is short enough for ends of 32 bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all texts together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        };
        Some(&self.bytes[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl NumberKind {
    /// The kind that has this number in the file.
    const fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Reads a number from as many bytes as it takes.
    fn read(self, bytes: &[u8]) -> Number {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        // The lowest bytes are all there are, so that no cast loses one.
        Number::Whole(match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => bits.into(),
            Self::I8 => (bits as i8).into(),
            Self::I16 => (bits as i16).into(),
            Self::I32 => (bits as i32).into(),
            Self::I64 => (bits as i64).into(),
            Self::F32 => return Number::Fraction(f32::from_bits(bits as u32).into()),
            Self::F64 => return Number::Fraction(f64::from_bits(bits)),
        })
    }
}

const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;

impl Number {
    pub fn value(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Fraction(fraction) => fraction,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            Self::Fraction(fraction) => fraction.fmt(f),
        }
    }
}

impl List {
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers { kind, bytes } => bytes.len() / kind.bytes(),
            Self::Bools(bools) => bools.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// `None` where they are no numbers.
    pub fn numbers(&self) -> Option<impl Iterator<Item = Number>> {
        match self {
            Self::Numbers { kind, bytes } => {
                let each = bytes.chunks_exact(kind.bytes());
                Some(each.map(|bytes| kind.read(bytes)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Letters of a text in a message.
        const SHOWN: usize = 60;
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(bytes) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
                let end = text.char_indices().nth(SHOWN).map(|(at, _)| at);
                match end {
                    Some(end) => write!(f, "{}…", &text[..end]),
                    None => f.write_str(&text),
                }
            }
            Self::List(list) => write!(f, "a list of {}", list.len()),
        }
    }
}

/// All settings of one file.
#[derive(Debug)]
pub(super) struct Metadata {
    file: String,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub fn read(file: &str, reader: &mut Reader<'_>, count: u64) -> Result<Self, Error> {
        reader.check_count("entries of metadata", count, ENTRY_BYTES_MIN, ENTRIES_MAX)?;
        let mut values = BTreeMap::new();
        for index in 0..count {
            let key = reader.text(&format_args!("the name of metadata {index}"))?;
            let Ok(key) = String::from_utf8(key) else {
                let what = "metadata";
                return Err(reader.fail(GgufProblem::Name { what, index }));
            };
            let kind = reader.u32(&format_args!("metadata `{key}`"))?;
            let value = value(reader, &key, kind)?;
            if values.contains_key(&key) {
                return Err(reader.fail(GgufProblem::KeyTwice { key }));
            }
            values.insert(key, value);
        }
        Ok(Self {
            file: file.into(),
            values,
        })
    }

    /// The file that says it.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Those whose key begins so.
    pub fn beginning(&self, prefix: &str) -> impl Iterator<Item = (&str, &Value)> {
        let values = self.values.range(prefix.to_owned()..);
        let prefix = prefix.to_owned();
        values
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.as_str(), value))
    }

    pub fn wrong(&self, key: &str, found: impl fmt::Display, expected: &str) -> Error {
        Error::Field {
            file: self.file.clone(),
            field: key.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    pub fn missing(&self, key: &str) -> Error {
        Error::FieldMissing {
            file: self.file.clone(),
            field: key.into(),
        }
    }

    pub fn unsupported(&self, key: &str, value: &str, supported: impl Into<String>) -> Error {
        Error::Unsupported {
            file: self.file.clone(),
            field: key.into(),
            value: value.into(),
            supported: supported.into(),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(self.wrong(key, error, "text in UTF-8")),
            },
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// A whole number from 0 to `max`.
    pub fn whole(&self, key: &str, max: usize) -> Result<Option<usize>, Error> {
        self.between(key, 0, max)
    }

    /// A whole number from 1 to `max`.
    pub fn count(&self, key: &str, max: usize) -> Result<Option<usize>, Error> {
        self.between(key, 1, max)
    }

    fn between(&self, key: &str, min: usize, max: usize) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let wrong = || {
            let expected = format!("a whole number from {min} to {max}");
            self.wrong(key, value, &expected)
        };
        match value {
            Value::Number(Number::Whole(whole)) => usize::try_from(*whole)
                .ok()
                .filter(|whole| (min..=max).contains(whole))
                .map(Some)
                .ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }

    /// The same of what may stand as a list with a number for each layer: all of them must be equal.
    pub fn count_of_layers(&self, key: &str, max: usize) -> Result<Option<usize>, Error> {
        let Some(Value::List(list)) = self.get(key) else {
            return self.count(key, max);
        };
        let mut numbers = list.numbers().into_iter().flatten();
        let (first, differs) = match numbers.next() {
            Some(Number::Whole(first)) => {
                let other = numbers.any(|number| number != Number::Whole(first));
                (usize::try_from(first).ok(), other)
            }
            _ => (None, false),
        };
        match first.filter(|count| (1..=max).contains(count)) {
            Some(_) if differs => {
                Err(self.unsupported(key, "of several values", "one number for all layers"))
            }
            Some(count) => Ok(Some(count)),
            None => {
                let expected = format!("a whole number from 1 to {max}");
                Err(self.wrong(key, format!("a list of {}", list.len()), &expected))
            }
        }
    }

    pub fn within(&self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) if range.contains(&number.value()) => {
                Ok(Some(number.value()))
            }
            Some(other) => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(self.wrong(key, other, &expected))
            }
        }
    }

    pub fn list(&self, key: &str) -> Result<Option<&List>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(key, other, "a list")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, Error> {
        match self.list(key)? {
            None => Ok(None),
            Some(List::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "a list of something else", "a list of texts")),
        }
    }

    /// Moves a list of texts out.
    pub fn take_texts(&mut self, key: &str) -> Result<Option<Texts>, Error> {
        self.texts(key)?;
        match self.values.remove(key) {
            Some(Value::List(List::Texts(texts))) => Ok(Some(texts)),
            _ => Ok(None),
        }
    }

    pub fn numbers(&self, key: &str) -> Result<Option<impl Iterator<Item = Number>>, Error> {
        match self.list(key)? {
            None => Ok(None),
            Some(list) => match list.numbers() {
                Some(numbers) => Ok(Some(numbers)),
                None => Err(self.wrong(key, "a list of something else", "a list of numbers")),
            },
        }
    }
}

fn value(reader: &mut Reader<'_>, key: &str, kind: u32) -> Result<Value, Error> {
    let what = format_args!("metadata `{key}`");
    if let Some(kind) = NumberKind::of(kind) {
        let mut bytes = Vec::new();
        reader.append(&mut bytes, kind.bytes() as u64, &what)?;
        return Ok(Value::Number(kind.read(&bytes)));
    }
    match kind {
        BOOL => match reader.take(&what)? {
            [found @ 0..=1] => Ok(Value::Bool(found == 1)),
            [found] => Err(reader.fail(GgufProblem::Bool {
                key: key.into(),
                found,
            })),
        },
        TEXT => Ok(Value::Text(reader.text(&what)?)),
        LIST => Ok(Value::List(list(reader, key)?)),
        kind => Err(unknown_type(reader, key, kind)),
    }
}

fn list(reader: &mut Reader<'_>, key: &str) -> Result<List, Error> {
    let what = format_args!("metadata `{key}`");
    let kind = reader.u32(&what)?;
    let count = reader.u64(&what)?;
    let left_bytes = reader.left();
    let check = |reader: &Reader<'_>, each_bytes: u64| match count > left_bytes / each_bytes {
        true => Err(reader.fail(GgufProblem::ListLength {
            key: key.into(),
            count,
            left_bytes,
        })),
        false => Ok(count * each_bytes),
    };
    if let Some(kind) = NumberKind::of(kind) {
        let needed = check(reader, kind.bytes() as u64)?;
        let mut bytes = Vec::new();
        reader.append(&mut bytes, needed, &what)?;
        return Ok(List::Numbers { kind, bytes });
    }
    match kind {
        BOOL => {
            let needed = check(reader, 1)?;
            let mut bools = Vec::new();
            reader.append(&mut bools, needed, &what)?;
            match bools.iter().find(|found| **found > 1) {
                Some(&found) => Err(reader.fail(GgufProblem::Bool {
                    key: key.into(),
                    found,
                })),
                None => Ok(List::Bools(bools)),
            }
        }
        TEXT => {
            check(reader, 8)?;
            let mut texts = Texts::default();
            for index in 0..count {
                let what = format_args!("text {index} of metadata `{key}`");
                let bytes = reader.u64(&what)?;
                reader.append(&mut texts.bytes, bytes, &what)?;
                // The reader ends before a header of 4 GiB.
                texts.ends.push(texts.bytes.len() as u32);
            }
            Ok(List::Texts(texts))
        }
        LIST => Err(reader.fail(GgufProblem::Nested { key: key.into() })),
        kind => Err(unknown_type(reader, key, kind)),
    }
}

fn unknown_type(reader: &Reader<'_>, key: &str, kind: u32) -> Error {
    reader.fail(GgufProblem::ValueType {
        key: key.into(),
        kind,
    })
}

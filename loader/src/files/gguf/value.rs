//! A value of a GGUF file's metadata, and how it is read. Knows no key.

use std::fmt;

use super::problem::GgufProblem;
use super::reader::Reader;
use crate::Error;

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

pub(super) fn value(reader: &mut Reader<'_>, key: &str, kind: u32) -> Result<Value, Error> {
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

//! The settings in a GGUF file's header, by key. Texts may be any bytes until they are asked for as
//! text. Must not know what any key means.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::problem::GgufProblem;
use super::reader::Reader;
use super::value::{List, Number, Texts, Value, value};
use crate::Error;

/// Published files have fewer than a hundred.
const ENTRIES_MAX: u64 = 1 << 16;

/// A key's length, a type and one byte: less takes no entry.
const ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;

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

//! Reading fields out of the JSON files of a checkpoint, with errors that name file and field. A
//! key that stands twice in an object is an error here: which of the two counts must not be
//! guessed. Must not know what any field means.

mod loose;
mod strict;

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

pub(crate) use loose::{Loose, parse_entries};
pub(crate) use strict::{NoValue, Twice, parse_value};

use crate::Error;

/// One JSON object of a named file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub file: &'a str,
    /// Where in the file this object stands: empty, or `rope_scaling.`
    pub prefix: &'a str,
    pub map: &'a Map<String, Value>,
}

/// Parses the file as one JSON object.
pub(crate) fn parse_object(file: &str, json: &[u8]) -> Result<Map<String, Value>, Error> {
    let problem = match parse_value(json) {
        Ok(Value::Object(map)) => return Ok(map),
        Ok(_) => "expected an object".into(),
        Err(NoValue::Json(error)) => error.to_string(),
        Err(NoValue::Twice(Twice { field, values })) => {
            return Err(Error::FieldTwice {
                file: file.into(),
                field,
                values,
            });
        }
    };
    Err(Error::Json {
        file: file.into(),
        problem,
    })
}

impl<'a> Fields<'a> {
    /// The value, where it is present and not null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, field: &str, found: impl fmt::Display, expected: &str) -> Error {
        Error::Field {
            file: self.file.into(),
            field: format!("{}{field}", self.prefix),
            found: shorten(found.to_string()),
            expected: expected.into(),
        }
    }

    pub fn missing(&self, field: &str) -> Error {
        Error::FieldMissing {
            file: self.file.into(),
            field: format!("{}{field}", self.prefix),
        }
    }

    fn as_kind<T>(
        &self,
        field: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| self.wrong(field, value, expected)),
        }
    }

    pub fn bool(&self, field: &str) -> Result<Option<bool>, Error> {
        self.as_kind(field, "true or false", Value::as_bool)
    }

    pub fn str(&self, field: &str) -> Result<Option<&'a str>, Error> {
        self.as_kind(field, "a string", Value::as_str)
    }

    pub fn f64(&self, field: &str) -> Result<Option<f64>, Error> {
        self.as_kind(field, "a number", Value::as_f64)
    }

    pub fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        self.as_kind(field, "an object", Value::as_object)
    }

    pub fn list(&self, field: &str) -> Result<Option<&'a Vec<Value>>, Error> {
        self.as_kind(field, "a list", Value::as_array)
    }

    /// A number from 1 to `max`.
    pub fn count(&self, field: &str, max: usize) -> Result<Option<usize>, Error> {
        let expected = format!("a whole number from 1 to {max}");
        self.as_kind(field, &expected, |value| {
            let count = usize::try_from(value.as_u64()?).ok()?;
            (1..=max).contains(&count).then_some(count)
        })
    }

    /// A number from 0 to `max`.
    pub fn index(&self, field: &str, max: usize) -> Result<Option<usize>, Error> {
        let expected = format!("a whole number from 0 to {max}");
        self.as_kind(field, &expected, |value| {
            let index = usize::try_from(value.as_u64()?).ok()?;
            (index <= max).then_some(index)
        })
    }

    /// A positive, finite number.
    pub fn positive(&self, field: &str) -> Result<Option<f64>, Error> {
        self.as_kind(field, "a positive number", |value| {
            value.as_f64().filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    /// A number in `range`.
    pub fn within(&self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Error> {
        let [start, end] = [range.start(), range.end()].map(|bound| match bound {
            1e-3..1e7 => bound.to_string(),
            _ => format!("{bound:e}"),
        });
        let expected = format!("a number from {start} to {end}");
        self.as_kind(field, &expected, |value| {
            value.as_f64().filter(|x| range.contains(x))
        })
    }

    /// One token id, a list of them, or nothing.
    pub fn tokens(&self, field: &str) -> Result<Vec<u32>, Error> {
        let expected = "a token id or a list of them";
        let found = self.as_kind(field, expected, |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            value => token(value).map(|id| vec![id]),
        })?;
        Ok(found.unwrap_or_default())
    }
}

fn token(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// A value may be a megabyte of text; a message may not.
pub(crate) fn shorten(mut text: String) -> String {
    const CHARS_MAX: usize = 80;
    if let Some((end, _)) = text.char_indices().nth(CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

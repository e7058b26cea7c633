//! Reading fields out of the JSON files of a checkpoint, with errors that name file and field. A key
//! that stands twice in an object is an error here: which of the two counts must not be guessed.
//! Must not know what any field means.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

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

/// A key that one object has twice.
#[derive(Debug)]
pub(crate) struct Twice {
    /// Where it stands, outermost object first: `rope_scaling.factor`.
    pub field: String,
    pub values: [String; 2],
}

/// Why a text is not a value.
#[derive(Debug)]
pub(crate) enum NoValue {
    Twice(Twice),
    Json(serde_json::Error),
}

/// Parses one value, in which no object has a key twice.
pub(crate) fn parse_value(json: &[u8]) -> Result<Value, NoValue> {
    let twice = RefCell::new(None);
    let strict = Strict {
        at: None,
        twice: &twice,
    };
    let mut text = serde_json::Deserializer::from_slice(json);
    let value = strict.deserialize(&mut text);
    let value = value.and_then(|value| text.end().map(|()| value));
    or_twice(value, twice)
}

/// Parses one object and hands over its entries in the order of the file. Its own keys may come
/// again, for the caller to judge; within an entry none may.
pub(crate) fn parse_entries(json: &[u8], each: impl FnMut(String, Loose)) -> Result<(), NoValue> {
    let twice = RefCell::new(None);
    let entries = Entries {
        each,
        twice: &twice,
    };
    let mut text = serde_json::Deserializer::from_slice(json);
    let done = text.deserialize_map(entries);
    let done = done.and_then(|()| text.end());
    or_twice(done, twice)
}

fn or_twice<T>(
    parsed: Result<T, serde_json::Error>,
    twice: RefCell<Option<Twice>>,
) -> Result<T, NoValue> {
    match twice.into_inner() {
        Some(twice) => Err(NoValue::Twice(twice)),
        None => parsed.map_err(NoValue::Json),
    }
}

/// The way to a value: the keys of the objects around it.
struct Path<'a> {
    outer: Option<&'a Self>,
    key: &'a str,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            write!(f, "{outer}.")?;
        }
        f.write_str(self.key)
    }
}

/// Makes a [`Value`], and leaves in `twice` the first key that one object has twice.
#[derive(Clone, Copy)]
struct Strict<'a> {
    at: Option<&'a Path<'a>>,
    twice: &'a RefCell<Option<Twice>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = Path {
                outer: self.at,
                key: &key,
            };
            let value = map.next_value_seed(Strict {
                at: Some(&path),
                ..self
            })?;
            if let Some(first) = values.get(&key) {
                let values = [first, &value].map(|value| shorten(value.to_string()));
                *self.twice.borrow_mut() = Some(Twice {
                    field: shorten(path.to_string()),
                    values,
                });
                return Err(A::Error::custom("a key is given twice"));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

struct Entries<'a, F> {
    each: F,
    twice: &'a RefCell<Option<Twice>>,
}

impl<'de, F: FnMut(String, Loose)> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let path = Path {
                outer: None,
                key: &key,
            };
            let value = map.next_value_seed(LooseSeed {
                at: Some(&path),
                twice: self.twice,
            })?;
            (self.each)(key, value);
        }
        Ok(())
    }
}

/// What one entry of a header can be. Headers of megabytes have hundreds of thousands of them:
/// what an entry takes in memory is a small multiple of its text, whatever the text is.
#[derive(Debug)]
pub(crate) enum Loose {
    Text(String),
    /// A list of whole numbers, and of nothing else.
    Numbers(Vec<u64>),
    Fields(Vec<(String, Loose)>),
    /// Anything else, as the first characters of its text would be.
    Other(String),
}

/// More numbers than any shape has are no shape.
const NUMBERS_MAX: usize = 64;

impl fmt::Display for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Numbers(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                write!(f, "[{}]", numbers.join(","))
            }
            Self::Fields(_) => f.write_str("{...}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[derive(Clone, Copy)]
struct LooseSeed<'a> {
    at: Option<&'a Path<'a>>,
    twice: &'a RefCell<Option<Twice>>,
}

impl<'de> DeserializeSeed<'de> for LooseSeed<'_> {
    type Value = Loose;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Loose, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LooseSeed<'_> {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Other("null".into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(Loose::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(Loose::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
        Ok(Loose::Other(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Loose, E> {
        Ok(Loose::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        let mut numbers = Vec::new();
        let mut others = false;
        while let Some(element) = list.next_element_seed(NumberSeed(self))? {
            match element {
                Some(number) if numbers.len() < NUMBERS_MAX => numbers.push(number),
                _ => others = true,
            }
        }
        Ok(match others {
            false => Loose::Numbers(numbers),
            true => Loose::Other("[...]".into()),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        // A tensor has three fields; where there are many, they are looked up.
        const FEW: usize = 8;
        let mut fields: Vec<(String, Loose)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = Path {
                outer: self.at,
                key: &key,
            };
            let value = map.next_value_seed(LooseSeed {
                at: Some(&path),
                ..self
            })?;
            let before = match fields.len() {
                0..=FEW => fields.iter().position(|(name, _)| *name == key),
                _ => places.get(&key).copied(),
            };
            if let Some(first) = before {
                let values = [&fields[first].1, &value].map(|value| shorten(value.to_string()));
                *self.twice.borrow_mut() = Some(Twice {
                    field: shorten(path.to_string()),
                    values,
                });
                return Err(A::Error::custom("a key is given twice"));
            }
            if fields.len() == FEW {
                let names = fields.iter().enumerate();
                places.extend(names.map(|(place, (name, _))| (name.clone(), place)));
            }
            if fields.len() >= FEW {
                places.insert(key.clone(), fields.len());
            }
            fields.push((key, value));
        }
        Ok(Loose::Fields(fields))
    }
}

/// An element of a list: a whole number, or `None` for anything else.
struct NumberSeed<'a>(LooseSeed<'a>);

impl<'de> DeserializeSeed<'de> for NumberSeed<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<u64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumberSeed<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<u64>, E> {
        Ok(Some(value))
    }

    fn visit_unit<E>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<u64>, A::Error> {
        self.0.visit_seq(list).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<u64>, A::Error> {
        self.0.visit_map(map).map(|_| None)
    }
}

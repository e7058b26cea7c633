//! Values in which no object has a key twice.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::shorten;

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

pub(super) fn or_twice<T>(
    parsed: Result<T, serde_json::Error>,
    twice: RefCell<Option<Twice>>,
) -> Result<T, NoValue> {
    match twice.into_inner() {
        Some(twice) => Err(NoValue::Twice(twice)),
        None => parsed.map_err(NoValue::Json),
    }
}

/// The way to a value: the keys of the objects around it.
pub(super) struct Path<'a> {
    pub(super) outer: Option<&'a Self>,
    pub(super) key: &'a str,
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

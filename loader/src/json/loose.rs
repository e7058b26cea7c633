//! The entries of a large object, each a small multiple of its text in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::shorten;
use super::strict::{NoValue, Path, Twice, or_twice};

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

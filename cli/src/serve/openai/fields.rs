//! The fields of a request's object: read with their kinds and ranges, and those that nobody knows.
//! What is wrong is told with the field's name.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::serve::ask::{Refusal, RefusalKind};

/// What clients send that changes no answer here: for billing, caching or storing elsewhere.
const HINTS: [&str; 17] = [
    "client_metadata",
    "include",
    "metadata",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "truncation",
    "user",
    "verbosity",
];

/// A field that would change the answer, and the values of it that do not.
#[derive(Debug, Clone, Copy)]
pub struct Unsupported {
    pub name: &'static str,
    /// As JSON; null and what is empty are fine for all.
    pub fine: &'static [&'static str],
}

/// Fields of requests of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub fields: &'static [&'static str],
    pub unsupported: &'static [Unsupported],
}

impl Known {
    /// The names of fields without effect. Strict: there may be none but hints.
    pub fn check(&self, object: &Map<String, Value>, strict: bool) -> Result<Vec<String>, Refusal> {
        let mut ignored = Vec::new();
        for (name, value) in object {
            if self.fields.contains(&name.as_str()) || HINTS.contains(&name.as_str()) {
                continue;
            }
            let unsupported = self.unsupported.iter().find(|field| field.name == name);
            match unsupported {
                Some(field) if field.is_fine(value) => {}
                Some(_) => return Err(unsupported_field(name, "is not supported: leave it out")),
                None if strict => {
                    let why =
                        "is no field that this server knows, and it was started with --strict";
                    return Err(unsupported_field(name, why));
                }
                None => ignored.push(name.clone()),
            }
        }
        Ok(ignored)
    }
}

impl Unsupported {
    fn is_fine(&self, value: &Value) -> bool {
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        empty || self.fine.contains(&value.to_string().as_str())
    }
}

/// The fields of an object that may be left out, or null.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let read = |value: &Value| value.as_bool().ok_or_else(|| wrong(name, "true or false"));
        self.get(name).map(read).transpose()
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let read = |value: &'a Value| value.as_str().ok_or_else(|| wrong(name, "a text"));
        self.get(name).map(read).transpose()
    }

    pub fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        let read = |value: &'a Value| value.as_object().ok_or_else(|| wrong(name, "an object"));
        self.get(name).map(read).transpose()
    }

    pub fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, Refusal> {
        let read = |value: &'a Value| value.as_array().ok_or_else(|| wrong(name, "a list"));
        self.get(name).map(read).transpose()
    }

    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| range.contains(number));
        let what = || match *range.end() {
            f64::MAX => format!("a number of {} or more", range.start()),
            end => format!("a number from {} to {end}", range.start()),
        };
        match number {
            Some(number) => Ok(Some(number as f32)),
            None => Err(wrong(name, &what())),
        }
    }

    pub fn count(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        // Some clients write whole numbers with a point.
        let whole = value.as_f64().filter(|number| number.fract() == 0.0);
        let whole = whole.filter(|number| (0.0..9e15).contains(number));
        let count = value.as_u64().or(whole.map(|number| number as u64));
        let what = || match *range.end() {
            u64::MAX => format!("a whole number of {} or more", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        match count.filter(|count| range.contains(count)) {
            Some(count) => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
            None => Err(wrong(name, &what())),
        }
    }
}

/// The value of a field is not what it must be.
pub fn wrong(field: &str, must_be: &str) -> Refusal {
    invalid(field, format!("`{field}` must be {must_be}"))
}

pub fn invalid(field: &str, message: String) -> Refusal {
    Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message,
        field: Some(field.to_owned()),
    }
}

pub fn unsupported_field(field: &str, why: &str) -> Refusal {
    let shown: String = field.chars().take(80).collect();
    Refusal {
        status: 400,
        kind: RefusalKind::Unsupported,
        message: format!("`{shown}` {why}"),
        field: Some(shown),
    }
}

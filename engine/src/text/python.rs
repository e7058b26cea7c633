//! The words of Python that chat templates expect from Jinja: methods of strings and
//! mappings, `tojson` as `json.dumps` writes it, dates, and a way to refuse the messages.
//! It must not know what a template renders.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::value::{Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};

mod date;
mod json;

#[cfg(test)]
mod tests;

pub(in crate::text) use json::{indented, to_json};

/// Local time, as the model's own tools have it.
pub(super) fn strftime_now(format: &str) -> String {
    let ahead = chrono::Local::now().offset().local_minus_utc();
    date::strftime(format, now(), i64::from(ahead))
}

/// Today's date in UTC, like 2026-01-31.
pub fn today() -> String {
    date::strftime("%Y-%m-%d", now(), 0)
}

/// Day and time in UTC, like 2026-01-31T23:59:59Z.
pub fn date_and_time() -> String {
    date::strftime("%Y-%m-%dT%H:%M:%SZ", now(), 0)
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// As Python prints it: a float with an exponent has it elsewhere than the template engine.
pub(super) fn text(value: &Value) -> String {
    float(value).unwrap_or_else(|| value.to_string())
}

/// A float as `repr` writes it; `None` for anything else.
pub(super) fn float(value: &Value) -> Option<String> {
    if !value.is_number() || value.is_integer() {
        return None;
    }
    let number = f64::try_from(value.clone()).ok()?;
    if number == 0.0 || !number.is_finite() {
        return None;
    }
    let exponent = format!("{number:e}");
    let (digits, power) = exponent.split_once('e')?;
    match power.parse::<i32>().ok()? {
        -4..16 => None,
        power => Some(format!(
            "{digits}e{}{:02}",
            if power < 0 { '-' } else { '+' },
            power.abs()
        )),
    }
}

#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

pub(super) fn raise_exception(reason: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, reason.clone()).with_source(Refusal(reason)))
}

/// What the template gave to `raise_exception`, if that is what ended it.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(Refusal(reason)) = error.downcast_ref() {
            return Some(reason.clone());
        }
        source = error.source();
    }
    None
}

pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        (Some(text), "rsplit") => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, most)
        }
        (Some(text), "partition") => {
            let (separator,): (&str,) = from_args(args)?;
            Ok(match text.split_once(separator) {
                Some((before, after)) => tuple([before, separator, after]),
                None => tuple([text, "", ""]),
            })
        }
        (Some(text), "rpartition") => {
            let (separator,): (&str,) = from_args(args)?;
            Ok(match text.rsplit_once(separator) {
                Some((before, after)) => tuple([before, separator, after]),
                None => tuple(["", "", text]),
            })
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Result<Value, Error> {
    let pieces = most
        .and_then(|most| usize::try_from(most).ok())
        .map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(pieces, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let cut = rest
                    .rfind(char::is_whitespace)
                    .filter(|_| parts.len() + 1 < pieces);
                // The rest of a limited split keeps its inner and leading space.
                let start = cut.map_or(0, |at| {
                    at + rest[at..].chars().next().map_or(1, char::len_utf8)
                });
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end();
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

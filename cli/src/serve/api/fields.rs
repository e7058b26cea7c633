//! The fields of a request, taken out one by one: what is left was not asked for here, and is a
//! hint, refused by name, or noted. Which fields there are is the matter of each API.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::notes::Notes;
use super::refuse;
use crate::serve::ask::{Refusal, RefusalKind};

/// A value takes some hundred bytes of memory, and no more than two in a body.
const VALUES_MAX: usize = 1_000_000;

#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The object that a request's body is.
    pub fn of_body(body: &[u8]) -> Result<Self, Refusal> {
        let values = values(body);
        if values > VALUES_MAX {
            let message = format!(
                "The body has {values} values, and this server reads {VALUES_MAX} at most."
            );
            return Err(Refusal {
                status: 413,
                kind: RefusalKind::TooLarge,
                message,
                field: None,
            });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self::of(fields)),
            Ok(_) => Err(refuse::body("The body must be a JSON object.".to_owned())),
            Err(error) => Err(refuse::body(format!("The body is no JSON: {error}."))),
        }
    }

    /// Those of an object within a body.
    pub fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// Without taking it.
    pub fn look(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// What is null was not given.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(refuse::not_a(name, "a text", &other)),
        }
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(refuse::not_a(name, "true or false", &other)),
        }
    }

    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Refusal> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(refuse::not_a(name, "a list", &other)),
        }
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(refuse::not_a(name, "an object", &other)),
        }
    }

    /// A number in this range; one up to `f32::MAX` has no upper end.
    pub fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let (from, to) = (*range.start(), *range.end());
        let within = |number: &f64| (f64::from(from)..=f64::from(to)).contains(number);
        let wanted = || match to {
            f32::MAX => format!("a number of at least {from}"),
            to => format!("a number from {from} to {to}"),
        };
        match value.as_f64().filter(within) {
            Some(number) => Ok(Some(number as f32)),
            None => Err(refuse::not_within(name, &wanted(), &value)),
        }
    }

    /// A whole number in this range; one up to `u64::MAX` has no upper end.
    pub fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        // Some clients write whole numbers with a point.
        let whole = value.as_f64().filter(|number| number.fract() == 0.0);
        let whole = whole.filter(|number| (0.0..9e15).contains(number));
        let number = value.as_u64().or(whole.map(|number| number as u64));
        let wanted = || match (range.start(), range.end()) {
            (from, &u64::MAX) => format!("a whole number of at least {from}"),
            (from, to) => format!("a whole number from {from} to {to}"),
        };
        match number.filter(|number| range.contains(number)) {
            // More than fits is as good as no limit.
            Some(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
            None => Err(refuse::not_within(name, &wanted(), &value)),
        }
    }

    /// A text, or a list of texts, none of them empty.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let texts = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(text @ Value::String(_)) => vec![text],
            Some(Value::Array(texts)) => texts,
            Some(other) => return Err(refuse::not_a(name, "a list of texts", &other)),
        };
        let text = |(at, text): (usize, Value)| match text {
            Value::String(text) if !text.is_empty() => Ok(text),
            Value::String(_) => {
                let field = format!("{name}[{at}]");
                Err(refuse::invalid(
                    &field,
                    format!("`{field}` is an empty text."),
                ))
            }
            other => Err(refuse::not_a(&format!("{name}[{at}]"), "a text", &other)),
        };
        texts.into_iter().enumerate().map(text).collect()
    }

    /// Takes the field if its value, as JSON, is one of these. Says whether it was.
    pub fn take_if(&mut self, name: &str, values: &[&str]) -> bool {
        let given = self.0.get(name).map(Value::to_string);
        let is = given.is_some_and(|given| values.contains(&given.as_str()));
        if is {
            self.0.shift_remove(name);
        }
        is
    }

    /// What this API has and this server has not, with the reason or what to do instead.
    pub fn refuse(&mut self, unsupported: &[(&str, &str)]) -> Result<(), Refusal> {
        for (name, instead) in unsupported {
            match self.take(name) {
                // What is off, or empty, asks for nothing.
                None | Some(Value::Bool(false)) => {}
                Some(Value::Array(list)) if list.is_empty() => {}
                Some(Value::Object(object)) if object.is_empty() => {}
                Some(_) => {
                    let message = format!("`{name}` is not supported: {instead}");
                    return Err(refuse::unsupported(*name, message));
                }
            }
        }
        Ok(())
    }

    /// The fields that are left: hints change nothing in an answer, and what is not known is noted,
    /// or refused where the server is strict.
    pub fn finish(self, hints: &[&str], strict: bool, notes: &mut Notes) -> Result<(), Refusal> {
        for name in self.0.keys().filter(|name| !hints.contains(&name.as_str())) {
            if strict {
                let message = format!(
                    "`{}` is no field that this server knows, and it was started with --strict.",
                    refuse::quoted(name)
                );
                return Err(refuse::unsupported(refuse::quoted(name), message));
            }
            notes.ignore(name);
        }
        Ok(())
    }
}

/// How many values a JSON text can have at most: each but the first follows a bracket, a comma or a
/// colon.
pub fn values(json: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;

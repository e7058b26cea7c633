//! A call of a tool that is written as a JSON object: its name and its arguments. An object that says
//! more than a call does is none: what it says would be lost. It must not know tags.

use super::json::{self, Object, Step};

/// A call that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub name: String,
    /// An object, as it was written.
    pub json: String,
}

/// How sure it is that an object is a call at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// A tag says so: arguments may be missing.
    Tagged,
    /// Nothing does but its fields.
    Bare,
}

/// What a call may say. Identifiers are given by whoever runs the call.
const FIELDS: [&str; 5] = [
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"id\"",
    "\"type\"",
];

/// An object that may be a call, as far as it has come.
#[derive(Debug, Clone)]
pub(super) struct JsonCall {
    object: Object,
    meant: Meant,
}

impl JsonCall {
    pub(super) fn new(meant: Meant) -> Self {
        Self {
            object: Object::default(),
            meant,
        }
    }

    /// Fails at the first field that no call has: an answer in JSON need not wait for its end.
    pub(super) fn step(&mut self, c: char) -> Step {
        let step = self.object.step(c);
        match self.object.new_key() {
            Some(key) if c == '"' && !FIELDS.contains(&key) => Step::Fail,
            _ => step,
        }
    }

    /// The call, if the object is whole and one.
    pub(super) fn call(&self) -> Option<Call> {
        if !self.object.is_whole() || !json::is_object(self.object.text()) {
            return None;
        }
        let mut name = None;
        let mut arguments = None;
        let mut seen = Vec::new();
        for (key, value) in self.object.fields() {
            if seen.contains(&key) {
                return None;
            }
            seen.push(key);
            match key {
                "\"name\"" => name = Some(json::string(value)?),
                "\"arguments\"" | "\"parameters\"" if arguments.is_some() => return None,
                "\"arguments\"" | "\"parameters\"" => arguments = Some(object_of(value)?),
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty())?;
        match (arguments, self.meant) {
            (Some(json), _) => Some(Call { name, json }),
            (None, Meant::Tagged) => Some(Call {
                name,
                json: "{}".to_owned(),
            }),
            (None, Meant::Bare) => None,
        }
    }
}

/// Arguments as they are written: an object, one inside a string, or `null` for none.
fn object_of(value: &str) -> Option<String> {
    match value.as_bytes().first()? {
        b'{' => Some(value.to_owned()),
        b'"' => json::string(value).filter(|text| json::is_object(text)),
        b'n' => Some("{}".to_owned()),
        _ => None,
    }
}

//! A call in the XML of Qwen3-Coder, from its function's name on: parameters are texts between tags,
//! and become JSON by the tool's schema. It must not know what stands around the call.

use super::call::Call;
use super::json::{self, Step};
use super::types::Types;
use super::watch::is_blank;

const PARAMETER: &str = "<parameter=";
const PARAMETER_ENDS: &str = "</parameter>";
const ENDS: &str = "</function>";

/// A longer name is none.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Function {
    name: String,
    parameters: Vec<(String, String)>,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Name,
    /// Between parameters, with what there is of the next tag.
    Between(String),
    Key(String),
    Value {
        key: String,
        text: String,
    },
    End,
}

impl Function {
    /// After `<function=`.
    pub(super) fn new() -> Self {
        Self {
            name: String::new(),
            parameters: Vec::new(),
            at: At::Name,
        }
    }

    pub(super) fn step(&mut self, c: char) -> Step {
        match &mut self.at {
            At::Name => match name_step(&mut self.name, c) {
                Step::Done => self.at = At::Between(String::new()),
                step => return step,
            },
            At::Between(tag) if tag.is_empty() && is_blank(c) => {}
            At::Between(tag) => {
                tag.push(c);
                match tag.as_str() {
                    PARAMETER => self.at = At::Key(String::new()),
                    ENDS => {
                        self.at = At::End;
                        return Step::Done;
                    }
                    tag if PARAMETER.starts_with(tag) || ENDS.starts_with(tag) => {}
                    _ => {
                        tag.pop();
                        return Step::Fail;
                    }
                }
            }
            At::Key(key) => match name_step(key, c) {
                // Which of the two would be meant?
                Step::Done if self.parameters.iter().any(|(other, _)| other == key) => {
                    return Step::Fail;
                }
                Step::Done => {
                    self.at = At::Value {
                        key: std::mem::take(key),
                        text: String::new(),
                    }
                }
                step => return step,
            },
            At::Value { key, text } => {
                text.push(c);
                if let Some(value) = text.strip_suffix(PARAMETER_ENDS) {
                    let parameter = (std::mem::take(key), without_line_ends(value).to_owned());
                    self.parameters.push(parameter);
                    self.at = At::Between(String::new());
                }
            }
            At::End => return Step::Fail,
        }
        Step::More
    }

    /// Bytes of a tag that has begun.
    pub(super) fn pending(&self) -> usize {
        match &self.at {
            At::Between(tag) => tag.len(),
            At::Name | At::Key(_) | At::Value { .. } | At::End => 0,
        }
    }

    /// The call, if it is whole.
    pub(super) fn call(&self, types: &Types) -> Option<Call> {
        if !matches!(self.at, At::End) {
            return None;
        }
        let fields = self.parameters.iter().map(|(key, text)| {
            let value = types.json(&self.name, key, text);
            format!("{}: {value}", serde_json::Value::from(key.as_str()))
        });
        let json = format!("{{{}}}", fields.collect::<Vec<_>>().join(", "));
        json::is_object(&json).then(|| Call {
            name: self.name.clone(),
            json,
        })
    }
}

/// A name up to its `>`.
fn name_step(name: &mut String, c: char) -> Step {
    match c {
        '>' if name.is_empty() => Step::Fail,
        '>' => Step::Done,
        '<' | '\n' => Step::Fail,
        _ if name.len() >= NAME_BYTES_MAX => Step::Fail,
        _ => {
            name.push(c);
            Step::More
        }
    }
}

/// The format puts each value on lines of its own.
fn without_line_ends(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}

//! What a template is given: messages, tools, documents, and names of its own. From JSON it comes
//! as transformers would pass it on, in the order of the file, because templates print it so.

use std::fmt;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::text::TextError;
use crate::text::error::TEMPLATE_ARGUMENTS;

/// A value takes far more memory than the two bytes that it may have in a file.
const VALUES_MAX: usize = 1_000_000;

/// A value counts as this much beside its text.
const VALUE_BYTES: usize = 64;

/// Names under which a message may have its reasoning; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A conversation, and what else a template may ask for.
#[derive(Debug, Clone)]
pub struct Chat {
    pub(super) messages: Vec<Value>,
    pub(super) tools: Option<Value>,
    pub(super) documents: Option<Value>,
    add_generation_prompt: bool,
    others: Vec<(String, Value)>,
}

impl Chat {
    /// Ends with the words that open the assistant's turn, unless it is told otherwise.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        let value = |message: Message| {
            Value::from_pairs([("role", message.role), ("content", message.content)])
        };
        Self {
            messages: messages.into_iter().map(value).collect(),
            tools: None,
            documents: None,
            add_generation_prompt: true,
            others: Vec::new(),
        }
    }

    /// Reads a list of messages, or an object with `messages` and, if need be, `tools` and
    /// `documents`.
    pub fn from_json(json: &[u8]) -> Result<Self, TextError> {
        const INPUT: &str = "messages";
        let wrong = |reason: String| wrong(INPUT, reason);
        let value = parse(json).map_err(wrong)?;
        let mut chat = Self::new([]);
        match value.kind() {
            ValueKind::Seq => chat.messages = messages(&value).map_err(wrong)?,
            ValueKind::Map => {
                for (name, value) in pairs(&value) {
                    match name.as_str() {
                        "messages" => chat.messages = messages(&value).map_err(wrong)?,
                        "tools" => chat.tools = objects(&name, value).map_err(wrong)?,
                        "documents" => chat.documents = objects(&name, value).map_err(wrong)?,
                        _ => {
                            return Err(wrong(format!(
                                "`{name}` is none of messages, tools and documents"
                            )));
                        }
                    }
                }
            }
            kind => {
                return Err(wrong(format!(
                    "{kind} is neither a list of messages nor an object with one"
                )));
            }
        }
        match chat.messages.is_empty() {
            true => Err(wrong("there are none".to_owned())),
            false => Ok(chat),
        }
    }

    /// Puts a system message before the others.
    pub fn add_system(&mut self, text: &str) -> Result<(), TextError> {
        let first = self
            .messages
            .first()
            .and_then(|first| first.get_attr("role").ok());
        if first.is_some_and(|role| role.as_str() == Some("system")) {
            let reason = "they begin with a system message, and another one was given";
            return Err(wrong("messages", reason.to_owned()));
        }
        let message = Value::from_pairs([("role", "system"), ("content", text)]);
        self.messages.insert(0, message);
        Ok(())
    }

    /// Reads an object of names and what the template finds under them. `tools`, `documents` and
    /// `add_generation_prompt` may be among them.
    pub fn add_arguments(&mut self, json: &[u8]) -> Result<(), TextError> {
        let wrong = |reason: String| wrong(TEMPLATE_ARGUMENTS, reason);
        let value = parse(json).map_err(wrong)?;
        if value.kind() != ValueKind::Map {
            return Err(wrong(format!("{} is no object of names", value.kind())));
        }
        for (name, value) in pairs(&value) {
            match name.as_str() {
                "messages" => {
                    return Err(wrong("messages are no argument".to_owned()));
                }
                "tools" => once(&mut self.tools, &name, value).map_err(wrong)?,
                "documents" => once(&mut self.documents, &name, value).map_err(wrong)?,
                "add_generation_prompt" => match value.kind() {
                    ValueKind::Bool => self.add_generation_prompt = value.is_true(),
                    _ => return Err(wrong(format!("{name} is {value}, not true or false"))),
                },
                _ => self.others.push((name, value)),
            }
        }
        Ok(())
    }

    pub fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// The names that were given, beyond those that every template gets.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        let tools = self.tools.iter().map(|_| "tools");
        let documents = self.documents.iter().map(|_| "documents");
        let others = self.others.iter().map(|(name, _)| name.as_str());
        tools.chain(documents).chain(others)
    }

    /// Every name that the template can find. What was given goes before the special tokens.
    pub(super) fn context(&self, special: &[(String, String)]) -> Value {
        let none = || Value::from(());
        let special = special
            .iter()
            .map(|(name, token)| (name.clone(), Value::from(token.as_str())));
        let always = [
            ("messages", Value::from(self.messages.clone())),
            (
                "add_generation_prompt",
                Value::from(self.add_generation_prompt),
            ),
            // transformers defines these even when there are none.
            ("tools", self.tools.clone().unwrap_or_else(none)),
            ("documents", self.documents.clone().unwrap_or_else(none)),
        ];
        let always = always.map(|(name, value)| (name.to_owned(), value));
        Value::from_pairs(special.chain(self.others.iter().cloned()).chain(always))
    }

    /// How much was given: limits grow with it.
    pub(super) fn bytes(&self) -> usize {
        let own = self.tools.iter().chain(&self.documents);
        let others = self.others.iter().map(|(_, value)| value);
        self.messages
            .iter()
            .chain(own)
            .chain(others)
            .map(bytes)
            .sum()
    }
}

/// Nothing here is nested deeper than JSON may be, but for what a caller of the library nests.
fn bytes(value: &Value) -> usize {
    let mut total = 0;
    let mut open = vec![value.clone()];
    while let Some(value) = open.pop() {
        total += VALUE_BYTES + value.as_str().map_or(0, str::len);
        match value.kind() {
            ValueKind::Seq => open.extend(value.try_iter().into_iter().flatten()),
            ValueKind::Map => open.extend(pairs(&value).map(|(_, value)| value)),
            _ => {}
        }
    }
    total
}

pub(super) fn wrong(input: &'static str, reason: String) -> TextError {
    TextError::ChatInput { input, reason }
}

fn pairs(map: &Value) -> impl Iterator<Item = (String, Value)> + use<> {
    let pairs = map.as_object().and_then(|map| map.try_iter_pairs());
    let pairs: Vec<_> = pairs.into_iter().flatten().collect();
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
}

/// What was given a second time must be the same.
fn once(place: &mut Option<Value>, name: &str, value: Value) -> Result<(), String> {
    let value = objects(name, value)?;
    match (place.as_ref(), value) {
        (Some(before), Some(value)) if *before != value => {
            Err(format!("{name} were given before, and differ"))
        }
        (_, None) => Ok(()),
        (_, value) => {
            *place = value;
            Ok(())
        }
    }
}

fn objects(name: &str, value: Value) -> Result<Option<Value>, String> {
    if value.is_none() {
        return Ok(None);
    }
    let list = value.kind() == ValueKind::Seq;
    let mut items = value.try_iter().into_iter().flatten();
    match list && items.all(|item| item.kind() == ValueKind::Map) {
        true => Ok(Some(value)),
        false => Err(format!("{name} must be a list of objects")),
    }
}

/// A message without what is null in it, and with its reasoning under the names that templates
/// read.
fn messages(list: &Value) -> Result<Vec<Value>, String> {
    if list.kind() != ValueKind::Seq {
        return Err(format!("`messages` must be a list, it is {}", list.kind()));
    }
    let items = list.try_iter().into_iter().flatten().enumerate();
    items
        .map(|(index, item)| match item.kind() {
            ValueKind::Map => Ok(message(&item)),
            kind => Err(format!("message {} is {kind}, not an object", index + 1)),
        })
        .collect()
}

fn message(given: &Value) -> Value {
    let mut fields: Vec<_> = pairs(given).filter(|(_, value)| !value.is_none()).collect();
    let find =
        |fields: &[(String, Value)], name: &str| fields.iter().position(|(field, _)| field == name);
    let reasoning = REASONING.iter().find_map(|name| find(&fields, name));
    if let Some(reasoning) = reasoning.map(|at| fields[at].1.clone()) {
        if find(&fields, "thinking").is_none() {
            fields.insert(0, ("thinking".to_owned(), reasoning.clone()));
        }
        match find(&fields, REASONING[0]) {
            Some(at) => fields[at].1 = reasoning,
            None => fields.push((REASONING[0].to_owned(), reasoning)),
        }
    }
    Value::from_pairs(fields)
}

fn parse(json: &[u8]) -> Result<Value, String> {
    if let Some(number) = beyond_64_bits(json) {
        return Err(format!("the number {number} has more than 64 bits"));
    }
    let mut left = VALUES_MAX;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Seed { left: &mut left }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| error.to_string())
}

/// A whole number that would come out rounded.
fn beyond_64_bits(json: &[u8]) -> Option<String> {
    let (mut at, mut in_text) = (0, false);
    while at < json.len() {
        match json[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'-' | b'0'..=b'9' if !in_text => {
                let rest = &json[at..];
                let of_number = |byte: &u8| b"+-.eE0123456789".contains(byte);
                let length = rest.iter().take_while(|byte| of_number(byte)).count();
                let number = String::from_utf8_lossy(&rest[..length]);
                let whole = !number.contains(['.', 'e', 'E']);
                let fits = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
                if whole && !fits && length >= 19 {
                    return Some(number.chars().take(40).collect());
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Builds a value of the template engine; counts how many there are.
struct Seed<'l> {
    left: &'l mut usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if *self.left == 0 {
            return Err(D::Error::custom(format_args!(
                "more than {VALUES_MAX} values"
            )));
        }
        *self.left -= 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let left = self.left;
        while let Some(item) = items.next_element_seed(Seed { left })? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::<(String, Value)>::new();
        let mut places = std::collections::HashMap::new();
        let left = self.left;
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Seed { left })?;
            match places.insert(name.clone(), fields.len()) {
                None => fields.push((name, value)),
                Some(first) if fields[first].1 == value => {
                    places.insert(name, first);
                }
                Some(_) => {
                    let name: String = name.chars().take(80).collect();
                    return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                }
            }
        }
        Ok(Value::from_pairs(fields))
    }
}

#[cfg(test)]
mod tests;

//! The formats of answers as Lark grammars: what [`super::Reply`] would read as thoughts, as text
//! and as calls of these tools, and nothing else. Thoughts may come first where the template thinks.
//! It must not know how grammars are compiled, nor tokens beyond the ids of marks.
//!
//! A mark that is a special token is that token; any other is its text, which a model may spell as
//! it likes. Where text may come before a call, the mark of a call ends it: what follows is a call.

mod calls;
mod coder;
mod harmony;
mod writer;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::super::grammar::embedded;
use super::style::{Format, Style};
use writer::Writer;

/// What an answer has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    pub text: TextWish,
    /// The tools that may be called.
    pub tools: Vec<ToolWish>,
    /// Whether an answer may call more than once.
    pub several: bool,
}

/// What an answer may say besides calls.
#[derive(Debug, Clone, PartialEq)]
pub enum TextWish {
    /// It has to call.
    Nothing,
    Anything,
    /// JSON of this schema, or a call.
    Json(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolWish {
    pub name: String,
    /// The schema of its arguments; `None`: any object.
    pub parameters: Option<Value>,
}

impl Style {
    /// The wish as a grammar. `special`: the ids of those marks that are special tokens. Errors say
    /// what is wrong with a schema, or with the wish.
    pub fn lark(
        &self,
        wish: &Wish,
        special: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<String, String> {
        let mut writer = Writer::new(special);
        if wish.tools.is_empty() && wish.text == TextWish::Nothing {
            return Err("there is nothing that the answer may be".to_owned());
        }
        match self.format {
            Format::Harmony(channel) => harmony::write(channel, wish, &mut writer)?,
            Format::Tagged(marks) => {
                let calls = calls::write(marks, wish, &mut writer)?;
                let thoughts = self.thoughts(&mut writer);
                let text = match &wish.text {
                    TextWish::Json(_) if marks.bare_objects && calls.is_some() => {
                        return Err(
                            "this model writes calls as JSON objects, and JSON texts cannot \
                                    be told from them"
                                .to_owned(),
                        );
                    }
                    TextWish::Json(schema) => Some(writer.json(schema)?),
                    TextWish::Anything if marks.bare_objects => Some(writer.no_object()),
                    TextWish::Anything => Some(writer.text()),
                    TextWish::Nothing => None,
                };
                let bodies: Vec<String> = text.into_iter().chain(calls).collect();
                writer.start(&format!("{thoughts}({})", bodies.join(" | ")));
            }
            Format::Thoughts => {
                let thoughts = self.thoughts(&mut writer);
                let text = match &wish.text {
                    TextWish::Json(schema) => writer.json(schema)?,
                    TextWish::Anything => writer.text(),
                    TextWish::Nothing => return Err("no tool is shown to the model".to_owned()),
                };
                writer.start(&format!("{thoughts}{text}"));
            }
        }
        Ok(writer.lark())
    }

    /// What comes before everything else, with a space behind it.
    fn thoughts(&self, writer: &mut Writer<'_>) -> String {
        if let Some(think) = self.thinking {
            return format!("{} GAP? ", writer.until(think.close));
        }
        let Some(think) = self.may_think else {
            return "GAP? ".to_owned();
        };
        let (open, rest) = (writer.opening(think.open), writer.until(think.close));
        format!("GAP? ({open} {rest} GAP?)? ")
    }
}

/// A schema for a part of another's value: what it refers to is taken along.
fn part_of(whole: &Value, part: &Value) -> Value {
    let Value::Object(fields) = part else {
        return part.clone();
    };
    let mut fields = fields.clone();
    for shared in ["$defs", "definitions"] {
        if let (Some(defs), false) = (whole.get(shared), fields.contains_key(shared)) {
            fields.insert(shared.to_owned(), defs.clone());
        }
    }
    Value::Object(fields)
}

fn any_object() -> Value {
    json!({"type": "object"})
}

/// As it stands behind `%json`.
fn embed(schema: &Value) -> Result<String, String> {
    embedded(schema).map(|schema| schema.to_string())
}

fn fields_of(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

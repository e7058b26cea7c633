//! The rules of a grammar as they are found to be needed. It must not know formats.

use serde_json::Value;

use super::embed;

pub(super) struct Writer<'a> {
    special: &'a dyn Fn(&str) -> Option<u32>,
    rules: Vec<String>,
}

/// What every grammar may use. Blanks beside marks have an end, as they have in JSON.
const SHARED: &str =
    "GAP: /[ \\n\\r\\t]{1,4}/\nTEXT: /(?s:.*)/\nOTHER: /[ \\n\\r\\t]*[^ \\n\\r\\t{](?s:.*)/\n";

impl<'a> Writer<'a> {
    pub(super) fn new(special: &'a dyn Fn(&str) -> Option<u32>) -> Self {
        Self {
            special,
            rules: Vec::new(),
        }
    }

    /// Adds a rule, and gives its name.
    pub(super) fn rule(&mut self, options: &str, body: &str) -> String {
        let name = format!("r{}", self.rules.len());
        self.rules.push(format!("{name}{options}: {body}"));
        name
    }

    pub(super) fn start(&mut self, body: &str) {
        self.rules.push(format!("start: {body}"));
    }

    pub(super) fn lark(self) -> String {
        format!("{SHARED}{}\n", self.rules.join("\n"))
    }

    pub(super) fn is_special(&self, mark: &str) -> bool {
        (self.special)(mark).is_some()
    }

    /// A mark of the format.
    pub(super) fn mark(&self, mark: &str) -> String {
        match (self.special)(mark) {
            Some(id) => format!("<[{id}]>"),
            None => quoted(mark),
        }
    }

    /// The same where text may come in its place: the mark counts at once.
    pub(super) fn opening(&mut self, mark: &str) -> String {
        match (self.special)(mark) {
            Some(id) => format!("<[{id}]>"),
            None => self.rule("[lazy]", &format!("/{}/", escaped(mark))),
        }
    }

    /// Any text up to a mark, and the mark.
    pub(super) fn until(&mut self, mark: &str) -> String {
        match (self.special)(mark) {
            Some(id) => self.rule("", &format!("TEXT <[{id}]>")),
            None => self.rule("[lazy]", &format!("/(?s:.*){}/", escaped(mark))),
        }
    }

    pub(super) fn text(&self) -> String {
        "TEXT".to_owned()
    }

    /// Any text that does not begin with an object.
    pub(super) fn no_object(&self) -> String {
        "OTHER?".to_owned()
    }

    pub(super) fn json(&mut self, schema: &Value) -> Result<String, String> {
        let schema = embed(schema)?;
        Ok(self.rule("", &format!("%json {schema}")))
    }
}

/// A text as Lark quotes it, which is as JSON does.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text as a pattern.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => pattern.push_str("\\n"),
            _ => {
                if r"\.+*?()|[]{}^$#&-~/".contains(letter) {
                    pattern.push('\\');
                }
                pattern.push(letter);
            }
        }
    }
    pattern
}

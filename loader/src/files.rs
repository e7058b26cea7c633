//! What a checkpoint's files are beside safetensors: the chat templates that it brings along, as
//! text, and other formats. What a template means is the tokenizer's business.

pub(crate) mod gguf;
pub(crate) mod torch;

use std::collections::HashMap;

use serde_json::Value;

use crate::json::Fields;
use crate::{Checkpoint, Error};

pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

const TEMPLATE: &str = "chat_template.jinja";
const MORE_TEMPLATES: &str = "additional_chat_templates";
/// What a template is called that has no name.
const DEFAULT: &str = "default";

impl Checkpoint {
    /// The names of the chat templates. `chat_template.jinja` is `default`, the files of
    /// `additional_chat_templates` have their own; where there is neither, it is the string in
    /// `tokenizer_config.json`, or the list there.
    pub fn chat_template_names(&self) -> Result<Vec<String>, Error> {
        let files = self.folder().names_in(MORE_TEMPLATES, ".jinja")?;
        let default = self.folder().has(TEMPLATE)?.then(|| DEFAULT.to_owned());
        if default.is_some() && files.contains(&DEFAULT.to_owned()) {
            return Err(Error::Field {
                file: self.display(MORE_TEMPLATES),
                field: "name".into(),
                found: DEFAULT.into(),
                expected: format!("another name, because {TEMPLATE} is the default"),
            });
        }
        let names: Vec<_> = default.into_iter().chain(files).collect();
        if !names.is_empty() {
            return Ok(names);
        }
        let listed = self.listed_templates()?;
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    /// The chat template of that name.
    pub fn chat_template(&self, name: &str) -> Result<Option<String>, Error> {
        if !self
            .chat_template_names()?
            .iter()
            .any(|found| found == name)
        {
            return Ok(None);
        }
        let files = self.folder().names_in(MORE_TEMPLATES, ".jinja")?;
        let file = match name {
            DEFAULT if self.folder().has(TEMPLATE)? => {
                Some((TEMPLATE.to_owned(), self.file(TEMPLATE)?))
            }
            // A name in tokenizer_config.json is any text, and no file's.
            _ if files.iter().any(|file| file == name) => {
                let file = format!("{name}.jinja");
                let bytes = self.folder().read_in(MORE_TEMPLATES, &file)?;
                bytes.map(|bytes| (format!("{MORE_TEMPLATES}/{file}"), Some(bytes)))
            }
            _ => None,
        };
        let Some((file, bytes)) = file else {
            let listed = self.listed_templates()?;
            return Ok(listed
                .into_iter()
                .find(|(found, _)| found == name)
                .map(|(_, text)| text));
        };
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| Error::Field {
            file: self.display(&file),
            field: "text".into(),
            found: error.to_string(),
            expected: "UTF-8".into(),
        })
    }

    fn listed_templates(&self) -> Result<Vec<(String, String)>, Error> {
        let Some(map) = self.tokenizer_config()? else {
            return Ok(Vec::new());
        };
        let file = self.display(TOKENIZER_CONFIG);
        let fields = Fields {
            file: &file,
            prefix: "",
            map,
        };
        templates(&fields)
    }
}

fn templates(fields: &Fields<'_>) -> Result<Vec<(String, String)>, Error> {
    const FIELD: &str = "chat_template";
    const EXPECTED: &str = "a string, or a list of {name, template}, each name once";
    let list = match fields.get(FIELD) {
        None => return Ok(Vec::new()),
        Some(Value::String(template)) => {
            return Ok(vec![(DEFAULT.to_owned(), template.clone())]);
        }
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(other) => return Err(fields.wrong(FIELD, other, EXPECTED)),
    };
    let mut found = Vec::new();
    let mut seen = HashMap::new();
    for entry in list {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        let (Some(name), Some(template)) = (text("name"), text("template")) else {
            return Err(fields.wrong(FIELD, entry, EXPECTED));
        };
        match seen.insert(name, template) {
            None => found.push((name.to_owned(), template.to_owned())),
            Some(before) if before == template => {}
            Some(_) => return Err(fields.wrong(FIELD, format!("`{name}` twice"), EXPECTED)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Family;
    use crate::synth::{self, SynthSpec};

    #[test]
    fn a_template_that_is_listed_may_have_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        synth::write(&path, &SynthSpec::tiny(Family::LLAMA), &mut |_, _| {}).unwrap();
        let config = r#"{"chat_template": [{"name": "a/../b", "template": "t"}]}"#;
        fs::write(path.join(TOKENIZER_CONFIG), config).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.chat_template_names().unwrap(), ["a/../b"]);
        let found = checkpoint.chat_template("a/../b").unwrap();
        assert_eq!(found.as_deref(), Some("t"));
        assert_eq!(checkpoint.chat_template("c/d").unwrap(), None);
    }
}

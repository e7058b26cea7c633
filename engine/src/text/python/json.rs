//! `tojson` as transformers gives it to templates: Python's `json.dumps`, spaces and all,
//! because a model was trained on those. It must not know what is being described.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// A deeper value is refused; templates write tools and arguments with this.
const JSON_DEPTH_MAX: usize = 64;

/// How `json.dumps` was asked to write.
struct JsonStyle {
    item_separator: String,
    key_separator: String,
    indent: Option<usize>,
    sort_keys: bool,
    ascii: bool,
}

pub(in crate::text) fn to_json(
    value: &Value,
    indent: Option<usize>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<usize>>("indent")?.or(indent);
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "separators must be a pair",
            ));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let style = JsonStyle {
        item_separator,
        key_separator,
        // A wider indent is a way to ask for a lot of memory.
        indent: indent.map(|spaces| spaces.min(16)),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut json = String::new();
    write_json(&mut json, value, &style, 0)?;
    Ok(Value::from(json))
}

/// For people and for files: a line a value.
pub(in crate::text) fn indented(value: &Value) -> Result<String, Error> {
    let style = JsonStyle {
        item_separator: ",".to_owned(),
        key_separator: ": ".to_owned(),
        indent: Some(2),
        sort_keys: false,
        ascii: false,
    };
    let mut json = String::new();
    write_json(&mut json, value, &style, 0)?;
    Ok(json)
}

fn write_json(
    json: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    if depth > JSON_DEPTH_MAX {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson of a value nested deeper than {JSON_DEPTH_MAX}"),
        ));
    }
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => json.push_str(&super::text(value)),
        ValueKind::String => write_json_string(json, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.collect::<Vec<_>>();
            write_json_items(json, "[]", items, style, depth, |json, item| {
                write_json(json, &item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys = value.try_iter()?.collect::<Vec<_>>();
            if style.sort_keys {
                keys.sort();
            }
            write_json_items(json, "{}", keys, style, depth, |json, key| {
                write_json_key(json, &key, style)?;
                json.push_str(&style.key_separator);
                write_json(json, &value.get_item(&key)?, style, depth + 1)
            })?;
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson of a value of type {kind}"),
            ));
        }
    }
    Ok(())
}

fn write_json_items(
    json: &mut String,
    brackets: &str,
    items: Vec<Value>,
    style: &JsonStyle,
    depth: usize,
    mut write: impl FnMut(&mut String, Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let (open, close) = brackets.split_at(1);
    let new_line = |json: &mut String, depth: usize| {
        if let Some(spaces) = style.indent {
            json.push('\n');
            json.extend(std::iter::repeat_n(' ', spaces * depth));
        }
    };
    json.push_str(open);
    let empty = items.is_empty();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            json.push_str(&style.item_separator);
        }
        new_line(json, depth + 1);
        write(json, item)?;
    }
    if !empty {
        new_line(json, depth);
    }
    json.push_str(close);
    Ok(())
}

fn write_json_key(json: &mut String, key: &Value, style: &JsonStyle) -> Result<(), Error> {
    match key.as_str() {
        Some(text) => write_json_string(json, text, style),
        None => {
            let mut text = String::new();
            write_json(&mut text, key, style, JSON_DEPTH_MAX)?;
            write_json_string(json, &text, style);
        }
    }
    Ok(())
}

fn write_json_string(json: &mut String, text: &str, style: &JsonStyle) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            _ if letter < ' ' || (style.ascii && !letter.is_ascii()) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    json.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => json.push(letter),
        }
    }
    json.push('"');
}

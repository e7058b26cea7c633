//! JSON schemas before they are compiled: how large they may be, which of their keywords mean
//! nothing here, and how the values that they describe are written.

mod bounds;

use llguidance::JsonCompileOptions;
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value};

/// Values in a schema, all together, and in each other.
const VALUES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 48;

/// Blanks between the parts of a value: one, or a line's end and an indentation. Without a bound a
/// model could write blanks for ever.
const BLANKS: &str = r"\x20|\r?\n[\x20\x09]{0,40}";

/// Formats that are held to; the others are notes, as the standard has it.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Keywords whose values are data, not schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];
/// Keywords whose values are schemas by names of the user's.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

pub(super) fn checked(schema: &Value) -> Result<GrammarWithLexer, String> {
    embedded(schema).map(GrammarWithLexer::from_json_schema)
}

/// The schema as it stands behind `%json` in a Lark grammar.
pub fn embedded(schema: &Value) -> Result<Value, String> {
    let mut left = VALUES_MAX;
    measure(schema, DEPTH_MAX, &mut left)?;
    let schema = match schema {
        Value::Bool(true) => Value::Object(Map::new()),
        // Nothing satisfies it.
        Value::Bool(false) => return Err("nothing satisfies `false`".to_owned()),
        Value::Object(_) => schema.clone(),
        _ => return Err("it is neither an object nor a boolean".to_owned()),
    };
    let mut schema = without_notes(schema);
    bounds::check(&schema)?;
    let options = JsonCompileOptions {
        whitespace_pattern: Some(BLANKS.to_owned()),
        // Each choice of a `oneOf` is held to, not that no two hold.
        coerce_one_of: true,
        ..JsonCompileOptions::default()
    };
    // In place of what the schema may say about it itself.
    options.apply_to(&mut schema);
    Ok(schema)
}

fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("it is more than {DEPTH_MAX} levels deep"));
    }
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("it has more than {VALUES_MAX} values"))?;
    match value {
        Value::Array(values) => values
            .iter()
            .try_for_each(|it| measure(it, depth - 1, left)),
        Value::Object(fields) => fields
            .values()
            .try_for_each(|it| measure(it, depth - 1, left)),
        _ => Ok(()),
    }
}

/// Formats that are not held to are taken out: to the compiler they are errors.
fn without_notes(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        return match schema {
            Value::Array(items) => items.into_iter().map(without_notes).collect(),
            other => other,
        };
    };
    let is_held = |key: &str, value: &Value| match value {
        Value::String(format) if key == "format" => FORMATS.contains(&format.as_str()),
        _ => true,
    };
    let fields = fields
        .into_iter()
        .filter(|(key, value)| is_held(key, value));
    let of = |(key, value): (String, Value)| {
        let value = match value {
            value if DATA.contains(&key.as_str()) => value,
            Value::Object(named) if NAMED.contains(&key.as_str()) => named
                .into_iter()
                .map(|(name, schema)| (name, without_notes(schema)))
                .collect::<Map<_, _>>()
                .into(),
            value => without_notes(value),
        };
        (key, value)
    };
    Value::Object(fields.map(of).collect())
}

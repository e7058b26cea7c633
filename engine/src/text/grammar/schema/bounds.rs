//! What of a schema takes the compiler long, or much memory, where it has no limit of its own: each
//! was found by a small schema that took minutes. A bound need not be exact: what is far from it is
//! what people write.

use serde_json::{Map, Value};

/// Patterns and formats of which some may have to hold for one value: what is multiplied out doubles
/// with each.
const PATTERNS_TOGETHER_MAX: usize = 12;
/// Names by patterns, which are compared in pairs.
const PATTERN_PROPERTIES_MAX: usize = 100;
/// Properties of an object that may be missing: each may be followed by each behind it.
const OPTIONAL_MAX: usize = 400;
/// An automaton for multiples has as many states: of the digits, without zeroes behind them; where
/// several have to hold, of all together.
const MULTIPLE_MAX: u64 = 10_000;

pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut found = Found {
        multiple: 1,
        multiples: 1,
        ..Found::default()
    };
    found.walk(schema);
    let multiple = match found.together {
        true => found.multiples,
        false => found.multiple,
    };
    let bounds = [
        (
            found.patterns * usize::from(found.together),
            PATTERNS_TOGETHER_MAX,
            "patterns and formats beside `allOf` or `$ref`",
        ),
        (
            found.pattern_properties,
            PATTERN_PROPERTIES_MAX,
            "`patternProperties`",
        ),
        (
            found.optional,
            OPTIONAL_MAX,
            "properties in one object that are not `required`",
        ),
    ];
    if let Some((count, most, what)) = bounds.into_iter().find(|(count, most, _)| count > most) {
        return Err(format!("it has {count} {what}, {most} is the most"));
    }
    match multiple > MULTIPLE_MAX {
        true => Err(format!(
            "its `multipleOf` has too many digits: {MULTIPLE_MAX} is the most, without zeroes and point"
        )),
        false => Ok(()),
    }
}

#[derive(Default)]
struct Found {
    patterns: usize,
    pattern_properties: usize,
    /// The most in one object.
    optional: usize,
    multiple: u64,
    multiples: u64,
    /// Whether parts of it may have to hold for one value.
    together: bool,
}

impl Found {
    fn walk(&mut self, schema: &Value) {
        let Value::Object(fields) = schema else {
            let items = schema.as_array().into_iter().flatten();
            return items.for_each(|item| self.walk(item));
        };
        let count = |key: &str| {
            let named = fields.get(key).and_then(Value::as_object);
            named.map_or(0, Map::len)
        };
        let has_text = |key: &str| fields.get(key).is_some_and(Value::is_string);
        let own = usize::from(has_text("pattern")) + usize::from(has_text("format"));
        self.patterns += own;
        self.pattern_properties += count("patternProperties");
        let required = fields.get("required").and_then(Value::as_array);
        let required = required.map_or(0, Vec::len);
        self.optional = (self.optional).max(count("properties").saturating_sub(required));
        let multiple = fields.get("multipleOf").filter(|value| value.is_number());
        if let Some(multiple) = multiple {
            let digits = digits(&multiple.to_string());
            self.multiple = self.multiple.max(digits);
            self.multiples = self.multiples.saturating_mul(digits);
        }
        let merges = ["$ref", "anyOf", "oneOf"];
        let merges = merges.iter().any(|key| fields.contains_key(*key));
        let has_own = own > 0 || multiple.is_some();
        self.together |= fields.contains_key("allOf") || (merges && has_own);
        fields.values().for_each(|value| self.walk(value));
    }
}

/// The digits of a number, without its point, its power of ten, and zeroes at either end.
fn digits(number: &str) -> u64 {
    let number = number.split(['e', 'E']).next().unwrap_or(number);
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0');
    match digits.is_empty() {
        true => 1,
        // More than fits is more than any bound.
        false => digits.parse().unwrap_or(u64::MAX),
    }
}

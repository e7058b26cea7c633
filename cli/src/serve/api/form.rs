//! The form that an answer is asked for in, as the APIs have it: `response_format`, `text.format`,
//! `output_config.format`. What it is held with is not known here.

use serde_json::Value;

use super::refuse;
use crate::serve::ask::{Form, Refusal};

/// Of the field's value. `field`: what the API calls it. The chat API keeps the schema and its name
/// one level deeper than the others.
pub fn read(given: Option<&Value>, field: &'static str) -> Result<Form, Refusal> {
    let fields = match given {
        None | Some(Value::Null) => return Ok(Form::Text),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Err(refuse::not_a(field, "an object", other)),
    };
    match fields.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Form::Text),
        Some("json_object") => Ok(Form::Object),
        Some("json_schema") => {
            let inner = match fields.get("json_schema") {
                None => fields,
                Some(Value::Object(inner)) => inner,
                Some(other) => {
                    let field = format!("{field}.json_schema");
                    return Err(refuse::not_a(&field, "an object", other));
                }
            };
            match inner.get("schema") {
                None | Some(Value::Null) => Ok(Form::Object),
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Form::Schema {
                    schema: schema.clone(),
                    field,
                }),
                Some(other) => {
                    let field = format!("{field}.schema");
                    Err(refuse::not_a(&field, "a JSON schema (an object)", other))
                }
            }
        }
        kind => {
            let message = format!(
                "`{field}` of the type `{}` is not supported: it may be text, json_object and \
                 json_schema.",
                refuse::quoted(kind.unwrap_or("(none)"))
            );
            Err(refuse::unsupported(field, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_api_has_its_way_to_ask_for_a_schema() {
        let of = |given: Value| read(Some(&given), "f");
        assert_eq!(read(None, "f"), Ok(Form::Text));
        assert_eq!(of(json!({"type": "text"})), Ok(Form::Text));
        assert_eq!(of(json!({"type": "json_object"})), Ok(Form::Object));
        let schema = json!({"type": "integer"});
        let form = Form::Schema {
            schema: schema.clone(),
            field: "f",
        };
        let deep = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
        assert_eq!(of(deep), Ok(form.clone()));
        let flat = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
        assert_eq!(of(flat), Ok(form));
        assert_eq!(of(json!({"type": "json_schema"})), Ok(Form::Object));
        for (given, named) in [
            (json!("json"), "f"),
            (json!({"type": "grammar"}), "f"),
            (json!({}), "f"),
            (json!({"type": "json_schema", "schema": 1}), "f.schema"),
            (
                json!({"type": "json_schema", "json_schema": 1}),
                "f.json_schema",
            ),
        ] {
            assert_eq!(of(given).unwrap_err().field.as_deref(), Some(named));
        }
    }
}

//! Tests of what a value is.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, Value};

use super::Meter;
use super::objects::Cycler;

/// What is undefined counts: Python's `callable` finds a method to call it by, which then fails.
pub(super) fn is_callable(value: &Value) -> bool {
    if value.is_undefined() {
        return true;
    }
    let Some(object) = value.as_object() else {
        return false;
    };
    match object.repr() {
        ObjectRepr::Plain => value.downcast_object_ref::<Cycler>().is_none(),
        _ => object.type_name().ends_with("::Macro"),
    }
}

pub(super) fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None => false,
        ValueKind::Undefined => true,
        _ => value.try_iter().is_ok(),
    }
}

/// What has a length and items. A text and a map do.
pub(super) fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    is_map(value)
        || matches!(
            kind,
            ValueKind::Undefined | ValueKind::String | ValueKind::Seq
        )
}

/// Namespaces and macros look like maps to the template engine.
pub(super) fn is_map(value: &Value) -> bool {
    let object = value.as_object();
    let other = |name: &str| name.ends_with("::Namespace") || name.ends_with("::Macro");
    value.kind() == ValueKind::Map && !object.is_some_and(|object| other(object.type_name()))
}

/// Python compares addresses. Small values of one kind have the same where they are equal; large
/// ones hardly ever, and no template asks.
pub(super) fn is_same(meter: &Meter, a: &Value, b: &Value) -> Result<bool, Error> {
    if a.kind() != b.kind() || a.is_integer() != b.is_integer() {
        return Ok(false);
    }
    meter.read(a)?;
    meter.read(b)?;
    Ok(a == b)
}

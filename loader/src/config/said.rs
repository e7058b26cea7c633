//! What a file says in several places, and what it says that cannot be computed: errors that name
//! both. Knows no field.

use std::fmt::Display;

use crate::json::Fields;
use crate::{Error, Said};

pub(crate) fn unsupported(
    fields: &Fields<'_>,
    field: &str,
    value: &str,
    supported: impl Into<String>,
) -> Error {
    Error::Unsupported {
        file: fields.file.into(),
        field: format!("{}{field}", fields.prefix),
        value: value.into(),
        supported: supported.into(),
    }
}

pub(crate) fn contradiction(
    fields: &Fields<'_>,
    first: (&str, &dyn Display),
    second: (&str, &dyn Display),
) -> Error {
    let said = [first, second].map(|(place, value)| Said {
        place: format!("{}{place}", fields.prefix),
        value: value.to_string(),
    });
    Error::Contradiction {
        file: fields.file.into(),
        said: Box::new(said),
    }
}

/// What one or several places of the file say, where they say it: all the same.
pub(crate) fn agreed<T: Copy + PartialEq + Display>(
    fields: &Fields<'_>,
    said: &[(&str, Option<T>)],
) -> Result<Option<T>, Error> {
    let mut said = said
        .iter()
        .filter_map(|(place, value)| Some((*place, (*value)?)));
    let Some((first, first_value)) = said.next() else {
        return Ok(None);
    };
    match said.find(|(_, value)| *value != first_value) {
        None => Ok(Some(first_value)),
        Some((second, second_value)) => Err(contradiction(
            fields,
            (first, &first_value),
            (second, &second_value),
        )),
    }
}

/// "a, b or c".
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).into(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

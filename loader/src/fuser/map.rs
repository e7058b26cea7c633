//! Which layer of the teacher goes into which layer of the base model, and through which projector:
//! `projector_config.json`. Knows nothing else of either model.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Error;
use crate::config::limits;
use crate::folder::Folder;
use crate::json::{Fields, parse_object};

pub(crate) const MAP: &str = "projector_config.json";

/// No fuser has more projectors than this.
const PROJECTORS_MAX: usize = limits::LAYERS;

/// A layer of the base model, and what is projected into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub target: usize,
    pub source: usize,
    pub projector: usize,
}

/// The layers, in ascending order. Of several pairs for one layer the first counts.
pub(super) fn read(folder: &Folder) -> Result<Vec<Pair>, Error> {
    let file = folder.display(MAP);
    let Some(json) = folder.read(MAP)? else {
        return Err(Error::NotAFuser {
            location: folder.location().into(),
            problem: "it has no projector_config.json",
        });
    };
    parse(&file, &json)
}

pub(crate) fn parse(file: &str, json: &[u8]) -> Result<Vec<Pair>, Error> {
    let targets = parse_object(file, json)?;
    let root = Fields {
        file,
        prefix: "",
        map: &targets,
    };
    let base = only(&root, "0", "target model 0 alone, which is the base model")?;
    let sources = Fields {
        prefix: "0.",
        map: base,
        ..root
    };
    let teacher = only(
        &sources,
        "1",
        "source model 1 alone: one teacher is projected",
    )?;
    let layers = Fields {
        prefix: "0.1.",
        map: teacher,
        ..root
    };
    let mut pairs = BTreeMap::new();
    for (target, listed) in teacher {
        let number = target.parse::<usize>().ok().filter(|number| {
            // "01" is no layer's name.
            *number < limits::LAYERS && *target == number.to_string()
        });
        let Some(number) = number else {
            let expected = "under the number of a layer";
            return Err(layers.wrong(target, listed, expected));
        };
        pairs.insert(number, first(&layers, target, number, listed)?);
    }
    match pairs.is_empty() {
        true => Err(is_empty(file)),
        false => Ok(pairs.into_values().collect()),
    }
}

/// The error for a map of no layers.
pub(super) fn is_empty(file: &str) -> Error {
    Error::Field {
        file: file.into(),
        field: "0.1".into(),
        found: "empty".into(),
        expected: "a layer at least".into(),
    }
}

/// What stands under the one key that may be there.
fn only<'a>(
    fields: &Fields<'a>,
    key: &'static str,
    expected: &str,
) -> Result<&'a Map<String, Value>, Error> {
    if let Some((other, value)) = fields.map.iter().find(|(other, _)| *other != key) {
        return Err(fields.wrong(other, value, expected));
    }
    fields.object(key)?.ok_or_else(|| fields.missing(key))
}

fn first(fields: &Fields<'_>, target: &str, number: usize, listed: &Value) -> Result<Pair, Error> {
    let pair = |value: &Value| {
        let [source, projector] = value.as_array()?.as_slice() else {
            return None;
        };
        let below = |value: &Value, max: usize| {
            let number = usize::try_from(value.as_u64()?).ok()?;
            (number < max).then_some(number)
        };
        Some(Pair {
            target: number,
            source: below(source, limits::LAYERS)?,
            projector: below(projector, PROJECTORS_MAX)?,
        })
    };
    let list = listed.as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs: Option<Vec<Pair>> = list.iter().map(pair).collect();
    match pairs.as_deref() {
        Some([first, ..]) => Ok(*first),
        _ => Err(fields.wrong(
            target,
            listed,
            "a list of [source layer, projector], one at least",
        )),
    }
}

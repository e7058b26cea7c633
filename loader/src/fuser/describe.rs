//! What one projector is: `projector_N.json`. Knows no tensor.

use serde_json::Value;

use super::map::Pair;
use super::{FuserProblem, FuserShape, description};
use crate::config::limits;
use crate::folder::Folder;
use crate::json::{Fields, parse_object, shorten};
use crate::{Error, Said};

/// The one that is computed here.
pub(crate) const CLASS: &str = "C2CProjector";

/// Fewer are none; more would not have numbers of one byte. Published ones have 3.
const LAYERS_MIN: usize = 3;
const LAYERS_MAX: usize = 64;

/// Arguments that only training reads, or that say how the file's numbers were held.
const OF_TRAINING: [&str; 6] = [
    "dropout",
    "initial_temperature",
    "final_temperature",
    "anneal_steps",
    "zero_init",
    "dtype",
];

/// Those of the shape, with what they are where they are not given.
const OF_SHAPE: [&str; 7] = [
    "source_dim",
    "target_dim",
    "source_num_heads",
    "target_num_heads",
    "hidden_dim",
    "intermediate_dim",
    "num_layers",
];

pub(super) fn shape(folder: &Folder, pair: &Pair) -> Result<FuserShape, Error> {
    let name = description(pair.projector);
    let file = folder.display(&name);
    let Some(json) = folder.read(&name)? else {
        return Err(Error::Fuser {
            file,
            problem: FuserProblem::NoDescription {
                projector: pair.projector,
                target: pair.target,
            },
        });
    };
    parse(&file, &json)
}

/// What the file says, which is the class that is computed here and sizes that it may have.
pub(crate) fn parse(file: &str, json: &[u8]) -> Result<FuserShape, Error> {
    let map = parse_object(file, json)?;
    let root = Fields {
        file,
        prefix: "",
        map: &map,
    };
    let class = root.str("class")?.ok_or_else(|| root.missing("class"))?;
    if class != CLASS {
        return Err(unsupported(&root, "class", &class.into(), CLASS));
    }
    let args = root.object("init_args")?;
    let args = Fields {
        prefix: "init_args.",
        map: args.ok_or_else(|| root.missing("init_args"))?,
        ..root
    };
    let is_known = |name: &&str| OF_SHAPE.contains(name) || OF_TRAINING.contains(name);
    let mut names = args.map.iter();
    if let Some((name, value)) = names.find(|(name, _)| !is_known(&name.as_str())) {
        return Err(unsupported(
            &args,
            name,
            value,
            "the arguments of C2CProjector",
        ));
    }
    let count = |name: &str, max: usize, or: Option<usize>| {
        let given = args.count(name, max)?;
        given.or(or).ok_or_else(|| args.missing(name))
    };
    let shape = FuserShape {
        source_heads: count("source_num_heads", limits::HEADS, Some(1))?,
        source_dim: count("source_dim", limits::HEAD_DIM, None)?,
        target_heads: count("target_num_heads", limits::HEADS, Some(1))?,
        target_dim: count("target_dim", limits::HEAD_DIM, None)?,
        hidden: count("hidden_dim", limits::HIDDEN, Some(1024))?,
        intermediate: count("intermediate_dim", limits::INTERMEDIATE, Some(1024))?,
        layers: count("num_layers", LAYERS_MAX, Some(LAYERS_MIN))?,
    };
    if shape.layers < LAYERS_MIN {
        let expected = format!("a whole number from {LAYERS_MIN} to {LAYERS_MAX}");
        return Err(args.wrong("num_layers", shape.layers, &expected));
    }
    for (name, channels) in [
        ("source_num_heads", shape.source()),
        ("target_num_heads", shape.target()),
    ] {
        if channels > limits::HEADS_TIMES_DIM {
            let expected = format!("at most {} channels in all heads", limits::HEADS_TIMES_DIM);
            return Err(args.wrong(name, format!("{channels} channels"), &expected));
        }
    }
    Ok(shape)
}

/// That both projectors have one shape.
pub(super) fn same(
    folder: &Folder,
    first: (usize, FuserShape),
    other: (usize, FuserShape),
) -> Result<(), Error> {
    let sizes = named(&first.1).into_iter().zip(named(&other.1));
    match sizes.into_iter().find(|(first, other)| first != other) {
        None => Ok(()),
        Some(((name, value), (_, other_value))) => {
            let said = |value: usize, number: usize| Said {
                place: format!("{name} in {}", description(number)),
                value: value.to_string(),
            };
            Err(Error::Contradiction {
                file: folder.location().into(),
                said: Box::new([said(value, first.0), said(other_value, other.0)]),
            })
        }
    }
}

/// The sizes under the names that the file has for them.
pub(super) fn named(shape: &FuserShape) -> [(&'static str, usize); 7] {
    let sizes = [
        shape.source_dim,
        shape.target_dim,
        shape.source_heads,
        shape.target_heads,
        shape.hidden,
        shape.intermediate,
        shape.layers,
    ];
    std::array::from_fn(|index| (OF_SHAPE[index], sizes[index]))
}

pub(super) fn unsupported(
    fields: &Fields<'_>,
    field: &str,
    value: &Value,
    supported: &str,
) -> Error {
    Error::Unsupported {
        file: fields.file.into(),
        field: format!("{}{field}", fields.prefix),
        value: shorten(value.to_string()),
        supported: supported.into(),
    }
}

//! How far back each layer looks: one window for all, one for those from some layer on, or as a
//! list of the layers' kinds says.

use serde_json::Value;

use super::said::{contradiction, unsupported};
use super::{ModelConfig, limits};
use crate::Error;
use crate::json::Fields;

const WINDOW: &str = "sliding_window";
const SWITCH: &str = "use_sliding_window";
const TYPES: &str = "layer_types";

/// What a family's fields about windows mean.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Windows {
    /// Every layer sees everything; a window is not for it.
    Never,
    /// All layers have it. The number: where the field is absent (null is none).
    Everywhere { default: Option<usize> },
    /// Behind a switch, from a layer on or where the list says so. The number: as above.
    Switched { default: usize },
}

impl Windows {
    /// The model with the windows that its file gives the layers.
    pub fn read(self, fields: &Fields<'_>, config: ModelConfig) -> Result<ModelConfig, Error> {
        let layers = config.layers;
        let types = layer_types(fields, layers)?;
        let windows = match self {
            Self::Never => {
                // Read all the same: a number that is none is refused.
                window(fields, None)?;
                match types.into_iter().flatten().find(|kind| kind.slides()) {
                    Some(_) => Err(unsupported(
                        fields,
                        TYPES,
                        &format!("sliding_attention in a {}", config.family.name),
                        "full_attention",
                    )),
                    None => Ok(vec![None; layers]),
                }
            }
            Self::Everywhere { default } => everywhere(fields, window(fields, default)?, types)
                .map(|window| vec![window; layers]),
            Self::Switched { default } => {
                switched(fields, window(fields, Some(default))?, types, layers)
            }
        };
        Ok(ModelConfig {
            windows: windows?,
            ..config
        })
    }
}

fn window(fields: &Fields<'_>, default: Option<usize>) -> Result<Option<usize>, Error> {
    match fields.count(WINDOW, limits::POSITIONS)? {
        Some(window) => Ok(Some(window)),
        None if fields.map.contains_key(WINDOW) => Ok(None),
        None => Ok(default),
    }
}

/// All layers have the window: a list can only say so again.
fn everywhere(
    fields: &Fields<'_>,
    window: Option<usize>,
    types: Option<Vec<LayerType>>,
) -> Result<Option<usize>, Error> {
    let other = |kind: &LayerType| kind.slides() != window.is_some();
    if let Some(types) = types
        && let Some(at) = types.iter().position(other)
    {
        let window = match window {
            Some(window) => window.to_string(),
            None => "null".into(),
        };
        return Err(contradiction(
            fields,
            (WINDOW, &window),
            (&format!("{TYPES}[{at}]"), &types[at].name()),
        ));
    }
    Ok(window)
}

fn switched(
    fields: &Fields<'_>,
    window: Option<usize>,
    types: Option<Vec<LayerType>>,
    layers: usize,
) -> Result<Vec<Option<usize>>, Error> {
    let on = fields.bool(SWITCH)?.unwrap_or(false);
    // A file that has the list has the number it was made of, too: the list counts.
    if let Some(types) = types {
        return match types.iter().position(|kind| kind.slides()) {
            Some(at) if !on => Err(contradiction(
                fields,
                (SWITCH, &false),
                (&format!("{TYPES}[{at}]"), &types[at].name()),
            )),
            Some(_) if window.is_none() => Err(fields.missing(WINDOW)),
            _ => {
                let of = |kind: LayerType| window.filter(|_| kind.slides());
                Ok(types.into_iter().map(of).collect())
            }
        };
    }
    if !on {
        return Ok(vec![None; layers]);
    }
    let first = fields.index("max_window_layers", usize::MAX)?.unwrap_or(28);
    Ok((0..layers)
        .map(|layer| window.filter(|_| layer >= first))
        .collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerType {
    Full,
    Sliding,
}

impl LayerType {
    const ALL: [Self; 2] = [Self::Full, Self::Sliding];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full_attention",
            Self::Sliding => "sliding_attention",
        }
    }

    fn slides(self) -> bool {
        self == Self::Sliding
    }
}

/// The list of the layers' kinds, where there is one.
fn layer_types(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<LayerType>>, Error> {
    let Some(list) = fields.list(TYPES)? else {
        return Ok(None);
    };
    if list.len() != layers {
        let found = format!("a list of {}", list.len());
        let expected = format!("one entry for each of {layers} layers (`num_hidden_layers`)");
        return Err(fields.wrong(TYPES, found, &expected));
    }
    let kind = |value: &Value| {
        let known = |kind: &LayerType| value.as_str() == Some(kind.name());
        let found = LayerType::ALL.into_iter().find(known);
        found.ok_or_else(|| fields.wrong(TYPES, value, "full_attention or sliding_attention"))
    };
    list.iter().map(kind).collect::<Result<_, _>>().map(Some)
}

//! What a pair's `config.json` says, which is how it was trained: what it says twice and differently
//! is refused, and so is what is not computed here. Knows no projector's weights.

use super::FuserShape;
use super::describe::{CLASS, named, unsupported};
use crate::folder::Folder;
use crate::json::{Fields, parse_object};
use crate::{Error, Said};

pub(crate) const CONFIG: &str = "config.json";
pub(super) const MAPPING: &str = "model.mapping";

/// What is held against the projectors.
#[derive(Debug)]
pub(super) struct Training {
    /// The last layers of both models go together, and so on towards the first.
    pub is_last_aligned: bool,
    class: Option<String>,
    /// Sizes of a projector by their names in `projector_N.json`.
    sizes: Vec<(&'static str, usize)>,
}

impl Training {
    /// `None` where there is no such file, or one that says nothing of a pair.
    pub fn read(folder: &Folder) -> Result<Option<Self>, Error> {
        let Some(json) = folder.read(CONFIG)? else {
            return Ok(None);
        };
        let file = folder.display(CONFIG);
        let map = parse_object(&file, &json)?;
        let root = Fields {
            file: &file,
            prefix: "",
            map: &map,
        };
        let Some(model) = root.object("model")? else {
            return Ok(None);
        };
        let model = Fields {
            prefix: "model.",
            map: model,
            ..root
        };
        let refused = [
            (
                "is_do_alignment",
                "false: a base model and a teacher with one tokenizer",
            ),
            (
                "include_response",
                "false: all of the prompt but its last token is projected",
            ),
        ];
        for (field, supported) in refused {
            if model.bool(field)? == Some(true) {
                return Err(unsupported(&model, field, &true.into(), supported));
            }
        }
        for fields in [&root, &model] {
            if let Some(value) = fields.get("kv_cache_index") {
                let supported = "none: all of the prompt but its last token is projected";
                return Err(unsupported(fields, "kv_cache_index", value, supported));
            }
        }
        let mut training = Self {
            is_last_aligned: model.str("mapping")? == Some("last_aligned"),
            class: None,
            sizes: Vec::new(),
        };
        if let Some(projector) = model.object("projector")? {
            let projector = Fields {
                prefix: "model.projector.",
                map: projector,
                ..root
            };
            training.class = projector.str("type")?.map(str::to_owned);
            if let Some(params) = projector.object("params")? {
                let params = Fields {
                    prefix: "model.projector.params.",
                    map: params,
                    ..root
                };
                for name in ["hidden_dim", "intermediate_dim", "num_layers"] {
                    let size = params.count(name, usize::MAX)?;
                    training.sizes.extend(size.map(|size| (name, size)));
                }
            }
        }
        Ok(Some(training))
    }

    /// That the projectors are what was trained; `description` is of one of them.
    pub fn compare(
        &self,
        location: &str,
        description: &str,
        shape: &FuserShape,
    ) -> Result<(), Error> {
        let differ = |name: &str, here: &dyn ToString, field: &str, there: &dyn ToString| {
            let said = [
                (format!("model.projector.{name} in {CONFIG}"), here),
                (format!("{field} in {description}"), there),
            ];
            Err(Error::Contradiction {
                file: location.into(),
                said: Box::new(said.map(|(place, value)| Said {
                    place,
                    value: value.to_string(),
                })),
            })
        };
        // Names of classes are known there in small letters, too.
        if let Some(class) = &self.class
            && !class.eq_ignore_ascii_case(CLASS)
        {
            return differ("type", class, "class", &CLASS);
        }
        for (name, size) in &self.sizes {
            let found = named(shape).into_iter().find(|(other, _)| other == name);
            if let Some((_, found)) = found
                && found != *size
            {
                let field = format!("init_args.{name}");
                return differ(&format!("params.{name}"), size, &field, &found);
            }
        }
        Ok(())
    }
}

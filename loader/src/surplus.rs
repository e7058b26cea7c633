//! Tensors that the model as config.json describes it does not read. What could change the answer
//! if it were read is refused; what serves another purpose, or follows from config.json, is named.
//! Knows names, and no byte of a weight.

use std::collections::BTreeMap;

use crate::files::gguf;
use crate::naming::Naming;
use crate::{Checkpoint, Error};

/// The tensors that are there and are not read, of one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub purpose: Purpose,
    pub tensors: usize,
    pub bytes: u64,
    /// The first of them by name.
    pub example: String,
}

/// Why a tensor may be left unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `lm_head.weight` of a model that ties its head to the embedding. It is compared.
    HeadCopy,
    /// Frequencies that old exports carry; they follow from config.json.
    Rotation,
    Vision,
    Audio,
    /// Between a tower and the text model.
    Projector,
    /// A head for something else than the next token.
    OtherHead,
}

impl Purpose {
    /// The purpose in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadCopy => "a copy of the embedding",
            Self::Rotation => "rotary frequencies, computed here",
            Self::Vision => "a vision tower",
            Self::Audio => "an audio tower",
            Self::Projector => "a multimodal projector",
            Self::OtherHead => "a head that is not run",
        }
    }

    /// What a tensor outside the layers is for. Towers and heads may stand beside the model or
    /// inside `model.`.
    fn of(name: &str) -> Option<Self> {
        let bare = name.strip_prefix("model.").unwrap_or(name);
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| bare.starts_with(prefix));
        if bare == "rotary_emb.inv_freq" {
            Some(Self::Rotation)
        } else if begins(&["visual.", "vision_tower.", "vision_model."]) {
            Some(Self::Vision)
        } else if begins(&["audio_tower."]) {
            Some(Self::Audio)
        } else if begins(&["multi_modal_projector.", "mm_projector."]) {
            Some(Self::Projector)
        } else if begins(&["score.", "classifier.", "v_head."]) {
            Some(Self::OtherHead)
        } else {
            None
        }
    }
}

/// A part of a name that adapters are known by.
fn is_adapters(part: &str) -> bool {
    part.starts_with("lora_")
        || part.contains("adapter")
        || matches!(part, "base_layer" | "base_model" | "modules_to_save")
}

impl Checkpoint {
    /// Tensors that are there and are not read, by purpose.
    pub fn unread(&self) -> Vec<Unread> {
        let mut found: BTreeMap<Purpose, Unread> = BTreeMap::new();
        for (name, entry) in self.tensors() {
            let Some(purpose) = self.purpose(name) else {
                continue;
            };
            let unread = found.entry(purpose).or_insert_with(|| Unread {
                purpose,
                tensors: 0,
                bytes: 0,
                example: name.into(),
            });
            unread.tensors += 1;
            unread.bytes += entry.bytes;
        }
        found.into_values().collect()
    }

    /// Files of weights that are there and are none of this checkpoint's: beside a file of them
    /// all, or beside the shards that its index names; beside a GGUF file, those of towers.
    pub fn unread_files(&self) -> Vec<String> {
        let is_read = |name: &str| {
            let name = self.display(name);
            self.sources().iter().any(|source| source.name() == name)
        };
        let names = self.folder().names().into_iter();
        names
            .filter(|name| match self.naming() {
                Naming::Transformers | Naming::Nested(_) => {
                    name.ends_with(".safetensors") && !is_read(name)
                }
                Naming::Gguf => gguf::is_beside(name),
            })
            .collect()
    }

    /// Refuses an adapter, before its names are taken for something else.
    pub(crate) fn refuse_adapters(&self) -> Result<(), Error> {
        match self
            .tensors()
            .find(|(name, _)| name.split('.').any(is_adapters))
        {
            None => Ok(()),
            Some((name, _)) => Err(Error::Adapter {
                location: self.location().into(),
                found: format!("tensor {name}"),
            }),
        }
    }

    /// The tensors that are not read and their purposes, or an error for the first that could
    /// change the answer.
    pub(crate) fn sort_out(&self) -> Result<BTreeMap<String, Purpose>, Error> {
        let read = self.is_read();
        let mut unread = BTreeMap::new();
        for (name, entry) in self.tensors() {
            if read(name) || self.is_read_elsewhere(name) {
                continue;
            }
            let purpose = match name.strip_prefix(self.naming().layers()) {
                Some(rest) => self.in_layers(name, rest, entry.source)?,
                None if self.is_head_copy(name) => Purpose::HeadCopy,
                None => self.purpose_of(name).ok_or_else(|| Error::TensorUnknown {
                    file: self.sources()[entry.source].name().into(),
                    tensor: name.into(),
                    family: self.system(),
                })?,
            };
            unread.insert(name.to_owned(), purpose);
        }
        Ok(unread)
    }

    /// What a tensor outside the layers is for. A GGUF file has its towers in files of their own.
    fn purpose_of(&self, name: &str) -> Option<Purpose> {
        match self.naming() {
            Naming::Transformers => Purpose::of(name),
            // What stands beside it has readers of its own, and they know it.
            Naming::Nested(names) => (name == names.rotation).then_some(Purpose::Rotation),
            Naming::Gguf => None,
        }
    }

    /// A bias or a norm that config.json does not announce would change the result, and so would a
    /// layer more.
    fn in_layers(&self, name: &str, rest: &str, source: usize) -> Result<Purpose, Error> {
        let file = || self.sources()[source].name().to_owned();
        let unexpected = || Error::TensorUnexpected {
            file: file(),
            tensor: name.into(),
            family: self.config.family.name,
            said_by: self.naming().description(),
        };
        let (number, part) = rest.split_once('.').ok_or_else(unexpected)?;
        let layer = number.parse::<usize>().map_err(|_| unexpected())?;
        // A family whose checkpoints have layers beyond these (to predict several tokens at once)
        // would say so in `extra`, and they would have a purpose. None of ours has.
        let layers = self.config.layers;
        if layer >= layers {
            return Err(Error::LayerSurplus {
                file: file(),
                tensor: name.into(),
                layer,
                layers,
                setting: self.naming().layers_setting(),
            });
        }
        let purpose = match self.naming() {
            Naming::Transformers | Naming::Nested(_) => (self.config.family.extra)(part),
            Naming::Gguf => (part == gguf::names::ROTATION).then_some(Purpose::Rotation),
        };
        purpose.ok_or_else(unexpected)
    }
}

//! An opened VibeVoice checkpoint: a language model, and what stands beside it to turn its tokens
//! into speech. The language model is a [`Checkpoint`] like any other; the components are listed
//! tensor by tensor, with every name and shape checked before a weight is read. Of the weights only
//! the two factors of the latents are. Must not know what a component computes.

mod codec;
mod config;
mod head;
mod kind;
mod names;
mod parts;
mod voices;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};

use crate::checkpoint::{System, config_json, read_index};
use crate::component::{ComponentSource, ComponentTensor};
use crate::folder::Folder;
use crate::naming::Description;
use crate::source::Tensors;
use crate::{Checkpoint, DType, Error, Storage, TensorEntry};

pub use codec::CodecConfig;
pub use config::VibeVoiceConfig;
pub use head::HeadConfig;
pub(crate) use kind::{MODEL_TYPE, check};
use names::Names;
pub(crate) use parts::{Part, parts};

/// As people write it.
pub(crate) const NAME: &str = "VibeVoice";

/// What stands beside the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    AcousticEncoder,
    AcousticDecoder,
    SemanticEncoder,
    /// The diffusion head.
    Head,
    AcousticConnector,
    SemanticConnector,
}

impl Component {
    pub const ALL: [Self; 6] = [
        Self::AcousticEncoder,
        Self::AcousticDecoder,
        Self::SemanticEncoder,
        Self::Head,
        Self::AcousticConnector,
        Self::SemanticConnector,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AcousticEncoder => "acoustic encoder",
            Self::AcousticDecoder => "acoustic decoder",
            Self::SemanticEncoder => "semantic encoder",
            Self::Head => "diffusion head",
            Self::AcousticConnector => "acoustic connector",
            Self::SemanticConnector => "semantic connector",
        }
    }
}

/// A VibeVoice checkpoint whose files were read and found consistent.
#[derive(Debug)]
pub struct VibeVoice {
    /// Its tensors are all of the files, those of the components too.
    pub language: Checkpoint,
    pub config: VibeVoiceConfig,
    names: Names,
    scaling: f32,
    bias: f32,
}

impl VibeVoice {
    /// Opens a folder with `config.json` and safetensors files, in the original layout or as
    /// transformers converts it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::on_disk(path)?;
        let json = config_json(&folder)?;
        let (config, language) = config::read(&folder, &json)?;
        let (sources, tensors) = read_index(&folder)?;
        let names = Names::of(&tensors);
        let by_name = Tensors {
            by_name: &tensors,
            sources: &sources,
            location: folder.location(),
            said_by: Description::ConfigJson,
        };
        let mut read = BTreeSet::new();
        for component in Component::ALL {
            component_of(&by_name, names, &config, component, None)?;
            let parts = parts(&config, component).into_iter();
            read.extend(parts.map(|part| names.stored(component, &part)));
        }
        let scaling = factor(&by_name, names.scaling(), |x| x.is_finite() && x != 0.0)?;
        let bias = factor(&by_name, names.bias(), f32::is_finite)?;
        read.extend([names.scaling(), names.bias()].map(str::to_owned));
        let system = System {
            name: NAME,
            names: &names::LANGUAGE,
            tensors: read,
        };
        Ok(Self {
            language: Checkpoint::nested(folder, language, (sources, tensors), system)?,
            config,
            names,
            scaling,
            bias,
        })
    }

    /// Where the weights of a component are, with every tensor's presence, shape and encoding
    /// checked. Numbers become `dtype`, where one is given.
    pub fn component(
        &self,
        which: Component,
        dtype: Option<DType>,
    ) -> Result<ComponentSource, Error> {
        let by_name = self.language.by_name();
        component_of(&by_name, self.names, &self.config, which, dtype)
    }

    /// What latents are multiplied by, after the bias was added, before they enter the acoustic
    /// connector. Neither 0 nor NaN.
    pub fn scaling(&self) -> f32 {
        self.scaling
    }

    /// What is added to latents that come from the encoder.
    pub fn bias(&self) -> f32 {
        self.bias
    }

    /// The directory, for messages.
    pub fn location(&self) -> &str {
        self.language.location()
    }

    /// The files that hold the weights of language model and components.
    pub fn sources(&self) -> &[Arc<dyn Storage>] {
        self.language.sources()
    }

    /// Bytes of all these files.
    pub fn stored_bytes(&self) -> u64 {
        self.language.stored_bytes()
    }
}

fn component_of(
    by_name: &Tensors<'_>,
    names: Names,
    config: &VibeVoiceConfig,
    which: Component,
    dtype: Option<DType>,
) -> Result<ComponentSource, Error> {
    let tensors = parts(config, which).into_iter().map(|part| {
        let stored = names.stored(which, &part);
        let Part { name, shape, .. } = part;
        (stored, ComponentTensor { name, shape })
    });
    ComponentSource::find(by_name, which.name(), tensors.collect(), dtype)
}

/// One number that is stored as a tensor without dimensions.
fn factor(
    by_name: &Tensors<'_>,
    name: &'static str,
    is_sound: fn(f32) -> bool,
) -> Result<f32, Error> {
    let found = by_name.find(name, &[], None)?;
    let (entry, encoding) = found.stored();
    let storage = &by_name.sources[entry.source];
    let value = match DType::of(encoding) {
        Some(DType::F32) => f32::from_le_bytes(number(storage.as_ref(), entry)?),
        Some(DType::F16) => f16::from_le_bytes(number(storage.as_ref(), entry)?).to_f32(),
        Some(DType::Bf16) => bf16::from_le_bytes(number(storage.as_ref(), entry)?).to_f32(),
        None => f32::NAN,
    };
    if is_sound(value) {
        return Ok(value);
    }
    Err(Error::Factor {
        file: storage.name().into(),
        tensor: name.into(),
        value,
        expected: match is_sound(0.0) {
            true => "a finite number",
            false => "a finite number other than 0",
        },
    })
}

fn number<const N: usize>(storage: &dyn Storage, entry: &TensorEntry) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    storage.read_at(entry.offset, &mut bytes)?;
    Ok(bytes)
}

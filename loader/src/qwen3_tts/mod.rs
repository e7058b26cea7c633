//! An opened Qwen3-TTS checkpoint with voices of its own: the talker, which is a [`Checkpoint`] like
//! any other whose tokens are codes of sound; the rows of its text embedding; and what stands beside
//! it to make whole frames and sound of its codes, listed tensor by tensor, with every name and shape
//! checked before a weight is read. Must not know what a component computes.

mod codec;
mod config;
mod kind;
mod parts;
mod predictor;
mod sampling;
mod voices;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{CONFIG, System, config_json, read_index};
use crate::component::{ComponentSource, ComponentTensor};
use crate::folder::Folder;
use crate::layout::Arrangement;
use crate::naming::{Description, NestedNames};
use crate::source::{Tensors, source_of};
use crate::{Checkpoint, DType, Error, Role, Rows, Storage, TensorEntry};

pub use codec::CodecDecoderConfig;
pub use config::Qwen3TtsConfig;
pub(crate) use kind::{MODEL_TYPE, check};
pub(crate) use parts::parts;
pub use predictor::PredictorConfig;
pub use sampling::{CodeSampling, Sampling};
pub use voices::{ControlTokens, Language, Speaker};

/// As people write it.
pub(crate) const NAME: &str = "Qwen3-TTS";

/// The folder of the codec, inside the checkpoint's.
pub(crate) const CODEC_FOLDER: &str = "speech_tokenizer";

pub(crate) const TALKER: NestedNames = NestedNames {
    layers: "talker.model.layers.",
    embedding: "talker.model.codec_embedding.weight",
    final_norm: "talker.model.norm.weight",
    head: "talker.codec_head.weight",
    rotation: "talker.model.rotary_emb.inv_freq",
};
pub(crate) const TEXT_EMBEDDING: &str = "talker.model.text_embedding.weight";

/// What stands in the files and is for other uses: sounds into codes, and copies of voices.
const ENCODER: &str = "encoder.";
const ENTRANCES: [&str; 2] = [
    "decoder.quantizer.rvq_first.input_proj.weight",
    "decoder.quantizer.rvq_rest.input_proj.weight",
];
const SPEAKER_ENCODER: &str = "speaker_encoder.";

/// What stands beside the talker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qwen3TtsComponent {
    /// From rows of the text embedding to the talker's width.
    TextProjection,
    /// Of a frame's other codes.
    Predictor,
    /// From codes to sound. Entries of its codebooks are stored as sums, and how many were summed.
    CodecDecoder,
}

impl Qwen3TtsComponent {
    pub const ALL: [Self; 3] = [Self::TextProjection, Self::Predictor, Self::CodecDecoder];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TextProjection => "text projection",
            Self::Predictor => "code predictor",
            Self::CodecDecoder => "codec decoder",
        }
    }

    /// What its tensors' names begin with in the file.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::TextProjection => "talker.text_projection.",
            Self::Predictor => "talker.code_predictor.",
            Self::CodecDecoder => "decoder.",
        }
    }
}

/// A Qwen3-TTS checkpoint whose files were read and found consistent.
#[derive(Debug)]
pub struct Qwen3Tts {
    /// Its embedding and its head are those of the codec track. Its tensors are all of the files but
    /// the codec's.
    pub talker: Checkpoint,
    pub config: Qwen3TtsConfig,
    codec: Codec,
    /// The talker's files, then the codec's.
    sources: Vec<Arc<dyn Storage>>,
}

/// The files of the codec.
#[derive(Debug)]
struct Codec {
    location: String,
    sources: Vec<Arc<dyn Storage>>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl Codec {
    fn by_name(&self) -> Tensors<'_> {
        Tensors {
            by_name: &self.tensors,
            sources: &self.sources,
            location: &self.location,
            said_by: Description::ConfigJson,
        }
    }
}

impl Qwen3Tts {
    /// Opens a folder with `config.json`, safetensors files and a folder `speech_tokenizer` that has
    /// the same of the codec.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::on_disk(path)?;
        let json = config_json(&folder)?;
        let codec_folder = codec_folder(&folder, &json)?;
        let codec_json = config_json(&codec_folder)?;
        let (config, talker) = config::read(&folder, &json, &codec_folder, &codec_json)?;
        let index = read_index(&folder)?;
        let (sources, tensors) = read_index(&codec_folder)?;
        let codec = Codec {
            location: codec_folder.location().into(),
            sources,
            tensors,
        };
        check_codec(&codec, &config)?;
        let system = System {
            name: NAME,
            names: &TALKER,
            tensors: read_beside(&config, &index.1),
        };
        let talker = Checkpoint::nested(folder, talker, index, system)?;
        let sources = [talker.sources(), &codec.sources].concat();
        let opened = Self {
            talker,
            config,
            codec,
            sources,
        };
        opened.text_rows(None)?;
        for component in Qwen3TtsComponent::ALL {
            opened.component(component, None)?;
        }
        Ok(opened)
    }

    /// Where the weights of a component are in [`Self::sources`], with every tensor's presence, shape
    /// and encoding checked. Numbers become `dtype`, where one is given.
    pub fn component(
        &self,
        which: Qwen3TtsComponent,
        dtype: Option<DType>,
    ) -> Result<ComponentSource, Error> {
        let tensors = tensors(&self.config, which);
        if which != Qwen3TtsComponent::CodecDecoder {
            return ComponentSource::find(&self.talker.by_name(), which.name(), tensors, dtype);
        }
        let found = ComponentSource::find(&self.codec.by_name(), which.name(), tensors, dtype)?;
        Ok(ComponentSource {
            source: found.source.behind(self.talker.sources().len()),
            ..found
        })
    }

    /// The rows of the text embedding, which enter the text projection; as `dtype`, where one is
    /// given.
    pub fn text_rows(&self, dtype: Option<DType>) -> Result<Rows, Error> {
        let shape = [self.config.text_vocab, self.config.text_hidden];
        let found = self.talker.by_name().find(TEXT_EMBEDDING, &shape, dtype)?;
        let weights = [(Role::Embedding, vec![found])];
        let slab = source_of(TEXT_EMBEDDING.into(), &weights, Arrangement::Packed);
        Ok(Rows::of(&self.sources, &slab))
    }

    /// The directory, for messages.
    pub fn location(&self) -> &str {
        self.talker.location()
    }

    /// The files that hold the weights of the talker and the components.
    pub fn sources(&self) -> &[Arc<dyn Storage>] {
        &self.sources
    }

    /// Bytes of all these files.
    pub fn stored_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.len()).sum()
    }
}

/// The folder of the codec. What describes the whole is looked at first: a folder that is something
/// else has none, and should be told what it is.
fn codec_folder(folder: &Folder, json: &[u8]) -> Result<Folder, Error> {
    if let Some(codec) = folder.inside(CODEC_FOLDER)? {
        return Ok(codec);
    }
    kind::check_file(&folder.display(CONFIG), json)?;
    Err(Error::NoCodec {
        location: folder.location().into(),
        folder: CODEC_FOLDER,
    })
}

/// The tensors of a component, by their names in the file.
fn tensors(config: &Qwen3TtsConfig, which: Qwen3TtsComponent) -> Vec<(String, ComponentTensor)> {
    let named = |tensor: ComponentTensor| (format!("{}{}", which.prefix(), tensor.name), tensor);
    parts(config, which).into_iter().map(named).collect()
}

/// What is read or may stand in the talker's files beside the talker.
fn read_beside(
    config: &Qwen3TtsConfig,
    tensors_there: &BTreeMap<String, TensorEntry>,
) -> BTreeSet<String> {
    let beside = [
        Qwen3TtsComponent::TextProjection,
        Qwen3TtsComponent::Predictor,
    ];
    let names = beside.into_iter().flat_map(|which| tensors(config, which));
    let names = names.map(|(stored, _)| stored);
    let voices = tensors_there
        .keys()
        .filter(|name| name.starts_with(SPEAKER_ENCODER));
    names
        .chain(voices.cloned())
        .chain([TEXT_EMBEDDING.to_owned()])
        .collect()
}

/// Every tensor of the codec's files is one that is read, or one of those that are for other uses.
fn check_codec(codec: &Codec, config: &Qwen3TtsConfig) -> Result<(), Error> {
    let read: BTreeSet<String> = tensors(config, Qwen3TtsComponent::CodecDecoder)
        .into_iter()
        .map(|(stored, _)| stored)
        .collect();
    let is_known =
        |name: &str| read.contains(name) || name.starts_with(ENCODER) || ENTRANCES.contains(&name);
    let unknown = codec.tensors.iter().find(|(name, _)| !is_known(name));
    match unknown {
        None => Ok(()),
        Some((name, entry)) => Err(Error::TensorUnknown {
            file: codec.sources[entry.source].name().into(),
            tensor: name.clone(),
            family: NAME,
        }),
    }
}

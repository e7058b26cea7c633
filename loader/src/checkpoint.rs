//! An opened checkpoint: its configuration, and an index of its tensors with every bound checked.
//! No weight is read here; what a tensor is for is decided in `source`, and in `surplus` where the
//! model does not read it.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use encoding::Encoding;
use serde_json::{Map, Value};

pub(crate) use index::{Index, entry, read_index};

use crate::files::{TOKENIZER_CONFIG, gguf};
use crate::folder::Folder;
use crate::foreign;
use crate::json::parse_object;
use crate::naming::{Naming, NestedNames};
use crate::source::Tensors;
use crate::storage::least_direct;
use crate::surplus::Purpose;
use crate::{AccessReport, Error, GenerationConfig, ModelConfig, Storage};

pub(crate) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// Where one tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Index into [`Checkpoint::sources`], or [`crate::Fuser::sources`].
    pub source: usize,
    /// Counted from the start of the file.
    pub offset: u64,
    pub bytes: u64,
    pub shape: Vec<u64>,
    pub(crate) stored: Stored,
}

/// How a tensor is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    As(Encoding),
    /// Integers and packed types, which are never read as weights, by their name in the file.
    Other(String),
}

impl TensorEntry {
    /// `None` for what is never read as a weight.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.stored {
            Stored::As(encoding) => Some(encoding),
            Stored::Other(_) => None,
        }
    }
}

impl From<safetensors::Dtype> for Stored {
    fn from(dtype: safetensors::Dtype) -> Self {
        match dtype {
            safetensors::Dtype::BF16 => Self::As(Encoding::Bf16),
            safetensors::Dtype::F16 => Self::As(Encoding::F16),
            safetensors::Dtype::F32 => Self::As(Encoding::F32),
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(encoding) => encoding.fmt(f),
            Self::Other(name) => f.pad(name),
        }
    }
}

/// What a language model is a part of.
#[derive(Debug)]
pub(crate) struct System {
    /// As people write it.
    pub name: &'static str,
    pub names: &'static NestedNames,
    /// The tensors that its other parts read.
    pub tensors: BTreeSet<String>,
}

/// A checkpoint whose headers were read and found consistent.
#[derive(Debug)]
pub struct Checkpoint {
    pub config: ModelConfig,
    /// Empty where the checkpoint has no `generation_config.json`.
    pub generation: GenerationConfig,
    folder: Folder,
    naming: Naming,
    encoding: Encoding,
    tensors: BTreeMap<String, TensorEntry>,
    /// Those that the model does not read.
    unread: BTreeMap<String, Purpose>,
    system: Option<System>,
    sources: Vec<Arc<dyn Storage>>,
    /// Read when it is first asked for; `None` where there is none.
    tokenizer_config: OnceLock<Option<Map<String, Value>>>,
    /// Bytes of a GGUF file's vocabulary, as a file of its own would have.
    vocabulary_bytes: u64,
}

impl Checkpoint {
    /// Opens a directory with `config.json` and safetensors files, or a GGUF file: the file, any
    /// part of a split one, a directory with one such model, or `DIRECTORY:PART`, where `PART` is a
    /// part of the file's name, like `Q4_K_M`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match gguf::find(path)? {
            Some(found) => Self::read_gguf(found),
            None => Self::read(Folder::on_disk(path)?),
        }
    }

    /// Opens a checkpoint that was compiled into the program, given as (file name, content).
    pub fn embedded(
        name: &'static str,
        files: &[(&'static str, &'static [u8])],
    ) -> Result<Self, Error> {
        Self::read(Folder::Embedded {
            name,
            files: files.to_vec(),
        })
    }

    fn read(folder: Folder) -> Result<Self, Error> {
        let json = config_json(&folder)?;
        let config = ModelConfig::parse_named(&folder.display(CONFIG), &json)?;
        let index = read_index(&folder)?;
        Self::of_folder(folder, config, index, None)
    }

    /// A language model that is a part of a larger system, whose config.json and index were read.
    pub(crate) fn nested(
        folder: Folder,
        config: ModelConfig,
        index: Index,
        system: System,
    ) -> Result<Self, Error> {
        Self::of_folder(folder, config, index, Some(system))
    }

    fn of_folder(
        folder: Folder,
        config: ModelConfig,
        (sources, tensors): Index,
        system: Option<System>,
    ) -> Result<Self, Error> {
        let generation = match folder.read(GENERATION_CONFIG)? {
            Some(json) => GenerationConfig::parse_named(&folder.display(GENERATION_CONFIG), &json)?,
            None => GenerationConfig::default(),
        };
        let checkpoint = Self {
            config,
            generation,
            folder,
            naming: match &system {
                Some(system) => Naming::Nested(system.names),
                None => Naming::Transformers,
            },
            encoding: Encoding::Bf16,
            tensors,
            unread: BTreeMap::new(),
            system,
            sources,
            tokenizer_config: OnceLock::new(),
            vocabulary_bytes: 0,
        };
        checkpoint.checked()
    }

    fn read_gguf(found: gguf::Found) -> Result<Self, Error> {
        let opened = gguf::open(&found)?;
        let checkpoint = Self {
            config: opened.config,
            generation: GenerationConfig::default(),
            folder: found.folder.single(opened.name),
            naming: Naming::Gguf,
            encoding: Encoding::Bf16,
            tensors: opened.tensors,
            unread: BTreeMap::new(),
            system: None,
            sources: opened.sources,
            tokenizer_config: OnceLock::from(Some(opened.tokenizer_config)),
            vocabulary_bytes: opened.vocabulary_bytes,
        };
        checkpoint.checked()
    }

    fn checked(mut self) -> Result<Self, Error> {
        self.refuse_adapters()?;
        self.encoding = self.check_weights()?;
        self.unread = self.sort_out()?;
        self.look_at_head_copy()?;
        Ok(self)
    }

    pub(crate) const fn naming(&self) -> Naming {
        self.naming
    }

    /// What the tensors belong to: the model's family, or what the model is a part of.
    pub(crate) fn system(&self) -> &'static str {
        let system = self.system.as_ref();
        system.map_or(self.config.family.name, |system| system.name)
    }

    /// Whether another part of the system reads the tensor.
    pub(crate) fn is_read_elsewhere(&self, tensor: &str) -> bool {
        let system = self.system.as_ref();
        system.is_some_and(|system| system.tensors.contains(tensor))
    }

    /// The vocabulary that a GGUF file has, read anew at each call; `None` where it has none, and
    /// of other checkpoints, which have it in a file of its own.
    pub fn gguf_tokenizer(&self) -> Result<Option<gguf::GgufTokenizer>, Error> {
        match (self.naming, self.sources.first()) {
            (Naming::Gguf, Some(storage)) => gguf::tokenizer(storage.as_ref()),
            _ => Ok(None),
        }
    }

    /// Bytes of the vocabulary in its file.
    pub fn vocabulary_bytes(&self) -> u64 {
        match self.naming {
            Naming::Gguf => self.vocabulary_bytes,
            Naming::Transformers | Naming::Nested(_) => {
                let file = self.folder.file_bytes(TOKENIZER);
                file.ok().flatten().unwrap_or(0)
            }
        }
    }

    /// The directory, or the name of an embedded checkpoint, for messages.
    pub fn location(&self) -> &str {
        self.folder.location()
    }

    /// Whether its files are on a disk, and not inside the program.
    pub fn on_disk(&self) -> bool {
        matches!(self.folder, Folder::Disk { .. } | Folder::Single { .. })
    }

    /// One of its files as the user would name it.
    pub fn display(&self, file: &str) -> String {
        self.folder.display(file)
    }

    /// The encoding of most of the projections' bytes, as stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
    }

    /// Where its weights are looked for.
    pub(crate) fn by_name(&self) -> Tensors<'_> {
        Tensors {
            by_name: &self.tensors,
            sources: &self.sources,
            location: self.location(),
            said_by: self.naming.description(),
        }
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorEntry)> {
        self.tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// What it is for, where the model does not read it.
    pub fn purpose(&self, tensor: &str) -> Option<Purpose> {
        self.unread.get(tensor).copied()
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The content of a file beside the weights, `None` where there is no such file.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.folder.read(name)
    }

    /// The same of a file that is one JSON object, in which no key stands twice.
    pub fn object_file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let json = self.folder.read(name)?;
        if let Some(json) = &json {
            parse_object(&self.display(name), json)?;
        }
        Ok(json)
    }

    /// What `tokenizer_config.json` says, read once; `None` where there is no such file.
    pub fn tokenizer_config(&self) -> Result<Option<&Map<String, Value>>, Error> {
        if self.tokenizer_config.get().is_none() {
            let json = self.folder.read(TOKENIZER_CONFIG)?;
            let parse = |json: Vec<u8>| parse_object(&self.display(TOKENIZER_CONFIG), &json);
            // If another thread was first, it has read the same.
            let _ = self.tokenizer_config.set(json.map(parse).transpose()?);
        }
        Ok(self.tokenizer_config.get().and_then(Option::as_ref))
    }

    /// The size of a file beside the weights, `None` where there is no such file.
    pub fn file_bytes(&self, name: &str) -> Result<Option<u64>, Error> {
        self.folder.file_bytes(name)
    }

    /// Whether there is such a file beside the weights.
    pub fn has_file(&self, name: &str) -> Result<bool, Error> {
        self.folder.has(name)
    }

    /// The files that hold the weights.
    pub fn sources(&self) -> &[Arc<dyn Storage>] {
        &self.sources
    }

    /// Bytes of all files that hold weights.
    pub fn stored_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.len()).sum()
    }

    /// What [`crate::Access::Direct`] really does here: the least direct of all files.
    pub fn access_report(&self) -> AccessReport {
        least_direct(&self.sources)
    }
}

/// The config.json of a folder that has one, and is no adapter.
pub(crate) fn config_json(folder: &Folder) -> Result<Vec<u8>, Error> {
    // The reference applies it to the model that it names, wherever that is.
    if folder.has(ADAPTER_CONFIG)? {
        return Err(Error::Adapter {
            location: folder.location().into(),
            found: ADAPTER_CONFIG.into(),
        });
    }
    match folder.read(CONFIG)? {
        Some(json) => Ok(json),
        None => {
            let other = foreign::other_format(folder, &folder.names());
            Err(other.unwrap_or_else(|| Error::NotACheckpoint {
                location: folder.location().into(),
                problem: "it has no config.json",
            }))
        }
    }
}

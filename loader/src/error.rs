//! Everything that can be wrong with a checkpoint or with reading it, as fields. The sentence says
//! what happened and the numbers; [`Error::hint`] says what to do about it.

mod header;
mod hint;

pub use header::HeaderProblem;

use std::fmt;
use std::path::PathBuf;

use crate::checksum::{ALGORITHM, Checksum};
use crate::files::gguf::GgufProblem;
use crate::files::torch::TorchProblem;
use crate::foreign::Format;
use crate::fuser::FuserProblem;
use crate::manifest::MANIFEST;
use crate::naming::Description;
use crate::units;

/// What went wrong with a checkpoint. Every file is named as the user would name it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{location} is not a checkpoint directory: {problem}")]
    NotACheckpoint {
        location: String,
        problem: &'static str,
    },
    #[error("{location} has no safetensors weights (found instead: {})", list(.found))]
    NoWeights {
        location: String,
        found: Vec<String>,
    },
    #[error(
        "{location} has {} and no {index}, which says what is in which file",
        safetensors(*.shards, .first)
    )]
    NoIndex {
        location: String,
        shards: usize,
        first: String,
        index: &'static str,
    },
    #[error("{file} is {format}, which is not read")]
    OtherFormat { file: String, format: Format },
    #[error("{file}: {problem}")]
    Gguf { file: String, problem: GgufProblem },
    #[error("{location} has several GGUF models: {}", list(.found))]
    SeveralGguf {
        location: String,
        found: Vec<String>,
    },
    #[error("{location} has no GGUF model with {pick} in its name (it has {})", list(.found))]
    NoSuchGguf {
        location: String,
        pick: String,
        found: Vec<String>,
    },
    #[error("{file}: {problem}")]
    Torch { file: String, problem: TorchProblem },
    #[error("{location} is not a C2C fuser: {problem}")]
    NotAFuser {
        location: String,
        problem: &'static str,
    },
    #[error("{file}: {problem}")]
    Fuser { file: String, problem: FuserProblem },
    #[error("cannot {action} {file}")]
    Io {
        action: &'static str,
        file: String,
        source: std::io::Error,
    },
    #[error("{file} is not a file: {problem}")]
    NotAFile { file: String, problem: &'static str },
    #[error("{file} is a link out of {location}, to {target}")]
    LinkOut {
        file: String,
        location: String,
        target: String,
    },
    #[error("{file} has {found_bytes} bytes, more than the {max_bytes} that such a file may have")]
    FileTooLarge {
        file: String,
        found_bytes: u64,
        max_bytes: u64,
    },
    #[error("{name:?} is not a plain file name")]
    FileName { name: String },
    #[error("{file} is not valid JSON: {problem}")]
    Json { file: String, problem: String },
    #[error("{file}: `{field}` is {found}, expected {expected}")]
    Field {
        file: String,
        field: String,
        found: String,
        expected: String,
    },
    #[error("{file}: `{field}` is missing")]
    FieldMissing { file: String, field: String },
    #[error("{file}: `{field}` is given twice, as {} and as {}", .values[0], .values[1])]
    FieldTwice {
        file: String,
        field: String,
        values: [String; 2],
    },
    #[error("{file}: {}, and {}", .said[0], .said[1])]
    Contradiction { file: String, said: Box<[Said; 2]> },
    #[error("{file}: {field} {value} is not supported (supported: {supported})")]
    Unsupported {
        file: String,
        field: String,
        value: String,
        supported: String,
    },
    #[error(
        "{file} describes {system}, which makes speech: its language model is not run by itself"
    )]
    Speech { file: String, system: &'static str },
    #[error("{location} has no folder {folder}, which holds its codec")]
    NoCodec {
        location: String,
        folder: &'static str,
    },
    #[error("{file}: tensor {tensor} is {value}, expected {expected}")]
    Factor {
        file: String,
        tensor: String,
        value: f32,
        expected: &'static str,
    },
    #[error("{file}: {problem}")]
    Header {
        file: String,
        problem: HeaderProblem,
    },
    #[error("{index}: shard name {shard:?} is not a plain file name")]
    ShardName { index: String, shard: String },
    #[error("{index} places {tensors} tensors in {shard}, which does not exist")]
    ShardMissing {
        index: String,
        shard: String,
        tensors: usize,
    },
    #[error("{index} places {tensor} in {shard}, which does not contain it")]
    NotInShard {
        index: String,
        shard: String,
        tensor: String,
    },
    #[error("{shard} has tensor {tensor}, which {index} does not place there")]
    NotInIndex {
        index: String,
        shard: String,
        tensor: String,
    },
    #[error("tensor {tensor} is in {first} and in {second}")]
    TensorTwice {
        tensor: String,
        first: String,
        second: String,
    },
    #[error("{location} holds an adapter ({found}), and adapters are not applied")]
    Adapter { location: String, found: String },
    #[error("{location} has no tensor {tensor}, which its {said_by} calls for")]
    TensorMissing {
        location: String,
        tensor: String,
        /// What describes the model; likewise in those that follow.
        said_by: Description,
    },
    #[error("{file}: tensor {tensor} has no place in a {family} block as {said_by} describes it")]
    TensorUnexpected {
        file: String,
        tensor: String,
        family: &'static str,
        said_by: Description,
    },
    #[error(
        "{file}: tensor {tensor} is one of layer {layer}, the first is layer 0, and {setting} is \
         {layers}"
    )]
    LayerSurplus {
        file: String,
        tensor: String,
        layer: usize,
        layers: usize,
        setting: &'static str,
    },
    #[error("{file}: tensor {tensor} is not part of a {family} model: it could change the answer")]
    TensorUnknown {
        file: String,
        tensor: String,
        family: &'static str,
    },
    #[error(
        "{file}: `tie_word_embeddings` is true, and {head} in {head_file} is not {embedding}: \
         {difference}"
    )]
    HeadDiffers {
        /// config.json.
        file: String,
        head: &'static str,
        head_file: String,
        embedding: &'static str,
        difference: String,
    },
    #[error("{file}: tensor {tensor} has shape {found:?}, {said_by} calls for {expected:?}")]
    TensorShape {
        file: String,
        tensor: String,
        expected: Vec<usize>,
        found: Vec<u64>,
        said_by: Description,
    },
    #[error("{file}: tensor {tensor} is stored as {found}, expected one of BF16, F16, F32")]
    TensorDType {
        file: String,
        tensor: String,
        found: String,
    },
    #[error("there is no layer {layer}: the model has {layers}")]
    NoSuchLayer { layer: usize, layers: usize },
    #[error("the slab has {found_bytes} bytes, the block needs {expected_bytes}")]
    SlabSize {
        expected_bytes: usize,
        found_bytes: usize,
    },
    #[error("cannot read {bytes} bytes at {offset} of {file}")]
    Read {
        file: String,
        offset: u64,
        bytes: usize,
        source: std::io::Error,
    },
    #[error(
        "{file} shrank while it was being read: it had {expected_bytes} bytes, now {found_bytes}"
    )]
    Shrunk {
        file: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    #[error("{file} was made from other files: {difference}")]
    StaleManifest { file: String, difference: String },
    #[error(
        "{tensor} in {file} is not what {MANIFEST} says: {ALGORITHM} {expected} expected, {found} \
         found"
    )]
    Altered {
        file: String,
        tensor: String,
        expected: Checksum,
        found: Checksum,
    },
    #[error("{} exists and is not an empty directory", dir.display())]
    Exists { dir: PathBuf },
    #[error(
        "{} needs {}, and {} are free on that disk",
        dir.display(),
        units::needed_of(*needed_bytes, *free_bytes).0,
        units::needed_of(*needed_bytes, *free_bytes).1
    )]
    NoRoom {
        dir: PathBuf,
        needed_bytes: u64,
        free_bytes: u64,
    },
    #[error(
        "the disk filled up: {} needs {}, {} were written",
        dir.display(),
        units::needed_of(*needed_bytes, *written_bytes).0,
        units::needed_of(*needed_bytes, *written_bytes).1
    )]
    DiskFull {
        dir: PathBuf,
        needed_bytes: u64,
        written_bytes: u64,
    },
    #[error("there is no preset {name:?}")]
    UnknownPreset { name: String },
}

/// What one place of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub place: String,
    pub value: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}", self.place, self.value)
    }
}

fn safetensors(shards: usize, first: &str) -> String {
    match shards {
        1 => first.to_owned(),
        _ => format!("{shards} safetensors files ({first} is the first)"),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    }
}

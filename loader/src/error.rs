//! Everything that can be wrong with a checkpoint or with reading it, as fields. The sentence says
//! what happened and the numbers; [`Error::hint`] says what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::checksum::{ALGORITHM, Checksum};
use crate::files::gguf::GgufProblem;
use crate::foreign::Format;
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

/// What is wrong with the header of one safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderProblem {
    #[error("{file_bytes} bytes are too few for a safetensors file")]
    TooShort { file_bytes: u64 },
    #[error("the header claims {header_bytes} bytes, the limit is {max_bytes}")]
    TooLong { header_bytes: u64, max_bytes: u64 },
    #[error("the header claims {header_bytes} bytes, the file has {file_bytes}")]
    PastEnd { header_bytes: u64, file_bytes: u64 },
    #[error("the header is not valid: {message}")]
    Json { message: String },
    #[error("tensor {tensor} is listed twice")]
    Duplicate { tensor: String },
    #[error("`{field}` is given twice, as {} and as {}", .values[0], .values[1])]
    KeyTwice { field: String, values: [String; 2] },
    #[error("tensor {tensor} has the unknown dtype {dtype:?}")]
    DType { tensor: String, dtype: String },
    #[error("tensor {tensor} has the impossible shape {shape:?}")]
    Shape { tensor: String, shape: Vec<u64> },
    #[error("tensor {tensor} ends at {end}, before its begin {begin}")]
    Reversed {
        tensor: String,
        begin: u64,
        end: u64,
    },
    #[error("tensor {tensor}: {dtype} {shape:?} needs {expected_bytes} bytes, has {found_bytes}")]
    Size {
        tensor: String,
        dtype: String,
        shape: Vec<u64>,
        expected_bytes: u64,
        found_bytes: u64,
    },
    #[error("the file is cut short: {tensor} ends at byte {expected_bytes} of {found_bytes}")]
    Truncated {
        tensor: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    #[error("tensors {first} and {second} overlap")]
    Overlap { first: String, second: String },
    #[error("{gap_bytes} bytes before tensor {tensor} belong to none")]
    Gap { tensor: String, gap_bytes: u64 },
    #[error("{surplus_bytes} bytes after the last tensor belong to none")]
    Surplus { surplus_bytes: u64 },
}

impl Error {
    /// The next step, where there is one worth naming.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotACheckpoint { .. } => {
                "give the directory that holds config.json and the .safetensors files, or a .gguf file"
                    .into()
            }
            Self::NoWeights { .. } => {
                "save the model again as safetensors; other formats are not read".into()
            }
            Self::NoIndex { index, .. } => format!(
                "fetch {index} from where the weights came from; weights in one file are called \
                 model.safetensors"
            ),
            Self::OtherFormat { format, .. } => format.hint().into(),
            Self::Gguf { file, problem } => problem.hint(file),
            Self::SeveralGguf { location, .. } => format!(
                "give one of them, or a part of its name after the folder's: {location}:Q4_K_M"
            ),
            Self::NoSuchGguf { .. } => "give a part of one of these names, or the file".into(),
            Self::Unsupported { supported, .. } => {
                format!("choose a checkpoint with {supported}")
            }
            Self::Json { file, .. }
            | Self::Field { file, .. }
            | Self::FieldMissing { file, .. }
            | Self::FieldTwice { file, .. } => {
                format!("compare {file} with the published one; fetch it again if it differs")
            }
            Self::Header {
                problem:
                    HeaderProblem::Truncated { .. }
                    | HeaderProblem::PastEnd { .. }
                    | HeaderProblem::TooShort { .. }
                    | HeaderProblem::TooLong { .. },
                file,
            } => format!("{file} looks like an interrupted download: fetch it again"),
            Self::Header { file, .. } => format!("{file} is damaged: fetch it again"),
            Self::ShardName { index, .. } => format!("{index} is damaged: fetch it again"),
            Self::ShardMissing { shard, .. } => {
                format!("the download is incomplete: fetch {shard}")
            }
            Self::Contradiction { file, .. } => format!(
                "these must agree: compare {file} with the published one, and keep what is right"
            ),
            Self::NotInShard { shard, .. } | Self::NotInIndex { shard, .. } => {
                format!("the index and {shard} come from different downloads: fetch both again")
            }
            Self::TensorTwice { first, second, .. } => format!(
                "{first} and {second} come from different downloads: fetch the whole checkpoint \
                 again"
            ),
            Self::Adapter { .. } => {
                "merge the adapter into the weights, and save the model again without it".into()
            }
            Self::LayerSurplus { .. } => {
                "fetch config.json and the weights from one place; to run fewer layers, save the \
                 model with only those layers"
                    .into()
            }
            Self::TensorUnknown { tensor, .. } => {
                format!("if the model works without {tensor}, save it again without it")
            }
            Self::HeadDiffers { head, .. } => format!(
                "if the model has a head of its own, `tie_word_embeddings` must be false in \
                 config.json; if not, save it again without {head}"
            ),
            Self::TensorMissing { said_by, .. }
            | Self::TensorUnexpected { said_by, .. }
            | Self::TensorShape { said_by, .. }
                if *said_by == Description::Metadata =>
            {
                "the file is damaged, or was converted by a program that writes models of this kind \
                 otherwise: fetch another conversion"
                    .into()
            }
            Self::TensorMissing { .. }
            | Self::TensorUnexpected { .. }
            | Self::TensorShape { .. } => {
                "config.json and the weights do not belong together: fetch both from one place"
                    .into()
            }
            Self::TensorDType { .. } => {
                "save the checkpoint again in one dtype: bf16, f16 or f32".into()
            }
            Self::Shrunk { file, .. } => {
                format!("do not change {file} during a run; fetch it again and restart")
            }
            Self::StaleManifest { .. } => {
                "if the weights are as they should be, write it again with `engine checksum DIR`"
                    .into()
            }
            Self::Altered { file, .. } => format!(
                "{file} is damaged: fetch it again; if it was replaced on purpose, run `engine \
                 checksum DIR`"
            ),
            Self::Exists { dir } => {
                format!("remove {} or choose another directory", dir.display())
            }
            Self::NoRoom {
                needed_bytes,
                free_bytes,
                ..
            } => format!(
                "free at least {} MiB more, choose a directory on another disk, or a smaller model",
                needed_bytes.saturating_sub(*free_bytes).div_ceil(1 << 20)
            ),
            Self::DiskFull {
                needed_bytes,
                written_bytes,
                ..
            } => format!(
                "free at least {} MiB more, or choose a smaller model",
                needed_bytes
                    .saturating_sub(*written_bytes)
                    .div_ceil(1 << 20)
            ),
            Self::UnknownPreset { .. } => {
                format!("choose one of {}", crate::synth::preset_names().join(", "))
            }
            Self::Read { file, .. } => format!(
                "the system could not read {file}: check the disk or the network it is on, or \
                 copy the checkpoint elsewhere"
            ),
            Self::NotAFile { file, .. } => format!("put the file itself at {file}"),
            Self::LinkOut { file, target, .. } => format!(
                "if {target} belongs to the checkpoint, put it in the place of the link {file}"
            ),
            Self::Io { file, .. } => format!("check that {file} is there and may be read"),
            Self::FileTooLarge { file, .. } => {
                format!("{file} is too large to be what its name says: fetch it again")
            }
            Self::FileName { .. } | Self::NoSuchLayer { .. } | Self::SlabSize { .. } => {
                return None;
            }
        };
        Some(hint)
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

//! What to do about an error, where there is one step worth naming.

use super::{Error, HeaderProblem};
use crate::naming::Description;

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
            Self::Torch { file, problem } => problem.hint(file),
            Self::NotAFuser { .. } => {
                "give the folder of a pair, which has a folder final with projector_config.json in \
                 it, or that folder"
                    .into()
            }
            Self::Fuser { file, problem } => return problem.hint(file),
            Self::Unsupported { supported, .. } => {
                format!("choose a checkpoint with {supported}")
            }
            Self::Speech { .. } => "run it with `engine speak`".into(),
            Self::NoCodec { folder, .. } => {
                format!("fetch {folder} and the files in it from where this came from")
            }
            Self::Factor { file, .. } => {
                format!("{file} is damaged, or was saved before this was set: fetch it again")
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
            Self::TensorMissing { said_by, .. } | Self::TensorShape { said_by, .. }
                if *said_by == Description::Projector =>
            {
                "projector_N.json and the weights beside it do not belong together: fetch both from \
                 one place"
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
                let mut names = crate::synth::preset_names();
                names.extend(crate::synth::vibevoice_shapes());
                names.extend(crate::synth::qwen3_tts_shapes());
                format!("choose one of {}", names.join(", "))
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

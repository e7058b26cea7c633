//! What a folder without weights that can be read holds instead, by the names of its files. Opens
//! nothing.

use std::fmt;

use crate::Error;
use crate::folder::Folder;

/// Names in a message.
const NAMES_MAX: usize = 8;

/// A form of weights that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `consolidated.safetensors`: safetensors, under the names that the model's maker uses.
    Consolidated,
    /// What came before GGUF.
    Ggml,
    /// GGUF files that hold no language model.
    Gguf,
    /// `.bin`, `.pt`, `.pth`, `.ckpt`: a pickle, which is a program.
    Pickle,
    Onnx,
    /// `.h5` of TensorFlow, `.msgpack` of Flax.
    OtherLibrary,
}

impl Format {
    /// The format that a file of that name is in.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".safetensors"]) {
            let file = name.rsplit(['/', '\\']).next().unwrap_or(&name);
            return file
                .starts_with("consolidated")
                .then_some(Self::Consolidated);
        }
        if ends(&[".ggml"]) {
            return Some(Self::Ggml);
        }
        if ends(&[".gguf"]) {
            return Some(Self::Gguf);
        }
        // Trainers leave these beside the weights, and they hold none.
        let of_a_trainer = [
            "training_args.bin",
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
        ];
        if of_a_trainer.iter().any(|other| name.ends_with(other)) {
            return None;
        }
        if ends(&[".bin", ".pt", ".pth", ".ckpt"]) {
            return Some(Self::Pickle);
        }
        if ends(&[".onnx"]) {
            return Some(Self::Onnx);
        }
        ends(&[".h5", ".msgpack"]).then_some(Self::OtherLibrary)
    }

    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Consolidated => {
                "fetch model.safetensors, or the shards model-00001-of-... with \
                 model.safetensors.index.json, from where this came from: they hold the same \
                 weights under the names that transformers uses"
            }
            Self::Ggml => "fetch a GGUF file of the same model",
            Self::Gguf => {
                "fetch the GGUF file of the language model too: a projector or a matrix of \
                 importances is none"
            }
            Self::Pickle => {
                "a pickle can run programs, so it is not opened: load it with transformers where \
                 you trust it, and save it with save_pretrained(DIR, safe_serialization=True); or \
                 fetch the .safetensors files"
            }
            Self::Onnx | Self::OtherLibrary => {
                "fetch the .safetensors files of the same model, or load it with transformers and \
                 save it with save_pretrained(DIR)"
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consolidated => "safetensors with its maker's own tensor names",
            Self::Ggml => "of the format before GGUF",
            Self::Gguf => "a GGUF file that is no language model",
            Self::Pickle => "a PyTorch pickle",
            Self::Onnx => "ONNX",
            Self::OtherLibrary => "weights for TensorFlow or Flax",
        })
    }
}

/// The error for a folder with neither `model.safetensors` nor an index: what it has instead.
pub(crate) fn no_weights(folder: &Folder, index: &'static str) -> Error {
    let names = folder.names();
    let location = || folder.location().to_owned();
    let is_weights = |name: &&String| name.ends_with(".safetensors") && Format::of(name).is_none();
    let shards: Vec<&String> = names.iter().filter(is_weights).collect();
    if let Some(first) = shards.first() {
        return Error::NoIndex {
            location: location(),
            shards: shards.len(),
            first: (*first).clone(),
            index,
        };
    }
    match other_format(folder, &names) {
        Some(error) => error,
        None => Error::NoWeights {
            location: location(),
            found: names.into_iter().take(NAMES_MAX).collect(),
        },
    }
}

/// The error for a folder whose weights are of another form, if they are.
pub(crate) fn other_format(folder: &Folder, names: &[String]) -> Option<Error> {
    let found = |name: &String| Format::of(name).map(|format| (name.clone(), format));
    let (name, format) = names.iter().find_map(found)?;
    Some(Error::OtherFormat {
        file: folder.display(&name),
        format,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for (name, format) in [
            ("consolidated.safetensors", Some(Format::Consolidated)),
            (
                "a/consolidated-00001-of-2.safetensors",
                Some(Format::Consolidated),
            ),
            ("model.Q4_K_M.gguf", Some(Format::Gguf)),
            ("pytorch_model-00001-of-00002.bin", Some(Format::Pickle)),
            ("consolidated.00.pth", Some(Format::Pickle)),
            ("model.onnx", Some(Format::Onnx)),
            ("tf_model.h5", Some(Format::OtherLibrary)),
            ("model-00001-of-00002.safetensors", None),
            ("training_args.bin", None),
            ("README.md", None),
        ] {
            assert_eq!(Format::of(name), format, "{name}");
        }
    }
}

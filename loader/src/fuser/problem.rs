//! What can be wrong with a fuser, or with one beside two models, as fields, in words, and with the
//! next step.

use std::fmt;

/// One of the two models of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that answers.
    Base,
    /// The one whose cache is projected.
    Teacher,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base model",
            Self::Teacher => "teacher",
        })
    }
}

/// What is wrong with a fuser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FuserProblem {
    #[error("it is missing, and layer {target} is mapped to projector {projector}")]
    NoDescription { projector: usize, target: usize },
    #[error(
        "layer {target} is mapped to projector {projector}, and there is neither \
         projector_{projector}.safetensors nor projector_{projector}.pt"
    )]
    NoProjector { projector: usize, target: usize },
    #[error(
        "projector {projector} is there twice, as projector_{projector}.safetensors and as \
         projector_{projector}.pt"
    )]
    ProjectorTwice { projector: usize },
    #[error(
        "tensor {tensor} is none of a projector with {layers} layers: it could change the answer"
    )]
    UnknownTensor { tensor: String, layers: usize },
    #[error("{tensor} is NaN, which is neither open nor closed")]
    Gate { tensor: String },
    #[error("there is no mapped layer number {index}: the fuser has {mapped}")]
    NoSuchMapped { index: usize, mapped: usize },
    #[error(
        "the fuser was made for a {model} with {fuser} heads of keys and values, and this one has \
         {found}"
    )]
    Heads {
        model: Side,
        fuser: usize,
        found: usize,
    },
    #[error(
        "the fuser was made for a {model} whose heads have {fuser} dimensions, and those of this \
         one have {found}"
    )]
    HeadDim {
        model: Side,
        fuser: usize,
        found: usize,
    },
    #[error("the fuser projects into layer {layer}, and the base model has {layers} layers")]
    TargetLayer { layer: usize, layers: usize },
    #[error(
        "the fuser projects layer {layer} of the teacher into layer {target}, and the teacher has \
         {layers} layers"
    )]
    SourceLayer {
        layer: usize,
        target: usize,
        layers: usize,
    },
}

impl FuserProblem {
    /// The next step.
    pub(crate) fn hint(&self, file: &str) -> Option<String> {
        Some(match self {
            Self::NoDescription { .. } => format!("the download is incomplete: fetch {file}"),
            Self::NoProjector { projector, .. } => format!(
                "the download is incomplete: fetch projector_{projector}.pt, or correct \
                 projector_config.json"
            ),
            Self::ProjectorTwice { .. } => {
                "keep one of the two files, and move the other elsewhere".into()
            }
            Self::UnknownTensor { tensor, .. } => format!(
                "fetch {file} and its .json from one place; if the projector works without \
                 {tensor}, save it again without it"
            ),
            Self::Gate { .. } => {
                format!("{file} is damaged, or its training failed: fetch it again")
            }
            Self::Heads { .. }
            | Self::HeadDim { .. }
            | Self::TargetLayer { .. }
            | Self::SourceLayer { .. } => {
                "give the two models that the fuser was trained between: its folder is named after \
                 them"
                    .into()
            }
            Self::NoSuchMapped { .. } => return None,
        })
    }
}

//! What can be wrong with a file that PyTorch saved, as fields, in words, and with the next step.

/// What is wrong with a file of `torch.save`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchProblem {
    #[error("it does not end as a zip archive does")]
    NoArchive,
    #[error("the archive is damaged: {problem}")]
    Archive { problem: &'static str },
    #[error("{what} of the archive has {bytes} bytes, more than the {max_bytes} that it may have")]
    TooLarge {
        what: &'static str,
        bytes: u64,
        max_bytes: u64,
    },
    #[error("{entry} in the archive is damaged: {problem}")]
    Entry {
        entry: String,
        problem: &'static str,
    },
    #[error("{entry} in the archive is compressed, and weights are read where they lie")]
    Compressed { entry: String },
    #[error("the archive has no {entry}")]
    NoEntry { entry: String },
    #[error("it has two pickles, {first} and {second}")]
    TwoPickles { first: String, second: String },
    #[error("its byteorder is {found:?}, and little is read")]
    ByteOrder { found: String },
    #[error("the pickle ends within {what}")]
    PickleCut { what: &'static str },
    #[error("the pickle would run {name}, and nothing in it is run")]
    Global { name: String },
    #[error("the pickle has the instruction {opcode:#04x} at {at}, which no weights need")]
    Opcode { opcode: u8, at: usize },
    #[error("the pickle is of protocol {protocol}, and 2 to 5 are read")]
    Protocol { protocol: u8 },
    #[error("the pickle makes no sense at {at}: {problem}")]
    Pickle { problem: &'static str, at: usize },
    #[error("the pickle has more than {max} {what}, which no weights need")]
    TooMany { what: &'static str, max: usize },
    #[error("it holds no weights by name, but {found}")]
    NoWeights { found: &'static str },
    #[error("its entry {name} is no tensor, but {found}")]
    NoTensor { name: String, found: &'static str },
    #[error("tensor {tensor} is listed twice")]
    TensorTwice { tensor: String },
    #[error("tensor {tensor} has the impossible shape {shape:?}")]
    Shape { tensor: String, shape: Vec<u64> },
    #[error(
        "tensor {tensor} of shape {shape:?} does not lie row by row: its strides are {strides:?}"
    )]
    Strides {
        tensor: String,
        shape: Vec<u64>,
        strides: Vec<u64>,
    },
    #[error(
        "tensor {tensor} needs {needed} numbers of its storage {key}, which has {numbers} of them"
    )]
    Outside {
        tensor: String,
        key: String,
        needed: u64,
        numbers: u64,
    },
    #[error(
        "the storage {key} of tensor {tensor} needs {expected_bytes} bytes, and the archive has \
         {found_bytes} of it"
    )]
    Size {
        tensor: String,
        key: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    #[error("tensors {first} and {second} overlap")]
    Overlap { first: String, second: String },
}

impl TorchProblem {
    /// The next step.
    pub(crate) fn hint(&self, file: &str) -> String {
        match self {
            Self::NoArchive => format!(
                "{file} looks like an interrupted download: fetch it again; a file of PyTorch \
                 before 1.6 has to be loaded and saved again by a newer one"
            ),
            Self::Compressed { .. } => {
                format!("{file} was packed again by another program: fetch the original")
            }
            Self::ByteOrder { .. } => {
                "load it with PyTorch, and save it again on a little-endian machine".into()
            }
            Self::Global { name } if name.starts_with("torch.") => {
                "save the state_dict() of the projector alone, in f32, f16 or bf16".into()
            }
            Self::Global { .. } | Self::Opcode { .. } => format!(
                "do not load {file} with PyTorch before you know where it comes from; if you trust \
                 it, save its state_dict() alone"
            ),
            Self::NoWeights { .. } | Self::NoTensor { .. } => {
                "save the state_dict() of the projector alone".into()
            }
            Self::Strides { tensor, .. } => {
                format!("load {file} with PyTorch, make {tensor} .contiguous(), and save it again")
            }
            Self::Overlap { second, .. } => format!(
                "load {file} with PyTorch, make {second} a .clone() of itself, and save it again"
            ),
            _ => format!("{file} is damaged: fetch it again"),
        }
    }
}

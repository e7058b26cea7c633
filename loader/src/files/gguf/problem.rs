//! What can be wrong with a GGUF file before its model is known, as fields, in words, and with the
//! next step.

use encoding::Encoding;

/// What is wrong with the header of one GGUF file, or with the parts of a split one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    #[error("it begins with {found:02x?}, and a GGUF file with \"GGUF\"")]
    Magic { found: [u8; 4] },
    #[error("it was written for a machine with the other order of bytes (big-endian)")]
    ByteOrder,
    #[error("it is GGUF version {version}, and 2 and 3 are read")]
    Version { version: u32 },
    #[error("the file ends within {what}: {needed_bytes} bytes are needed, {left_bytes} are left")]
    Cut {
        what: String,
        needed_bytes: u64,
        left_bytes: u64,
    },
    #[error("{what} makes the header longer than {max_bytes} bytes, which none may be")]
    TooLong { what: String, max_bytes: u64 },
    #[error("it claims {count} {what}, and {left_bytes} bytes are left for them")]
    Count {
        what: &'static str,
        count: u64,
        left_bytes: u64,
    },
    #[error("it has {count} {what}, and at most {max} are read")]
    TooMany {
        what: &'static str,
        count: u64,
        max: u64,
    },
    #[error("the name of {what} {index} is not UTF-8")]
    Name { what: &'static str, index: u64 },
    #[error("metadata `{key}` is given twice")]
    KeyTwice { key: String },
    #[error("metadata `{key}` has the unknown type {kind}")]
    ValueType { key: String, kind: u32 },
    #[error("metadata `{key}` is a list of lists")]
    Nested { key: String },
    #[error("metadata `{key}` claims a list of {count}, and {left_bytes} bytes are left for it")]
    ListLength {
        key: String,
        count: u64,
        left_bytes: u64,
    },
    #[error("metadata `{key}` is neither true nor false: {found}")]
    Bool { key: String, found: u8 },
    #[error("metadata `general.alignment` is {found}, expected a power of two")]
    Alignment { found: String },
    #[error("tensor {tensor} is listed twice")]
    TensorTwice { tensor: String },
    #[error("tensor {tensor} has {count} dimensions, expected 1 to 4")]
    Dimensions { tensor: String, count: u32 },
    #[error("tensor {tensor} has the impossible shape {shape:?}")]
    Shape { tensor: String, shape: Vec<u64> },
    #[error("tensor {tensor} is stored in the unknown type {kind}")]
    UnknownType { tensor: String, kind: u32 },
    #[error("tensor {tensor} is stored as {name}, which is not read")]
    UnreadType { tensor: String, name: &'static str },
    #[error(
        "tensor {tensor} has rows of {cols} numbers, which are no whole blocks of {encoding} ({} \
         numbers each)",
        .encoding.block().numbers
    )]
    Rows {
        tensor: String,
        encoding: Encoding,
        cols: u64,
    },
    #[error(
        "tensor {tensor} begins at {offset}, which is no multiple of the alignment {alignment}"
    )]
    Unaligned {
        tensor: String,
        offset: u64,
        alignment: u64,
    },
    #[error("tensor {tensor} begins at {offset} of the data, and the file has {file_bytes} bytes")]
    Outside {
        tensor: String,
        offset: u64,
        file_bytes: u64,
    },
    #[error("the file is cut short: {tensor} ends at byte {end} of {file_bytes}")]
    Truncated {
        tensor: String,
        end: u64,
        file_bytes: u64,
    },
    #[error("tensors {first} and {second} overlap")]
    Overlap { first: String, second: String },
    #[error("{gap_bytes} bytes before tensor {tensor} belong to none")]
    Gap { tensor: String, gap_bytes: u64 },
    #[error("{surplus_bytes} bytes after the last tensor belong to none")]
    Surplus { surplus_bytes: u64 },
    #[error("it is part {} of {count}, and its name does not end with -{:05}-of-{count:05}.gguf", .number + 1, .number + 1)]
    PartName { number: u64, count: u64 },
    #[error("it says that it is part {} of {count}, expected part {} of {expected_count}", .number + 1, .expected + 1)]
    PartNumber {
        number: u64,
        count: u64,
        expected: u64,
        expected_count: u64,
    },
    #[error("part {} of {count} is missing: there is no {file}", .number + 1)]
    PartMissing {
        number: u64,
        count: u64,
        file: String,
    },
    #[error("the parts have {found} tensors together, and `split.tensors.count` is {expected}")]
    PartTensors { expected: u64, found: u64 },
}

impl GgufProblem {
    /// The next step.
    pub(crate) fn hint(&self, file: &str) -> String {
        match self {
            Self::Magic { .. } => format!("{file} is no GGUF file, whatever its name is"),
            Self::ByteOrder => "fetch the file for little-endian machines, or convert it with \
                                llama.cpp's gguf_convert_endian.py"
                .into(),
            Self::Version { version: 0 | 1 } => {
                "fetch a newer conversion of the model, or convert it again".into()
            }
            Self::Version { .. } => {
                "a newer version of this engine may read it; fetch a conversion in version 3".into()
            }
            Self::Cut { .. } | Self::Truncated { .. } | Self::Outside { .. } => {
                format!("{file} looks like an interrupted download: fetch it again")
            }
            Self::UnknownType { .. } | Self::UnreadType { .. } => format!(
                "fetch the model in another format: {} are read",
                Encoding::ALL.map(Encoding::name).join(", ")
            ),
            Self::Rows { .. } => {
                format!("{file} was written by a program that pads rows: fetch another conversion")
            }
            Self::PartName { .. } => {
                "give the parts of a split file the names that they were published with".into()
            }
            Self::PartNumber { .. } | Self::PartTensors { .. } => {
                "the parts come from different conversions: fetch all of them again".into()
            }
            Self::PartMissing { file, .. } => {
                format!("the download is incomplete: fetch {file}")
            }
            _ => format!("{file} is damaged: fetch it again"),
        }
    }
}

//! What can be wrong with the header of a safetensors file.

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

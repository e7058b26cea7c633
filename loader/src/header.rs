//! The header of one safetensors file: which tensors it holds and where. Everything it claims is
//! checked against the length of the file before anyone believes it. Knows no model.

use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;

use crate::json::Pairs;
use crate::{Error, HeaderProblem, Storage};

/// The format's own limit on the header, which keeps a damaged length from asking for terabytes.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// A tensor as its file describes it; `offset` counts from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub offset: u64,
    pub bytes: u64,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// `__metadata__` stands among the tensors and is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawEntry {
    Tensor(RawTensor),
    Other(serde::de::IgnoredAny),
}

/// Reads and checks the header.
pub(crate) fn read(storage: &dyn Storage) -> Result<Vec<HeaderTensor>, Error> {
    let fail = |problem| Error::Header {
        file: storage.name().into(),
        problem,
    };
    let file_bytes = storage.len();
    if file_bytes < 8 {
        return Err(fail(HeaderProblem::TooShort { file_bytes }));
    }
    let mut length = [0; 8];
    storage.read_at(0, &mut length)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(fail(HeaderProblem::TooLong {
            header_bytes,
            max_bytes: HEADER_BYTES_MAX,
        }));
    }
    if header_bytes > file_bytes - 8 {
        return Err(fail(HeaderProblem::PastEnd {
            header_bytes,
            file_bytes,
        }));
    }
    // At most HEADER_BYTES_MAX, so it fits everywhere.
    let mut json = vec![0; header_bytes as usize];
    storage.read_at(8, &mut json)?;
    parse(&json, 8 + header_bytes, file_bytes).map_err(fail)
}

/// Checks `json` against a file of `file_bytes` whose data starts at `data_start`.
fn parse(
    json: &[u8],
    data_start: u64,
    file_bytes: u64,
) -> Result<Vec<HeaderTensor>, HeaderProblem> {
    let invalid = |message: String| HeaderProblem::Json { message };
    let Pairs(pairs) = serde_json::from_slice::<Pairs<RawEntry>>(json)
        .map_err(|error| invalid(error.to_string()))?;
    let mut tensors = Vec::with_capacity(pairs.len());
    for (name, entry) in pairs {
        match entry {
            _ if name == "__metadata__" => {}
            RawEntry::Tensor(raw) => tensors.push(check(name, raw, data_start, file_bytes)?),
            RawEntry::Other(_) => {
                return Err(invalid(format!(
                    "{name} is not a tensor: needs dtype, shape, data_offsets"
                )));
            }
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(HeaderProblem::Duplicate {
            tensor: pair[0].name.clone(),
        });
    }
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    // In this order an empty tensor at the place where another begins comes first, so comparing
    // neighbours is enough.
    for pair in tensors.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(HeaderProblem::Overlap {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
            });
        }
    }
    Ok(tensors)
}

fn check(
    name: String,
    raw: RawTensor,
    data_start: u64,
    file_bytes: u64,
) -> Result<HeaderTensor, HeaderProblem> {
    let Ok(dtype) = serde_json::from_value::<Dtype>(Value::String(raw.dtype.clone())) else {
        return Err(HeaderProblem::DType {
            tensor: name,
            dtype: raw.dtype,
        });
    };
    let bits = raw
        .shape
        .iter()
        .try_fold(dtype.bitsize() as u64, |bits, dim| bits.checked_mul(*dim));
    let Some(expected_bytes) = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8) else {
        return Err(HeaderProblem::Shape {
            tensor: name,
            shape: raw.shape,
        });
    };
    let (begin, end) = raw.data_offsets;
    let Some(bytes) = end.checked_sub(begin) else {
        return Err(HeaderProblem::Reversed {
            tensor: name,
            begin,
            end,
        });
    };
    if bytes != expected_bytes {
        return Err(HeaderProblem::Size {
            tensor: name,
            dtype: raw.dtype,
            shape: raw.shape,
            expected_bytes,
            found_bytes: bytes,
        });
    }
    if end > file_bytes - data_start {
        return Err(HeaderProblem::Truncated {
            tensor: name,
            expected_bytes: data_start.saturating_add(end),
            found_bytes: file_bytes,
        });
    }
    Ok(HeaderTensor {
        name,
        dtype,
        shape: raw.shape,
        offset: data_start + begin,
        bytes,
    })
}

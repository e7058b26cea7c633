//! The header of one safetensors file: which tensors it holds and where. Everything it claims is
//! checked against the length of the file before anyone believes it. Knows no model.

use std::cmp::Ordering;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

use crate::json::{Loose, NoValue, Twice, parse_entries};
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

#[derive(Debug)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    /// `None`: a field is missing, or is something else. Further fields are not looked at.
    fn of(fields: Vec<(String, Loose)>) -> Option<Self> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("dtype", Loose::Text(text)) => dtype = Some(text),
                ("shape", Loose::Numbers(numbers)) => shape = Some(numbers),
                ("data_offsets", Loose::Numbers(numbers)) => offsets = Some(numbers),
                _ => {}
            }
        }
        let (begin, end) = match offsets?.as_slice() {
            [begin, end] => (*begin, *end),
            _ => return None,
        };
        Some(Self {
            dtype: dtype?,
            shape: shape?,
            data_offsets: (begin, end),
        })
    }
}

/// It stands among the tensors and is none.
const METADATA: &str = "__metadata__";

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
    let mut raw_tensors = Vec::new();
    let mut metadata = 0;
    let each = |name: String, value: Loose| match (name == METADATA, value) {
        (true, _) => metadata += 1,
        (false, Loose::Fields(fields)) => raw_tensors.push((name, RawTensor::of(fields))),
        (false, _) => raw_tensors.push((name, None)),
    };
    parse_entries(json, each).map_err(|no_value| match no_value {
        NoValue::Json(error) => invalid(error.to_string()),
        NoValue::Twice(Twice { field, values }) => HeaderProblem::KeyTwice { field, values },
    })?;
    if metadata > 1 {
        return Err(HeaderProblem::Duplicate {
            tensor: METADATA.into(),
        });
    }
    let mut tensors = Vec::with_capacity(raw_tensors.len());
    for (name, raw) in raw_tensors {
        let Some(raw) = raw else {
            return Err(invalid(format!(
                "{name} is not a tensor: needs dtype, shape, data_offsets"
            )));
        };
        tensors.push(check(name, raw, data_start, file_bytes)?);
    }
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(HeaderProblem::Duplicate {
            tensor: pair[0].name.clone(),
        });
    }
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    check_coverage(&tensors, data_start, file_bytes)?;
    Ok(tensors)
}

/// The data are the tensors, one behind the other, and nothing else: the format says so, and bytes
/// that no tensor has are bytes that were never looked at. `tensors` come in the order of the file,
/// an empty one before another that begins at the same place.
fn check_coverage(
    tensors: &[HeaderTensor],
    data_start: u64,
    file_bytes: u64,
) -> Result<(), HeaderProblem> {
    let (mut end, mut before) = (data_start, "");
    for tensor in tensors {
        match tensor.offset.cmp(&end) {
            Ordering::Equal => {}
            Ordering::Less => {
                return Err(HeaderProblem::Overlap {
                    first: before.into(),
                    second: tensor.name.clone(),
                });
            }
            Ordering::Greater => {
                return Err(HeaderProblem::Gap {
                    tensor: tensor.name.clone(),
                    gap_bytes: tensor.offset - end,
                });
            }
        }
        (end, before) = (tensor.offset + tensor.bytes, &tensor.name);
    }
    match file_bytes - end {
        0 => Ok(()),
        surplus_bytes => Err(HeaderProblem::Surplus { surplus_bytes }),
    }
}

fn check(
    name: String,
    raw: RawTensor,
    data_start: u64,
    file_bytes: u64,
) -> Result<HeaderTensor, HeaderProblem> {
    let spelled: StrDeserializer<'_, serde::de::value::Error> =
        raw.dtype.as_str().into_deserializer();
    let Ok(dtype) = Dtype::deserialize(spelled) else {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::{Duration, Instant};

    use super::*;

    /// A file of that many empty tensors.
    fn header(tensors: usize) -> String {
        let mut json = String::from("{");
        for tensor in 0..tensors {
            let comma = if tensor == 0 { "" } else { "," };
            write!(
                json,
                r#"{comma}"model.layers.{tensor}.mlp.experts.weight":{{"dtype":"BF16","shape":[0,64],"data_offsets":[0,0]}}"#
            )
            .unwrap();
        }
        json.push('}');
        json
    }

    /// With the room of a build without optimisation, and of a machine that is busy.
    #[test]
    fn fifty_megabytes_are_read_in_a_second() {
        let json = header(560_000);
        assert!(json.len() > 50_000_000, "{}", json.len());
        let started = Instant::now();
        let tensors = parse(
            json.as_bytes(),
            8 + json.len() as u64,
            8 + json.len() as u64,
        );
        let took = started.elapsed();
        assert_eq!(tensors.unwrap().len(), 560_000);
        println!("{} bytes in {took:?}", json.len());
        let most = if cfg!(debug_assertions) { 10 } else { 2 };
        assert!(took < Duration::from_secs(most), "{took:?}");
    }

    /// A list takes no memory for numbers that no shape has.
    #[test]
    fn a_long_list_is_no_tensor() {
        let list = "0,".repeat(1_000_000);
        let json = format!(r#"{{"x":{{"dtype":"BF16","shape":[{list}0],"data_offsets":[0,0]}}}}"#);
        let error = parse(json.as_bytes(), 0, 0).unwrap_err();
        assert!(error.to_string().contains("x is not a tensor"), "{error}");
    }

    #[test]
    fn of_many_fields_none_stands_twice() {
        let fields: String = (0..20)
            .map(|field| format!(r#""f{field}":{field},"#))
            .collect();
        let json = format!(r#"{{"x":{{{fields}"f9":true}}}}"#);
        let error = parse(json.as_bytes(), 0, 0).unwrap_err();
        let text = "`x.f9` is given twice, as 9 and as true";
        assert_eq!(error.to_string(), text);
    }
}

//! The header of one GGUF file: its settings, and which tensors it holds and where. Everything it
//! claims is checked against the length of the file before it is believed. Knows no model.

use std::collections::BTreeSet;

use encoding::Encoding;

use super::kinds::Kind;
use super::metadata::Metadata;
use super::problem::GgufProblem;
use super::reader::Reader;
use super::value::{Number, Value};
use crate::{Error, Storage};

const MAGIC: [u8; 4] = *b"GGUF";

/// Where the file does not say another.
const ALIGNMENT: u64 = 32;

/// A name's length, a count of dimensions, a dimension, a type, an offset: no tensor takes less.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

/// Ten times as many as the largest published models have.
const TENSORS_MAX: u64 = 1 << 18;

const DIMENSIONS_MAX: u32 = 4;

#[derive(Debug)]
pub(super) struct Header {
    pub metadata: Metadata,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Info>,
}

/// A tensor as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub name: String,
    /// Rows first: the file has it the other way round.
    pub shape: Vec<u64>,
    pub encoding: Encoding,
    /// Counted from the start of the file.
    pub offset: u64,
    pub bytes: u64,
}

/// Whether the file begins as one of this format.
pub(super) fn is_gguf(storage: &dyn Storage) -> bool {
    let mut magic = [0; 4];
    storage.len() >= 4 && storage.read_at(0, &mut magic).is_ok() && magic == MAGIC
}

pub(super) fn read(storage: &dyn Storage) -> Result<Header, Error> {
    let mut reader = Reader::new(storage);
    let reader = &mut reader;
    let found = reader.take(&"the first four bytes")?;
    if found != MAGIC {
        return Err(reader.fail(GgufProblem::Magic { found }));
    }
    match reader.u32(&"the version")? {
        2 | 3 => {}
        // A number this large is a small one with its bytes turned.
        version if version.trailing_zeros() >= 16 && version != 0 => {
            return Err(reader.fail(GgufProblem::ByteOrder));
        }
        version => return Err(reader.fail(GgufProblem::Version { version })),
    }
    let tensors = reader.u64(&"the number of tensors")?;
    let entries = reader.u64(&"the number of entries of metadata")?;
    let metadata = Metadata::read(storage.name(), reader, entries)?;
    let alignment = alignment(reader, &metadata)?;
    let tensors = read_tensors(reader, tensors, alignment)?;
    // No more than the header's length and an alignment of 32 bits.
    let data_start = reader.at().next_multiple_of(alignment);
    let tensors = place(tensors, data_start, alignment, storage.len());
    let tensors = tensors.map_err(|problem| reader.fail(problem))?;
    Ok(Header { metadata, tensors })
}

fn alignment(reader: &Reader<'_>, metadata: &Metadata) -> Result<u64, Error> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Number(Number::Whole(whole))) => match u32::try_from(*whole) {
            Ok(alignment) if alignment.is_power_of_two() => Ok(alignment.into()),
            _ => Err(reader.fail(GgufProblem::Alignment {
                found: whole.to_string(),
            })),
        },
        Some(other) => Err(reader.fail(GgufProblem::Alignment {
            found: other.to_string(),
        })),
    }
}

/// The tensors with offsets as the file has them, from the start of its data.
fn read_tensors(reader: &mut Reader<'_>, count: u64, alignment: u64) -> Result<Vec<Info>, Error> {
    reader.check_count("tensors", count, TENSOR_BYTES_MIN, TENSORS_MAX)?;
    let mut tensors = Vec::new();
    for index in 0..count {
        let name = reader.text(&format_args!("the name of tensor {index}"))?;
        let Ok(name) = String::from_utf8(name) else {
            let what = "tensor";
            return Err(reader.fail(GgufProblem::Name { what, index }));
        };
        tensors.push(read_tensor(reader, name, alignment)?);
    }
    let mut names = BTreeSet::new();
    match tensors.iter().find(|tensor| !names.insert(&*tensor.name)) {
        Some(twice) => Err(reader.fail(GgufProblem::TensorTwice {
            tensor: twice.name.clone(),
        })),
        None => Ok(tensors),
    }
}

fn read_tensor(reader: &mut Reader<'_>, name: String, alignment: u64) -> Result<Info, Error> {
    let what = format_args!("the description of tensor {name}");
    let count = reader.u32(&what)?;
    if !(1..=DIMENSIONS_MAX).contains(&count) {
        let tensor = name;
        return Err(reader.fail(GgufProblem::Dimensions { tensor, count }));
    }
    let mut shape = Vec::new();
    for _ in 0..count {
        shape.push(reader.u64(&what)?);
    }
    let cols = shape[0];
    shape.reverse();
    let kind = reader.u32(&what)?;
    let offset = reader.u64(&what)?;
    let encoding = match Kind::of(kind) {
        Some(Kind::Read(encoding)) => encoding,
        Some(Kind::Unread(type_name)) => {
            return Err(reader.fail(GgufProblem::UnreadType {
                tensor: name,
                name: type_name,
            }));
        }
        None => return Err(reader.fail(GgufProblem::UnknownType { tensor: name, kind })),
    };
    if !cols.is_multiple_of(encoding.block().numbers as u64) {
        return Err(reader.fail(GgufProblem::Rows {
            tensor: name,
            encoding,
            cols,
        }));
    }
    let numbers = shape
        .iter()
        .try_fold(1_u64, |numbers, dim| numbers.checked_mul(*dim))
        .filter(|numbers| *numbers > 0);
    let block = encoding.block();
    let blocks = numbers.map(|numbers| numbers / block.numbers as u64);
    let Some(bytes) = blocks.and_then(|blocks| blocks.checked_mul(block.bytes as u64)) else {
        let tensor = name;
        return Err(reader.fail(GgufProblem::Shape { tensor, shape }));
    };
    if !offset.is_multiple_of(alignment) {
        return Err(reader.fail(GgufProblem::Unaligned {
            tensor: name,
            offset,
            alignment,
        }));
    }
    Ok(Info {
        name,
        shape,
        encoding,
        offset,
        bytes,
    })
}

/// Where in the file the tensors are. The data are the tensors, each at the next multiple of the
/// alignment, and nothing else: other bytes would be some that nothing has looked at.
fn place(
    mut tensors: Vec<Info>,
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<Vec<Info>, GgufProblem> {
    for tensor in &mut tensors {
        let begin = data_start.checked_add(tensor.offset);
        let Some(begin) = begin.filter(|begin| *begin <= file_bytes) else {
            return Err(GgufProblem::Outside {
                tensor: tensor.name.clone(),
                offset: tensor.offset,
                file_bytes,
            });
        };
        let end = begin.saturating_add(tensor.bytes);
        if end > file_bytes {
            return Err(GgufProblem::Truncated {
                tensor: tensor.name.clone(),
                end,
                file_bytes,
            });
        }
        tensor.offset = begin;
    }
    let mut order: Vec<&Info> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    let (mut end, mut before) = (data_start, "");
    for tensor in order {
        if tensor.offset < end {
            return Err(GgufProblem::Overlap {
                first: before.into(),
                second: tensor.name.clone(),
            });
        }
        let gap_bytes = tensor.offset - end;
        if gap_bytes >= alignment {
            return Err(GgufProblem::Gap {
                tensor: tensor.name.clone(),
                gap_bytes,
            });
        }
        (end, before) = (tensor.offset + tensor.bytes, &tensor.name);
    }
    // Some writers pad the last tensor, and one without tensors ends with its header.
    match file_bytes.saturating_sub(end) {
        surplus_bytes if surplus_bytes >= alignment => Err(GgufProblem::Surplus { surplus_bytes }),
        _ => Ok(tensors),
    }
}

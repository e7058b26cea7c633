//! Files of `torch.save` that hold a state dict: which tensors they have and where. Weights stream
//! from the unmodified file, so what is wanted of it are offsets, and nothing of it is executed.
//!
//! The readers of tensor libraries give tensors, not places, and this crate knows no such library;
//! the few instructions and records that weights need are read here, and everything else is refused
//! by name. Knows no model.

mod pickle;
mod problem;
mod storages;
mod zip;

use std::collections::BTreeMap;

use self::pickle::{PICKLE_BYTES_MAX, Pickled};
pub use self::problem::TorchProblem;
use self::zip::{Archive, fail};
use crate::json::shorten;
use crate::{Error, Storage, TensorEntry};

const PICKLE: &str = "/data.pkl";
const BYTEORDER_BYTES_MAX: u64 = 16;

/// The tensors of the file, which is number `source` of its list.
pub(crate) fn read(
    storage: &dyn Storage,
    source: usize,
) -> Result<BTreeMap<String, TensorEntry>, Error> {
    let archive = Archive::read(storage)?;
    let prefix = prefix(&archive).map_err(|problem| fail(storage, problem))?;
    check_order(storage, &archive, &prefix)?;
    let name = format!("{prefix}{PICKLE}");
    let pickle = archive.content(&name, "the pickle", PICKLE_BYTES_MAX)?;
    let pickled = pickle::read(&pickle).map_err(|problem| fail(storage, problem))?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in pickled {
        let bytes = check(name, &tensor).map_err(|problem| fail(storage, problem))?;
        let key = tensor.storage.key;
        let place = archive.place(&format!("{prefix}/data/{key}"))?;
        let number_bytes = tensor.storage.of.number_bytes;
        // Both products are of numbers that `check` has multiplied.
        let expected_bytes = tensor.storage.numbers * number_bytes;
        if place.bytes != expected_bytes {
            return Err(fail(
                storage,
                TorchProblem::Size {
                    tensor: shorten(name.into()),
                    key: shorten(key.into()),
                    expected_bytes,
                    found_bytes: place.bytes,
                },
            ));
        }
        let entry = TensorEntry {
            source,
            offset: place.offset + tensor.offset * number_bytes,
            bytes,
            shape: tensor.shape,
            stored: tensor.storage.of.stored(),
        };
        if tensors.insert(name.to_owned(), entry).is_some() {
            let tensor = shorten(name.into());
            return Err(fail(storage, TorchProblem::TensorTwice { tensor }));
        }
    }
    match overlap(&tensors) {
        Some(problem) => Err(fail(storage, problem)),
        None => Ok(tensors),
    }
}

/// What the names of all entries begin with: PyTorch takes the name of the file for it.
fn prefix(archive: &Archive<'_>) -> Result<String, TorchProblem> {
    let mut pickles = archive.names().filter(|name| name.ends_with(PICKLE));
    match (pickles.next(), pickles.next()) {
        (None, _) => Err(TorchProblem::NoEntry {
            entry: "data.pkl in a folder".into(),
        }),
        (Some(first), Some(second)) => Err(TorchProblem::TwoPickles {
            first: shorten(first.into()),
            second: shorten(second.into()),
        }),
        (Some(only), None) => Ok(only[..only.len() - PICKLE.len()].to_owned()),
    }
}

/// Files of older versions do not say it, and are of little-endian machines.
fn check_order(storage: &dyn Storage, archive: &Archive<'_>, prefix: &str) -> Result<(), Error> {
    let name = format!("{prefix}/byteorder");
    if !archive.has(&name) {
        return Ok(());
    }
    let found = archive.content(&name, "the byteorder", BYTEORDER_BYTES_MAX)?;
    match found.as_slice() {
        b"little" => Ok(()),
        _ => Err(fail(
            storage,
            TorchProblem::ByteOrder {
                found: String::from_utf8_lossy(&found).into_owned(),
            },
        )),
    }
}

/// That the tensor lies row by row and inside its storage. Its bytes.
fn check(name: &str, tensor: &Pickled<'_>) -> Result<u64, TorchProblem> {
    let tensor_name = || shorten(name.into());
    let Pickled {
        storage,
        offset,
        shape,
        strides,
    } = tensor;
    let impossible = || TorchProblem::Shape {
        tensor: tensor_name(),
        shape: shape.clone(),
    };
    let product = |dims: &[u64]| {
        dims.iter()
            .try_fold(1_u64, |all, dim| all.checked_mul(*dim))
    };
    let numbers = product(shape).ok_or_else(impossible)?;
    let number_bytes = storage.of.number_bytes;
    let bytes = numbers.checked_mul(number_bytes).ok_or_else(impossible)?;
    // Where a dimension has one place, or the tensor none, no step is ever made.
    let is_row_by_row = shape.len() == strides.len()
        && (0..shape.len()).all(|at| {
            numbers == 0 || shape[at] == 1 || product(&shape[at + 1..]) == Some(strides[at])
        });
    if !is_row_by_row {
        return Err(TorchProblem::Strides {
            tensor: tensor_name(),
            shape: shape.clone(),
            strides: strides.clone(),
        });
    }
    let needed = offset.checked_add(numbers);
    let fits = needed.is_some_and(|needed| needed <= storage.numbers)
        && storage.numbers.checked_mul(number_bytes).is_some();
    match fits {
        true => Ok(bytes),
        false => Err(TorchProblem::Outside {
            tensor: tensor_name(),
            key: shorten(storage.key.into()),
            needed: needed.unwrap_or(u64::MAX),
            numbers: storage.numbers,
        }),
    }
}

/// Two tensors of the same bytes are refused here as they are in safetensors. Other bytes of a
/// storage may be left over: a tensor that is a part of another is saved with all of it.
fn overlap(tensors: &BTreeMap<String, TensorEntry>) -> Option<TorchProblem> {
    let mut order: Vec<(&String, &TensorEntry)> =
        tensors.iter().filter(|(_, it)| it.bytes > 0).collect();
    order.sort_by_key(|(_, tensor)| tensor.offset);
    let overlaps = |pair: &&[(&String, &TensorEntry)]| {
        let (_, first) = pair[0];
        first.offset + first.bytes > pair[1].1.offset
    };
    let pair = order.windows(2).find(overlaps)?;
    Some(TorchProblem::Overlap {
        first: shorten(pair[0].0.clone()),
        second: shorten(pair[1].0.clone()),
    })
}

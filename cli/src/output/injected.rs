//! Numbers that a run takes in place of its own, from a safetensors file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::failure::{Failure, Usage};

/// A file of tensors, in memory.
#[derive(Debug)]
pub struct Injected {
    file: String,
    bytes: Vec<u8>,
}

impl Injected {
    pub fn read(path: &Path, most_bytes: u64) -> Result<Self, Failure> {
        let file = path.display().to_string();
        let failed = |source| Failure::ReadPrompt {
            file: file.clone(),
            source,
        };
        let opened = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = opened.take(most_bytes).read_to_end(&mut bytes);
        read.map_err(failed)?;
        let injected = Self { file, bytes };
        injected.tensors()?;
        Ok(injected)
    }

    /// What it says of itself under that name.
    pub fn words(&self, name: &str) -> Option<String> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).ok()?;
        header.metadata().as_ref()?.get(name).cloned()
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, Failure> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| {
            Failure::from(Usage::Injected {
                file: self.file.clone(),
                problem: error.to_string(),
            })
        })
    }

    /// The f32 numbers of that name, of that shape as far as it is known; `None` where there are none.
    pub fn get(&self, name: &str, shape: &[Option<usize>]) -> Result<Option<Vec<f32>>, Failure> {
        let tensors = self.tensors()?;
        let Ok(found) = tensors.tensor(name) else {
            return Ok(None);
        };
        let same = found.shape().len() == shape.len()
            && (found.shape().iter().zip(shape))
                .all(|(is, want)| want.is_none_or(|want| *is == want));
        if found.dtype() != Dtype::F32 || !same {
            let want: Vec<String> = shape
                .iter()
                .map(|size| size.map_or("any".to_owned(), |size| size.to_string()))
                .collect();
            return Err(Failure::from(Usage::Injected {
                file: self.file.clone(),
                problem: format!(
                    "{name} is {:?} of {:?}, and F32 of [{}] is wanted",
                    found.dtype(),
                    found.shape(),
                    want.join(", ")
                ),
            }));
        }
        Ok(Some(numbers(found.data())))
    }

    /// All f32 numbers, by their names.
    pub fn all(&self) -> Result<Vec<(String, Vec<f32>)>, Failure> {
        let tensors = self.tensors()?.tensors().into_iter();
        let of_f32 = tensors.filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
        Ok(of_f32
            .map(|(name, it)| (name, numbers(it.data())))
            .collect())
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4);
    numbers
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect()
}

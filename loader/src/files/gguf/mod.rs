//! GGUF files, llama.cpp's format: everything in one file, or in a few parts of one. Where this module
//! ends nothing knows any more which format a checkpoint had, but for the names of its tensors.

mod header;
mod kinds;
mod metadata;
mod model;
pub(crate) mod names;
mod problem;
mod reader;
mod select;
mod tokenizer;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

pub(crate) use model::{
    ATTENTION_FACTOR, ATTENTION_SCALE, EMBEDDING_SCALE, InGguf, LOGIT_SCALE, RESIDUAL_SCALE,
    Settings, TURNED, WINDOW,
};
pub use problem::GgufProblem;
pub(crate) use select::{Found, find, is_beside};
pub use tokenizer::{GgufTokenizer, TokenType};
pub use value::Texts;

use crate::checkpoint::{Stored, TensorEntry};
use crate::{Error, ModelConfig, Storage};
use header::Header;
use select::PartName;

/// What one file, or all parts of one, say.
#[derive(Debug)]
pub(crate) struct Opened {
    pub config: ModelConfig,
    pub sources: Vec<Arc<dyn Storage>>,
    pub tensors: BTreeMap<String, TensorEntry>,
    /// What `tokenizer_config.json` would say.
    pub tokenizer_config: Map<String, Json>,
    /// Bytes of its vocabulary.
    pub vocabulary_bytes: u64,
    /// The name of the file that describes the model.
    pub name: String,
}

pub(crate) fn open(found: &Found) -> Result<Opened, Error> {
    let Parts {
        metadata,
        sources,
        tensors,
        name,
    } = read_parts(found)?;
    let config = model::config(&metadata, &tensors, &sources)?;
    Ok(Opened {
        config,
        tokenizer_config: tokenizer::config(&metadata)?,
        vocabulary_bytes: tokenizer::vocabulary_bytes(&metadata)?,
        sources,
        tensors,
        name,
    })
}

/// The vocabulary of the file that describes the model, read anew: it takes megabytes, and is wanted
/// once.
pub(crate) fn tokenizer(storage: &dyn Storage) -> Result<Option<GgufTokenizer>, Error> {
    GgufTokenizer::take(header::read(storage)?.metadata)
}

struct Parts {
    /// That of the first file.
    metadata: metadata::Metadata,
    sources: Vec<Arc<dyn Storage>>,
    tensors: BTreeMap<String, TensorEntry>,
    name: String,
}

const PART: &str = "split.no";
const PARTS: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

fn read_parts(found: &Found) -> Result<Parts, Error> {
    let name = found.name.as_str();
    let storage = open_file(found, name)?.ok_or_else(|| Error::NotACheckpoint {
        location: found.folder.display(name),
        problem: "it does not exist",
    })?;
    let header = header::read(storage.as_ref())?;
    let parts = header.metadata.whole(PARTS, u16::MAX.into())?;
    let Some(count) = parts.filter(|count| *count > 1) else {
        let mut parts = Parts {
            metadata: header.metadata,
            sources: Vec::new(),
            tensors: BTreeMap::new(),
            name: name.into(),
        };
        parts.add(storage, header.tensors)?;
        return Ok(parts);
    };
    let (number, count) = (part_number(&header)?, count as u64);
    let fail = |file: &str, problem| Error::Gguf {
        file: file.into(),
        problem,
    };
    let part_name = PartName::of(name).filter(|part| part.count == count);
    let part_name = part_name.filter(|part| part.number.checked_sub(1) == Some(number));
    let Some(part_name) = part_name else {
        return Err(fail(
            storage.name(),
            GgufProblem::PartName { number, count },
        ));
    };
    drop(header);
    let mut all: Option<Parts> = None;
    for expected in 0..count {
        let name = part_name.name(expected + 1, name);
        let Some(storage) = open_file(found, &name)? else {
            return Err(fail(
                storage.name(),
                GgufProblem::PartMissing {
                    number: expected,
                    count,
                    file: found.folder.display(&name),
                },
            ));
        };
        let header = header::read(storage.as_ref())?;
        let said = header.metadata.whole(PARTS, u16::MAX.into())?;
        let (number, said) = (part_number(&header)?, said.unwrap_or(1) as u64);
        if (number, said) != (expected, count) {
            return Err(fail(
                storage.name(),
                GgufProblem::PartNumber {
                    number,
                    count: said,
                    expected,
                    expected_count: count,
                },
            ));
        }
        let parts = all.get_or_insert_with(|| Parts {
            metadata: header.metadata,
            sources: Vec::new(),
            tensors: BTreeMap::new(),
            name,
        });
        parts.add(storage, header.tensors)?;
    }
    let Some(parts) = all else {
        unreachable!("a split file has two parts at least");
    };
    let found = parts.tensors.len() as u64;
    match parts.metadata.whole(TENSORS, usize::MAX)? {
        Some(expected) if expected as u64 != found => Err(fail(
            parts.sources[0].name(),
            GgufProblem::PartTensors {
                expected: expected as u64,
                found,
            },
        )),
        _ => Ok(parts),
    }
}

fn open_file(found: &Found, name: &str) -> Result<Option<Arc<dyn Storage>>, Error> {
    found.folder.open(name)
}

fn part_number(header: &Header) -> Result<u64, Error> {
    let number = header.metadata.whole(PART, u16::MAX.into())?;
    Ok(number.unwrap_or(0) as u64)
}

impl Parts {
    fn add(&mut self, storage: Arc<dyn Storage>, tensors: Vec<header::Info>) -> Result<(), Error> {
        let source = self.sources.len();
        for tensor in tensors {
            if let Some(other) = self.tensors.get(&tensor.name) {
                return Err(Error::TensorTwice {
                    tensor: tensor.name,
                    first: self.sources[other.source].name().into(),
                    second: storage.name().into(),
                });
            }
            let entry = TensorEntry {
                source,
                offset: tensor.offset,
                bytes: tensor.bytes,
                shape: tensor.shape,
                stored: Stored::As(tensor.encoding),
            };
            self.tensors.insert(tensor.name, entry);
        }
        self.sources.push(storage);
        Ok(())
    }
}

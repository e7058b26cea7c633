//! Which tensors the safetensors files of a checkpoint hold: one file, or shards with an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TensorEntry;
use crate::folder::{Folder, is_plain};
use crate::foreign;
use crate::header::{self, HeaderTensor};
use crate::json::{Fields, parse_object};
use crate::{Error, Storage};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

pub(crate) type Index = (Vec<Arc<dyn Storage>>, BTreeMap<String, TensorEntry>);

pub(crate) fn read_index(folder: &Folder) -> Result<Index, Error> {
    if let Some(storage) = folder.open(SINGLE)? {
        let tensors = header::read(storage.as_ref())?
            .into_iter()
            .map(|tensor| entry(0, tensor))
            .collect();
        return Ok((vec![storage], tensors));
    }
    match folder.read(INDEX)? {
        Some(json) => read_shards(folder, &json),
        None => Err(foreign::no_weights(folder, INDEX)),
    }
}

/// Every tensor of every shard is one that the index places there, and no two are of one name: a
/// tensor that the index does not know would be left out silently, and of two one.
fn read_shards(folder: &Folder, json: &[u8]) -> Result<Index, Error> {
    let file = folder.display(INDEX);
    let index = || file.clone();
    let map = parse_object(&file, json)?;
    let fields = Fields {
        file: &file,
        prefix: "",
        map: &map,
    };
    let weight_map = fields
        .object("weight_map")?
        .ok_or_else(|| fields.missing("weight_map"))?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in weight_map {
        let Some(name) = shard.as_str() else {
            let field = format!("weight_map.{tensor}");
            return Err(fields.wrong(&field, shard, "the name of a file"));
        };
        shards.entry(name).or_default().push(tensor);
    }
    let mut sources: Vec<Arc<dyn Storage>> = Vec::new();
    let mut tensors: BTreeMap<String, TensorEntry> = BTreeMap::new();
    for (shard, names) in shards {
        if !is_plain(shard) {
            return Err(Error::ShardName {
                index: index(),
                shard: shard.into(),
            });
        }
        let Some(storage) = folder.open(shard)? else {
            return Err(Error::ShardMissing {
                index: index(),
                shard: folder.display(shard),
                tensors: names.len(),
            });
        };
        for tensor in header::read(storage.as_ref())? {
            let (name, entry) = entry(sources.len(), tensor);
            if let Some(other) = tensors.get(&name) {
                return Err(Error::TensorTwice {
                    tensor: name,
                    first: sources[other.source].name().into(),
                    second: storage.name().into(),
                });
            }
            tensors.insert(name, entry);
        }
        let not_here = |name: &&&str| {
            let found = tensors.get(**name);
            found.is_none_or(|entry| entry.source != sources.len())
        };
        if let Some(name) = names.iter().find(not_here) {
            return Err(Error::NotInShard {
                index: index(),
                shard: folder.display(shard),
                tensor: (*name).into(),
            });
        }
        sources.push(storage);
    }
    if let Some((name, entry)) = tensors
        .iter()
        .find(|(name, _)| !weight_map.contains_key(*name))
    {
        return Err(Error::NotInIndex {
            index: index(),
            shard: sources[entry.source].name().into(),
            tensor: name.clone(),
        });
    }
    Ok((sources, tensors))
}

/// A tensor of that file.
pub(crate) fn entry(source: usize, tensor: HeaderTensor) -> (String, TensorEntry) {
    let entry = TensorEntry {
        source,
        offset: tensor.offset,
        bytes: tensor.bytes,
        shape: tensor.shape,
        stored: tensor.dtype.into(),
    };
    (tensor.name, entry)
}

//! Changes to the files of a checkpoint of one file: what tests break, one thing at a time.

use std::path::Path;
use std::sync::Arc;

use loader::{Access, BlockSource, Storage, read_block};
use serde_json::{Map, Value, json};

use crate::common::{put_together, take_apart};

pub fn read_json(dir: &Path, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(file)).unwrap()).unwrap()
}

pub fn write_json(dir: &Path, file: &str, value: &Value) {
    std::fs::write(dir.join(file), value.to_string()).unwrap();
}

/// Changes config.json.
pub fn edit(dir: &Path, change: impl FnOnce(&mut Value)) {
    let mut config = read_json(dir, "config.json");
    change(&mut config);
    write_json(dir, "config.json", &config);
}

/// Gives the field at that path, with dots between its parts, a value.
pub fn set(config: &mut Value, path: &str, value: &Value) {
    let at = path
        .split('.')
        .fold(config, |config, part| &mut config[part]);
    *at = value.clone();
}

/// Gives the tensors other names, or none.
pub fn rename(dir: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = dir.join("model.safetensors");
    let parts = take_apart(&file);
    let mut header = Map::new();
    let mut data = Vec::new();
    for (old, mut tensor) in parts.header.as_object().unwrap().clone() {
        if old == "__metadata__" {
            continue;
        }
        let Some(new) = name(&old) else { continue };
        let offset = |at: usize| tensor["data_offsets"][at].as_u64().unwrap() as usize;
        let bytes = parts.data[offset(0)..offset(1)].to_vec();
        let start = data.len();
        data.extend(bytes);
        tensor["data_offsets"] = json!([start, data.len()]);
        header.insert(new, tensor);
    }
    put_together(&file, Value::Object(header).to_string().as_bytes(), &data);
}

/// Puts a tensor at the end of the file, in the place of one of that name.
pub fn add(dir: &Path, name: &str, mut tensor: Value, bytes: &[u8]) {
    let file = dir.join("model.safetensors");
    let mut parts = take_apart(&file);
    let end = parts.data.len();
    parts.data.extend(bytes);
    tensor["data_offsets"] = json!([end, parts.data.len()]);
    parts.header[name] = tensor;
    put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
}

/// Changes how the header describes a tensor.
pub fn described(dir: &Path, name: &str, field: &str, value: Value) {
    let file = dir.join("model.safetensors");
    let mut parts = take_apart(&file);
    parts.header[name][field] = value;
    put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
}

pub fn slab(sources: &[Arc<dyn Storage>], source: &BlockSource) -> Vec<u8> {
    let mut slab = vec![0; source.slab_bytes()];
    read_block(sources, source, &mut slab, Access::Buffered).unwrap();
    slab
}

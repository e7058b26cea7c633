//! VibeVoice checkpoints through the public door: random ones, in both namings and in all forms of
//! `config.json`, whole and broken.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod forms;
mod opened;
mod refused;

use std::path::{Path, PathBuf};

use loader::synth::{VibeVoiceSpec, write_vibevoice};
use loader::{Access, BlockSource, Component, ComponentSource, Storage, VibeVoice, read_block};
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;

/// A checkpoint on disk that goes away with the test.
#[derive(Debug)]
pub struct Made {
    _temp: TempDir,
    pub dir: PathBuf,
}

pub fn tiny() -> VibeVoiceSpec {
    VibeVoiceSpec::shape("vibevoice-tiny").unwrap()
}

pub fn make(spec: &VibeVoiceSpec) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_vibevoice(&dir, spec, &mut |_, _| {}).unwrap();
    Made { _temp: temp, dir }
}

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

/// Gives the tensors of a checkpoint of one file other names, or none.
pub fn rename(dir: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = dir.join("model.safetensors");
    let parts = common::take_apart(&file);
    let mut header = serde_json::Map::new();
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
        tensor["data_offsets"] = serde_json::json!([start, data.len()]);
        header.insert(new, tensor);
    }
    let header = Value::Object(header).to_string();
    common::put_together(&file, header.as_bytes(), &data);
}

pub fn slab(sources: &[Arc<dyn Storage>], source: &BlockSource) -> Vec<u8> {
    let mut slab = vec![0; source.slab_bytes()];
    read_block(sources, source, &mut slab, Access::Buffered).unwrap();
    slab
}

/// The components' lists of tensors, and their bytes.
pub fn components(opened: &VibeVoice) -> Vec<(ComponentSource, Vec<u8>)> {
    let of = |component| {
        let found = opened.component(component, None).unwrap();
        let bytes = slab(opened.sources(), &found.source);
        (found, bytes)
    };
    Component::ALL.into_iter().map(of).collect()
}

//! `model.safetensors.index.json`, beside two shards that are in order.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use fuzz::Watched;
use libfuzzer_sys::fuzz_target;
use loader::Checkpoint;

#[global_allocator]
static MEMORY: Watched = Watched::new();

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    fs::write(folder.join("config.json"), include_str!("tiny.json")).unwrap();
    for (shard, tensors) in [
        ("a.safetensors", ["x", "lm_head.weight"]),
        ("b.safetensors", ["y", "model.norm.weight"]),
    ] {
        let [first, second] = tensors;
        let header = format!(
            r#"{{"{first}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},
            "{second}":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([0; 8]);
        fs::write(folder.join(shard), file).unwrap();
    }
    folder
});

fuzz_target!(|json: &[u8]| {
    fs::write(FOLDER.join("model.safetensors.index.json"), json).unwrap();
    MEMORY.within((1 << 20) + 128 * json.len(), || {
        let error = Checkpoint::open(&FOLDER).expect_err("four tensors are no model");
        let _ = (error.to_string(), error.hint());
    });
});

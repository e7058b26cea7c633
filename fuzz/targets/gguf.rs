//! A GGUF file: its header, and what follows of it, up to its vocabulary.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use fuzz::Watched;
use libfuzzer_sys::fuzz_target;
use loader::Checkpoint;

#[global_allocator]
static MEMORY: Watched = Watched::new();

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    folder.join("model.gguf")
});

fuzz_target!(|file: &[u8]| {
    fs::write(&*FILE, file).unwrap();
    MEMORY.within((1 << 20) + 16 * file.len(), || {
        match Checkpoint::open(&FILE) {
            Ok(checkpoint) => {
                for (_, entry) in checkpoint.tensors() {
                    assert!(entry.offset + entry.bytes <= checkpoint.stored_bytes());
                }
                let _ = checkpoint.gguf_tokenizer();
            }
            Err(error) => {
                let _ = (error.to_string(), error.hint());
            }
        }
    });
});

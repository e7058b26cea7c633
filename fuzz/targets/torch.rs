//! A projector's file as `torch.save` writes it, beside its description and a map. An input that
//! begins with an odd byte is a pickle alone: the archive around it is added, which the fuzzer would
//! take long to come up with, with a few storages.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use fuzz::Watched;
use libfuzzer_sys::fuzz_target;
use loader::{Arrangement, Fuser};

#[global_allocator]
static MEMORY: Watched = Watched::new();

/// What a pickle holds where each of its bytes is an instruction.
const BYTES_EACH: usize = 128;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let map = r#"{"0": {"1": {"0": [[0, 0]]}}}"#;
    fs::write(folder.join("projector_config.json"), map).unwrap();
    let description = r#"{"class": "C2CProjector", "init_args": {"source_dim": 2, "target_dim": 2,
        "hidden_dim": 2, "intermediate_dim": 3}}"#;
    fs::write(folder.join("projector_0.json"), description).unwrap();
    folder
});

/// A zip of stored entries.
fn archive(entries: &[(String, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let at = file.len() as u32;
        let (name_bytes, bytes) = (name.len() as u16, (data.len() as u32).to_le_bytes());
        let sizes = [&[0; 4][..], &bytes, &bytes, &name_bytes.to_le_bytes(), &[0; 2]].concat();
        file.extend([b"PK\x03\x04", &[0; 10][..], &sizes, name.as_bytes(), data].concat());
        directory.extend([b"PK\x01\x02", &[0; 12][..], &sizes, &[0; 10]].concat());
        directory.extend([&at.to_le_bytes()[..], name.as_bytes()].concat());
    }
    let at = (file.len() as u32).to_le_bytes();
    let bytes = (directory.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    file.extend(directory);
    file.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &bytes, &at, &[0; 2]].concat());
    file
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let file = match kind % 2 {
        0 => rest.to_vec(),
        _ => {
            let storages = (0..33).map(|key| (format!("p/data/{key}"), &[0x3f; 32][..8 + key % 25]));
            let pickle = [("p/data.pkl".to_owned(), rest)];
            archive(&pickle.into_iter().chain(storages).collect::<Vec<_>>())
        }
    };
    fs::write(FOLDER.join("projector_0.pt"), file).unwrap();
    MEMORY.within((1 << 20) + BYTES_EACH * input.len(), || {
        match Fuser::open(&FOLDER) {
            Ok(fuser) => {
                let block = fuser.block(0, None, Arrangement::Packed).unwrap();
                for piece in block.pieces() {
                    let file_bytes = fuser.sources()[piece.source].len();
                    assert!(piece.offset + piece.len as u64 <= file_bytes);
                }
            }
            Err(error) => {
                let _ = (error.to_string(), error.hint());
            }
        }
    });
});

//! A safetensors file. An input that begins with an odd byte is a header alone: its length and the
//! data are added, which the fuzzer would take long to come up with. There are as many data as the
//! largest number in the header says, which is likely to be where the last tensor ends.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use fuzz::Watched;
use libfuzzer_sys::fuzz_target;
use loader::Checkpoint;

#[global_allocator]
static MEMORY: Watched = Watched::new();

const DATA_BYTES_MAX: usize = 4096;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    fs::write(folder.join("config.json"), include_str!("tiny.json")).unwrap();
    folder
});

fn data_bytes(header: &[u8]) -> usize {
    let numbers = header.split(|byte| !byte.is_ascii_digit());
    let numbers = numbers.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let max = numbers.filter(|number| *number <= DATA_BYTES_MAX).max();
    max.unwrap_or(0)
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let mut file = Vec::new();
    if kind % 2 == 1 {
        file.extend((rest.len() as u64).to_le_bytes());
        file.extend(rest);
        file.resize(file.len() + data_bytes(rest), 0);
    } else {
        file.extend(rest);
    }
    fs::write(FOLDER.join("model.safetensors"), file).unwrap();
    MEMORY.within((1 << 20) + 128 * input.len(), || {
        match Checkpoint::open(&FOLDER) {
            Ok(checkpoint) => {
                for (_, entry) in checkpoint.tensors() {
                    assert!(entry.offset + entry.bytes <= checkpoint.stored_bytes());
                }
            }
            Err(error) => {
                let _ = (error.to_string(), error.hint());
            }
        }
    });
});

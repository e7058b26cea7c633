//! Qwen3-TTS checkpoints through the public door: random ones, whole and broken, and those that the
//! reference spoke from.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
#[path = "../common/edits.rs"]
mod edits;
mod opened;
mod reference;
mod refused;
mod told;

use std::path::PathBuf;

use edits::slab;
use loader::synth::{Qwen3TtsSpec, write_qwen3_tts};
use loader::{ComponentSource, DType, Qwen3Tts, Qwen3TtsComponent, Role};
use tempfile::TempDir;

/// A checkpoint on disk that goes away with the test.
#[derive(Debug)]
pub struct Made {
    _temp: TempDir,
    pub dir: PathBuf,
}

impl Made {
    /// The folder of the codec.
    pub fn codec(&self) -> PathBuf {
        self.dir.join("speech_tokenizer")
    }
}

pub fn tiny() -> Qwen3TtsSpec {
    Qwen3TtsSpec::shape("qwen3-tts-tiny").unwrap()
}

pub fn make(spec: &Qwen3TtsSpec) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_qwen3_tts(&dir, spec, &mut |_, _| {}).unwrap();
    Made { _temp: temp, dir }
}

/// A component's tensors and their bytes.
#[derive(Debug)]
pub struct Read {
    found: ComponentSource,
    bytes: Vec<u8>,
}

impl Read {
    pub fn of(opened: &Qwen3Tts, which: Qwen3TtsComponent, dtype: Option<DType>) -> Self {
        let found = opened.component(which, dtype).unwrap();
        let bytes = slab(opened.sources(), &found.source);
        Self { found, bytes }
    }

    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[u8])> {
        let tensors = self.found.tensors.iter().enumerate();
        tensors.map(|(at, tensor)| (&*tensor.name, &*tensor.shape, self.at(at)))
    }

    fn at(&self, index: usize) -> &[u8] {
        let place = self
            .found
            .source
            .layout()
            .get(Role::Component(index as u16));
        let [part] = &*place.unwrap().parts else {
            panic!("tensor {index} is of several parts");
        };
        &self.bytes[part.offset..part.offset + part.bytes]
    }

    /// The numbers of a component that was read in f32.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let tensors = self.found.tensors.iter();
        let at = tensors.clone().position(|tensor| tensor.name == name);
        floats(self.at(at.unwrap_or_else(|| panic!("no tensor {name}"))))
    }
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4);
    numbers
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

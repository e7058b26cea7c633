//! VibeVoice checkpoints through the public door: random ones, in both namings and in all forms of
//! `config.json`, whole and broken.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
#[path = "../common/edits.rs"]
mod edits;
mod forms;
mod opened;
mod refused;

use std::path::PathBuf;

use edits::slab;
use loader::synth::{VibeVoiceSpec, write_vibevoice};
use loader::{Component, ComponentSource, VibeVoice};
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

/// The components' lists of tensors, and their bytes.
pub fn components(opened: &VibeVoice) -> Vec<(ComponentSource, Vec<u8>)> {
    let of = |component| {
        let found = opened.component(component, None).unwrap();
        let bytes = slab(opened.sources(), &found.source);
        (found, bytes)
    };
    Component::ALL.into_iter().map(of).collect()
}

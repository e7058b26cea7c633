//! Fusers through the public door: what is given of a good one, and that every other is refused by
//! name.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod archives;
mod folders;
mod hostile;
mod models;
mod opened;
mod pickles;
mod refused;
mod torch;

use std::fs;
use std::path::{Path, PathBuf};

use loader::synth::{FuserSpec, write_fuser};
use loader::{Access, AlignedBuf, BlockSource, DType, Fuser, FuserShape, read_block};
use tempfile::TempDir;

/// A fuser on disk that goes away with the test.
struct Made {
    _temp: TempDir,
    /// The folder of the pair.
    pair: PathBuf,
}

impl Made {
    fn inside(&self, name: &str) -> PathBuf {
        self.pair.join("final").join(name)
    }

    fn open(&self) -> Result<Fuser, loader::Error> {
        Fuser::open(&self.pair)
    }

    /// Writes a projector anew as PyTorch would have saved it.
    fn to_torch(&self, projector: usize, change: impl FnOnce(&mut Vec<torch::Tensor>)) {
        let safetensors = self.inside(&format!("projector_{projector}.safetensors"));
        let mut tensors = torch::tensors_of(&safetensors);
        change(&mut tensors);
        fs::remove_file(safetensors).unwrap();
        let pt = self.inside(&format!("projector_{projector}.pt"));
        fs::write(pt, torch::file(&tensors)).unwrap();
    }

    /// Changes a JSON file of the projectors' folder.
    fn edit(&self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        edit(&self.inside(name), change);
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

/// No two sizes are the same.
fn spec() -> FuserSpec {
    FuserSpec {
        shape: FuserShape {
            source_heads: 3,
            source_dim: 2,
            target_heads: 2,
            target_dim: 4,
            hidden: 10,
            intermediate: 12,
            layers: 4,
        },
        base_layers: 3,
        teacher_layers: 5,
        dtype: DType::Bf16,
        seed: 7,
    }
}

fn make(spec: &FuserSpec) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let pair = temp.path().join("pair");
    write_fuser(&pair, spec, &mut |_, _| {}).unwrap();
    Made { _temp: temp, pair }
}

/// The slab, filled.
fn filled(fuser: &Fuser, block: &BlockSource) -> Vec<u8> {
    let mut slab = AlignedBuf::new(block.slab_bytes());
    read_block(fuser.sources(), block, slab.as_mut_slice(), Access::Direct).unwrap();
    slab.as_slice()[..block.slab_bytes()].to_vec()
}

//! Numbers that a reference wrote into a safetensors file, and how near others have to come to
//! them: for the tests of several packages. Knows nothing of what they mean.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The largest difference, as a share of the largest number.
const RELATIVE_MAX: f32 = 1e-4;

/// All tensors of a file.
pub struct Numbers {
    /// For each name `dtype`, `shape` and `data_offsets`.
    pub header: Value,
    data: Vec<u8>,
}

impl Numbers {
    pub fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&bytes[8..8 + len]).unwrap(),
            data: bytes[8 + len..].to_vec(),
        }
    }

    /// A tensor as it is stored.
    pub fn bytes(&self, name: &str) -> &[u8] {
        let at = |index: usize| self.header[name]["data_offsets"][index].as_u64().unwrap() as usize;
        &self.data[at(0)..at(1)]
    }

    /// A tensor of f32.
    pub fn get(&self, name: &str) -> Vec<f32> {
        let numbers = self.bytes(name).chunks_exact(4);
        numbers
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }
}

/// # Panics
/// If the numbers found are further off, or NaN.
#[track_caller]
pub fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    // Maxima leave NaN out.
    assert!(found.iter().all(|value| !value.is_nan()), "{what}: NaN");
    let most = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0_f32, f32::max);
    let largest = most(&mut expected.iter().map(|value| value.abs()));
    let off = most(&mut found.iter().zip(expected).map(|(a, b)| (a - b).abs()));
    println!("{what}: {:e} of the largest", off / largest);
    assert!(off <= RELATIVE_MAX * largest, "{what}: {off} of {largest}");
}

//! `checksums.json` beside the weights: the checksum of every tensor, written once while they are
//! known to be good. An untrusted file like all others: what it claims is held against the
//! checkpoint's own headers before anything is expected because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checksum::{ALGORITHM, Checksum, Stretch};
use crate::json::parse_object;
use crate::{BlockSource, Checkpoint, Error, READ_THREADS, crew};

/// Its name in the checkpoint's directory.
pub const MANIFEST: &str = "checksums.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    algorithm: String,
    files: BTreeMap<String, FileSums>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct FileSums {
    bytes: u64,
    tensors: BTreeMap<String, Checksum>,
}

/// A tensor whose bytes are not those that a manifest was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    pub file: String,
    pub tensor: String,
    pub expected: Checksum,
    pub found: Checksum,
}

impl Manifest {
    /// Reads every tensor of the checkpoint. `progress` is told of bytes as they are done.
    pub fn of(
        checkpoint: &Checkpoint,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Self, Error> {
        let sums = checksums(checkpoint, progress)?;
        let mut files: BTreeMap<String, FileSums> = BTreeMap::new();
        for source in checkpoint.sources() {
            let file = files.entry(plain(source.name())).or_default();
            file.bytes = source.len();
        }
        for (name, entry) in checkpoint.tensors() {
            let file = plain(checkpoint.sources()[entry.source].name());
            let tensors = &mut files.entry(file).or_default().tensors;
            tensors.extend(sums.get(name).map(|&sum| (name.to_owned(), sum)));
        }
        Ok(Self {
            algorithm: ALGORITHM.into(),
            files,
        })
    }

    /// The checkpoint's own, `None` where it has none. One that was made from other files is an
    /// error.
    pub fn read(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        let Some(json) = checkpoint.file(MANIFEST)? else {
            return Ok(None);
        };
        let file = checkpoint.display(MANIFEST);
        let map = parse_object(&file, &json)?;
        let manifest: Self =
            serde_json::from_value(Value::Object(map)).map_err(|error| Error::Json {
                file: file.clone(),
                problem: error.to_string(),
            })?;
        match manifest.differs_from(checkpoint) {
            Some(difference) => Err(Error::StaleManifest { file, difference }),
            None => Ok(Some(manifest)),
        }
    }

    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    pub fn tensors(&self) -> usize {
        self.files.values().map(|file| file.tensors.len()).sum()
    }

    /// The tensors of a slab and what to expect of them. Bytes that are converted on the way are
    /// not those that were summed: of them nothing is known.
    pub fn stretches(&self, checkpoint: &Checkpoint, source: &BlockSource) -> Vec<Stretch> {
        let mut stretches = checkpoint.stretches(source);
        for (stretch, piece) in stretches.iter_mut().zip(source.pieces()) {
            if piece.keeps_bytes() {
                stretch.expected = self.get(&stretch.tensor);
            }
        }
        stretches
    }

    /// Holds a slab that was just read against what is known of its tensors.
    pub fn check(
        &self,
        checkpoint: &Checkpoint,
        source: &BlockSource,
        slab: &[u8],
    ) -> Result<(), Error> {
        let stretches = self.stretches(checkpoint, source);
        for (stretch, piece) in stretches.into_iter().zip(source.pieces()) {
            let found = Checksum::of(&slab[stretch.range]);
            if let Some(expected) = stretch.expected
                && expected != found
            {
                return Err(Error::Altered {
                    file: checkpoint.sources()[piece.source].name().into(),
                    tensor: stretch.tensor.to_string(),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Reads the whole checkpoint again and tells what is not as it was.
    pub fn mismatches(
        &self,
        checkpoint: &Checkpoint,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<Mismatch>, Error> {
        let sums = checksums(checkpoint, progress)?;
        let differing = sums.into_iter().filter_map(|(tensor, found)| {
            let expected = self.get(&tensor).filter(|&expected| expected != found)?;
            let entry = checkpoint.tensor(&tensor)?;
            Some(Mismatch {
                file: checkpoint.sources()[entry.source].name().into(),
                tensor,
                expected,
                found,
            })
        });
        Ok(differing.collect())
    }

    fn get(&self, tensor: &str) -> Option<Checksum> {
        let mut files = self.files.values();
        files.find_map(|file| file.tensors.get(tensor).copied())
    }

    /// How the files differ from those it was made of, as far as their headers tell.
    fn differs_from(&self, checkpoint: &Checkpoint) -> Option<String> {
        if self.algorithm != ALGORITHM {
            return Some(format!(
                "its sums are {:?}, not {ALGORITHM}",
                self.algorithm
            ));
        }
        for source in checkpoint.sources() {
            let name = plain(source.name());
            let Some(file) = self.files.get(&name) else {
                return Some(format!("it does not know {name}"));
            };
            if file.bytes != source.len() {
                return Some(format!(
                    "{name} had {} bytes, now {}",
                    file.bytes,
                    source.len()
                ));
            }
        }
        let here: BTreeSet<_> = checkpoint.tensors().map(|(name, _)| name).collect();
        let known: BTreeSet<_> = self
            .files
            .values()
            .flat_map(|file| file.tensors.keys())
            .collect();
        let unknown = here.iter().find(|name| self.get(name).is_none());
        let gone = known.iter().find(|name| !here.contains(name.as_str()));
        match (unknown, gone) {
            (Some(name), _) => Some(format!("it does not know tensor {name}")),
            (None, Some(name)) => Some(format!("tensor {name} is gone")),
            (None, None) => None,
        }
    }
}

/// Checksums of all tensors, several at once: a disk wants more than one read in flight.
fn checksums(
    checkpoint: &Checkpoint,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<BTreeMap<String, Checksum>, Error> {
    let done = Mutex::new((BTreeMap::new(), progress));
    let nothing = || ();
    crew::deal(
        READ_THREADS,
        checkpoint.tensors(),
        nothing,
        |(), (name, entry)| {
            let sum = checkpoint.checksum(name)?;
            let (sums, progress) = &mut *done.lock().unwrap_or_else(PoisonError::into_inner);
            sums.insert(name.to_owned(), sum);
            progress(entry.bytes);
            Ok(())
        },
    )?;
    let (sums, _) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(sums)
}

/// The file's own name.
fn plain(name: &str) -> String {
    let file = Path::new(name).file_name();
    file.map_or_else(|| name.into(), |file| file.to_string_lossy().into_owned())
}

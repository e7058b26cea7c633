//! Whether weights are the right ones (`--verify`): what they are held against, and when. What
//! stays is checked once, while it is loaded; what streams is held against its checksums at every
//! load, by the link that brings it.

use std::collections::BTreeMap;

use loader::{BlockSource, Checkpoint, Checksum, DType, Manifest};
use offload::{BlockId, Expectation, Home, RamHome, Reference};

use crate::error::EngineError;

/// What weights are held to while they are read.
#[derive(Debug)]
pub struct Verification {
    manifest: Option<Manifest>,
    /// Weights are converted on their way, so that they are not the bytes of the manifest.
    converts: bool,
}

impl Verification {
    /// Reads the checkpoint's manifest, if it has one. `dtype`: what plain numbers become.
    pub(crate) fn new(checkpoint: &Checkpoint, dtype: Option<DType>) -> Result<Self, EngineError> {
        let encoding = checkpoint.encoding();
        Ok(Self {
            manifest: Manifest::read(checkpoint)?,
            converts: dtype.is_some_and(|dtype| dtype.encoding() != encoding),
        })
    }

    pub fn has_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// Whether the manifest's checksums can be used on what is computed with.
    pub fn uses_manifest(&self) -> bool {
        self.has_manifest() && !self.converts
    }

    /// What streamed weights are held against.
    pub fn reference(&self, home: Home) -> Reference {
        match home {
            Home::Ram => Reference::Packed,
            Home::Disk if self.uses_manifest() => Reference::Manifest,
            Home::Disk => Reference::FirstRead,
        }
    }

    /// Checks bytes that were just read, once.
    pub(crate) fn check(
        &self,
        checkpoint: &Checkpoint,
        source: &BlockSource,
        bytes: &[u8],
    ) -> Result<(), loader::Error> {
        match &self.manifest {
            Some(manifest) => manifest.check(checkpoint, source, bytes),
            None => Ok(()),
        }
    }

    /// The expectation for a block that is read from the checkpoint at each visit.
    pub(crate) fn of_file(&self, checkpoint: &Checkpoint, source: &BlockSource) -> Expectation {
        let stretches = match &self.manifest {
            Some(manifest) => manifest.stretches(checkpoint, source),
            None => checkpoint.stretches(source),
        };
        Expectation::new(stretches, Reference::Manifest)
    }

    /// The expectations for blocks that were packed into memory, as they are there now.
    pub(crate) fn of_homes<'a>(
        checkpoint: &Checkpoint,
        homes: &BTreeMap<BlockId, RamHome>,
        source_of: impl Fn(BlockId) -> &'a BlockSource,
    ) -> Result<BTreeMap<BlockId, Expectation>, EngineError> {
        let expectation = |(&block, home): (&BlockId, &RamHome)| {
            let mut stretches = checkpoint.stretches(source_of(block));
            home.bytes.read(|bytes| {
                for stretch in &mut stretches {
                    stretch.expected = Some(Checksum::of(&bytes[stretch.range.clone()]));
                }
            })?;
            Ok((block, Expectation::new(stretches, Reference::Packed)))
        };
        homes.iter().map(expectation).collect()
    }
}

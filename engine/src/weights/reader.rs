//! Brings weights from the files to where they will be, and with `--verify` looks at what came.

use std::sync::Arc;

use loader::{Access, BlockSource, Checkpoint, Storage};
use offload::{Place, SlabBytes};

use crate::error::EngineError;
use crate::weights::verification::Verification;

/// How streamed blocks are read: past the page cache, which would otherwise fill with weights.
pub(crate) const STREAM_ACCESS: Access = Access::Direct;

/// What reading a weight takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightReader<'a> {
    pub place: &'a dyn Place,
    /// The files.
    pub sources: &'a [Arc<dyn Storage>],
    /// Checks what comes from the files of this checkpoint.
    pub verification: Option<(&'a Verification, &'a Checkpoint)>,
}

impl WeightReader<'_> {
    /// Reads a block, or another whole weight, into memory of the place.
    pub fn fill(
        &self,
        to: &SlabBytes,
        source: &BlockSource,
        access: Access,
    ) -> Result<(), EngineError> {
        self.fill_checked(to, source, access, |_| Ok(()))
    }

    /// The same, and `check` sees the bytes while they are in the host's memory.
    pub fn fill_checked(
        &self,
        to: &SlabBytes,
        source: &BlockSource,
        access: Access,
        check: impl Fn(&[u8]) -> Result<(), loader::Error>,
    ) -> Result<(), EngineError> {
        let mut done = Ok(());
        let mut fill = |bytes: &mut [u8]| {
            done = self.read(source, bytes, access).and_then(|()| check(bytes));
        };
        self.place.fill(to, &mut fill)?;
        Ok(done?)
    }

    /// Reads into the host's memory.
    pub fn read(
        &self,
        source: &BlockSource,
        to: &mut [u8],
        access: Access,
    ) -> Result<(), loader::Error> {
        loader::read_block(self.sources, source, to, access)?;
        match self.verification {
            Some((verification, checkpoint)) => verification.check(checkpoint, source, to),
            None => Ok(()),
        }
    }
}

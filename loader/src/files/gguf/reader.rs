//! The bytes of a file from its beginning on, brought in steps: a header is megabytes long and its
//! file may have tens of gigabytes. Every length is held against what is left of the file before it is
//! believed. Knows no format.

use std::fmt;

use super::problem::GgufProblem;
use crate::{Error, Storage};

/// Brought at once.
const STEP_BYTES: u64 = 256 << 10;

/// No header comes near this: the largest vocabularies take some ten megabytes.
pub(super) const HEADER_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct Reader<'a> {
    storage: &'a dyn Storage,
    /// What was brought last, and where in the file it begins.
    step: Vec<u8>,
    step_at: u64,
    at: u64,
}

impl<'a> Reader<'a> {
    pub fn new(storage: &'a dyn Storage) -> Self {
        Self {
            storage,
            step: Vec::new(),
            step_at: 0,
            at: 0,
        }
    }

    /// Where it is, from the start of the file.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the file that were not read yet.
    pub fn left(&self) -> u64 {
        self.storage.len().saturating_sub(self.at)
    }

    pub fn fail(&self, problem: GgufProblem) -> Error {
        Error::Gguf {
            file: self.storage.name().into(),
            problem,
        }
    }

    /// The next `N` bytes. `what` they are is for the error.
    pub fn take<const N: usize>(&mut self, what: &dyn fmt::Display) -> Result<[u8; N], Error> {
        self.check(N as u64, what)?;
        let mut taken = [0; N];
        self.fill(&mut taken)?;
        Ok(taken)
    }

    pub fn u32(&mut self, what: &dyn fmt::Display) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    pub fn u64(&mut self, what: &dyn fmt::Display) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    /// Appends so many bytes.
    pub fn append(
        &mut self,
        to: &mut Vec<u8>,
        bytes: u64,
        what: &dyn fmt::Display,
    ) -> Result<(), Error> {
        self.check(bytes, what)?;
        let mut left = bytes;
        while left > 0 {
            let here = self.here()?;
            let taken = here.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            to.extend_from_slice(&here[..taken]);
            self.at += taken as u64;
            left -= taken as u64;
        }
        Ok(())
    }

    /// A text with its length before it.
    pub fn text(&mut self, what: &dyn fmt::Display) -> Result<Vec<u8>, Error> {
        let bytes = self.u64(what)?;
        let mut text = Vec::new();
        self.append(&mut text, bytes, what)?;
        Ok(text)
    }

    /// That so many of `what`, which take `each_bytes` at least, can follow, and that they may.
    pub fn check_count(
        &self,
        what: &'static str,
        count: u64,
        each_bytes: u64,
        max: u64,
    ) -> Result<(), Error> {
        let left_bytes = self.left();
        if count > left_bytes / each_bytes {
            return Err(self.fail(GgufProblem::Count {
                what,
                count,
                left_bytes,
            }));
        }
        match count > max {
            true => Err(self.fail(GgufProblem::TooMany { what, count, max })),
            false => Ok(()),
        }
    }

    /// That the file, and the header that it may have, go on for so many bytes.
    fn check(&self, bytes: u64, what: &dyn fmt::Display) -> Result<(), Error> {
        if bytes > self.left() {
            return Err(self.fail(GgufProblem::Cut {
                what: what.to_string(),
                needed_bytes: bytes,
                left_bytes: self.left(),
            }));
        }
        if self.at + bytes > HEADER_BYTES_MAX {
            return Err(self.fail(GgufProblem::TooLong {
                what: what.to_string(),
                max_bytes: HEADER_BYTES_MAX,
            }));
        }
        Ok(())
    }

    fn fill(&mut self, to: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < to.len() {
            let here = self.here()?;
            let taken = here.len().min(to.len() - filled);
            to[filled..filled + taken].copy_from_slice(&here[..taken]);
            filled += taken;
            self.at += taken as u64;
        }
        Ok(())
    }

    /// What is there of the step from here on; brings the next one where nothing is.
    fn here(&mut self) -> Result<&[u8], Error> {
        if self.at == self.step_at + self.step.len() as u64 {
            let bytes = self.left().min(STEP_BYTES);
            // At most STEP_BYTES, so it fits everywhere.
            self.step.resize(bytes as usize, 0);
            self.step_at = self.at;
            self.storage.read_at(self.at, &mut self.step)?;
        }
        Ok(&self.step[(self.at - self.step_at) as usize..])
    }
}

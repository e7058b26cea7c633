//! Checksums of weights: XXH3 in 128 bits, which runs at the speed of memory. It tells a flipped
//! bit, a torn read or another file from the right bytes; it is no protection against an
//! attacker who chooses bytes on purpose. Nor could a stronger one be: its reference lies beside
//! the weights.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use twox_hash::XxHash3_128;

use crate::{BlockSource, Checkpoint, Error};

/// Its name in files and messages.
pub const ALGORITHM: &str = "xxh3-128";

/// Bytes of a file that are read and summed at once.
const STEP_BYTES: usize = 2 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(u128);

impl Checksum {
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checksum is 32 hexadecimal digits")]
pub struct NoChecksum;

impl FromStr for Checksum {
    type Err = NoChecksum;

    fn from_str(text: &str) -> Result<Self, NoChecksum> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        value.map(Self).ok_or(NoChecksum)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// One stored tensor's bytes inside a slab, and what they have to sum up to, as far as that is
/// known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    pub tensor: Arc<str>,
    /// Where it is in the slab.
    pub range: Range<usize>,
    pub expected: Option<Checksum>,
}

impl Checkpoint {
    /// The tensors of a slab, without expectations.
    pub fn stretches(&self, source: &BlockSource) -> Vec<Stretch> {
        let name = |file, offset| {
            let mut tensors = self.tensors();
            tensors.find(|(_, entry)| (entry.source, entry.offset) == (file, offset))
        };
        let stretch = |piece: &crate::Piece| Stretch {
            tensor: name(piece.source, piece.offset)
                .map_or("?", |(name, _)| name)
                .into(),
            range: piece.slab_range(),
            expected: None,
        };
        source.pieces().iter().map(stretch).collect()
    }

    /// The checksum of a tensor's bytes as they are stored.
    pub(crate) fn checksum(&self, tensor: &str) -> Result<Checksum, Error> {
        let entry = self.tensor(tensor).ok_or_else(|| Error::TensorMissing {
            said_by: self.naming().description(),
            location: self.location().into(),
            tensor: tensor.into(),
        })?;
        let mut sum = XxHash3_128::new();
        let (mut at, end) = (entry.offset, entry.offset + entry.bytes);
        let mut buffer = vec![0; STEP_BYTES];
        while at < end {
            let step = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(STEP_BYTES);
            self.sources()[entry.source].read_at(at, &mut buffer[..step])?;
            sum.write(&buffer[..step]);
            at += step as u64;
        }
        Ok(Checksum(sum.finish_128()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_published_algorithm_and_survive_being_written() {
        // XXH3's own value for no bytes, seed 0.
        let nothing = "99aa06d3014798d86001c324468d497f";
        assert_eq!(Checksum::of(b"").to_string(), nothing);
        assert_eq!(nothing.parse(), Ok(Checksum::of(b"")));
        assert_ne!(Checksum::of(b"a"), Checksum::of(b"b"));
        for wrong in [
            "",
            "99aa06d3014798d86001c324468d497",
            "+9aa06d3014798d86001c324468d497f",
        ] {
            assert_eq!(wrong.parse::<Checksum>(), Err(NoChecksum));
        }
    }
}

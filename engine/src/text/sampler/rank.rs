//! The order of tokens: by logit, the lower id first among equals. It is total, so that a seed
//! means the same everywhere, and it is that of whole numbers, so that a device sorts by it as
//! well.

/// A token and its logit as one number: the larger, the likelier. Not for NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked(u64);

const SIGN: u32 = 1 << 31;

impl Ranked {
    pub fn new(logit: f32, id: u32) -> Self {
        // Both zeroes become the positive one: they are as likely.
        let bits = (logit + 0.0).to_bits();
        let key = if bits & SIGN == 0 { bits | SIGN } else { !bits };
        Self(u64::from(key) << 32 | u64::from(!id))
    }

    /// What a device that sorts by it has made.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub fn id(self) -> u32 {
        !(self.0 as u32)
    }

    pub fn logit(self) -> f32 {
        let key = (self.0 >> 32) as u32;
        f32::from_bits(if key & SIGN == 0 { !key } else { key ^ SIGN })
    }
}

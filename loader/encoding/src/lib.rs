//! What a number format is: how many numbers stand together in how many bytes. The loader has to
//! know it to find bytes, and the kernels to read them, and neither may know the other. Knows no
//! arithmetic.
#![forbid(unsafe_code)]

use std::fmt;

/// How the numbers of a weight are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// 32 numbers of 4 bits with one scale.
    Q4_0,
    /// The same with a minimum.
    Q4_1,
    /// 32 numbers of 5 bits with one scale.
    Q5_0,
    /// The same with a minimum.
    Q5_1,
    /// 32 numbers of 8 bits with one scale.
    Q8_0,
    /// 256 numbers in sub-blocks, each with a scale of its own, and of some a minimum: of 2 bits a
    /// number
    Q2K,
    /// of 3,
    Q3K,
    /// of 4,
    Q4K,
    /// of 5,
    Q5K,
    /// and of 6.
    Q6K,
    /// 32 numbers of 4 bits, which name one of sixteen values, with one scale.
    Iq4Nl,
    /// The same in sub-blocks of 256.
    Iq4Xs,
}

/// Numbers that are written down together, and the bytes that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub numbers: usize,
    pub bytes: usize,
}

impl Encoding {
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    pub const fn block(self) -> Block {
        let (numbers, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq4Nl => (32, 18),
            Self::Iq4Xs => (256, 136),
        };
        Block { numbers, bytes }
    }

    /// Bytes of `rows` rows of `cols` numbers. `None` where a row is no whole number of blocks, or
    /// the bytes are more than can be counted.
    pub fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let Block { numbers, bytes } = self.block();
        if !cols.is_multiple_of(numbers) {
            return None;
        }
        (cols / numbers).checked_mul(bytes)?.checked_mul(rows)
    }

    /// What an address has to be a multiple of for the numbers there to be read as they are. Blocks
    /// are read byte by byte.
    pub const fn align(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            _ => 1,
        }
    }

    /// Whether each number stands for itself.
    pub const fn is_plain(self) -> bool {
        self.block().numbers == 1
    }

    /// The short name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Iq4Nl => "iq4_nl",
            Self::Iq4Xs => "iq4_xs",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_blocks_and_bytes_are_counted_without_overflow() {
        assert_eq!(Encoding::Bf16.bytes(3, 5), Some(30));
        assert_eq!(Encoding::Q8_0.bytes(2, 64), Some(2 * 2 * 34));
        assert_eq!(Encoding::Q8_0.bytes(2, 33), None);
        assert_eq!(Encoding::F32.bytes(usize::MAX, 2), None);
        for encoding in Encoding::ALL {
            assert_eq!(
                encoding.is_plain(),
                encoding.align() == encoding.block().bytes
            );
        }
    }
}

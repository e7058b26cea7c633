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
    /// 32 numbers of 8 bits with one f16 scale.
    Q8_0,
}

/// Numbers that are written down together, and the bytes that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub numbers: usize,
    pub bytes: usize,
}

impl Encoding {
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0];

    pub const fn block(self) -> Block {
        let (numbers, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
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
            Self::Q8_0 => 1,
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
            Self::Q8_0 => "q8_0",
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

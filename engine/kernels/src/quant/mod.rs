//! Matrices in blocks of small integers with scales, as GGUF files have them, and their products
//! with activations rounded to 8 bits. The bytes are used as they are filed. The arithmetic is
//! defined in `product.rs`, to the bit: every level gives the same. Knows neither files nor layers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod formats;
mod pack;
#[cfg(target_arch = "x86_64")]
mod panel;
mod product;
mod rounded;

use encoding::Encoding;

use super::level::Level;

#[cfg(test)]
pub(crate) use formats::scales_at;
pub use pack::pack_q8_0;
pub(crate) use product::{MAX_IN_PANEL, dot_rows};
pub(crate) use rounded::{OCTET_FLOATS, Octet, octets, round_row};

/// Which instructions the products are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// Plain Rust: the definition.
    Portable,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "of x86-64"))]
    Avx2,
    /// AVX-512 with its 8-bit dot products.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "of x86-64"))]
    Avx512Vnni,
}

impl Instructions {
    /// What a level has.
    ///
    /// # Panics
    /// If this machine does not support the level.
    pub fn of(level: Level) -> Self {
        assert!(level.is_supported(), "{level} on this machine");
        #[cfg(target_arch = "x86_64")]
        return match level {
            Level::Portable | Level::Neon => Self::Portable,
            Level::Avx2 => Self::Avx2,
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => {
                match std::arch::is_x86_feature_detected!("avx512vnni") {
                    true => Self::Avx512Vnni,
                    false => Self::Avx2,
                }
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        Self::Portable
    }
}

/// A matrix in an encoding of blocks, row by row. It is multiplied with activations that are rounded
/// to 8 bits, in groups of 32 with a scale each.
#[derive(Clone, Copy, Debug)]
pub struct Quantised<'a> {
    encoding: Encoding,
    /// They may lie at any alignment.
    bytes: &'a [u8],
    rows: usize,
    cols: usize,
}

impl<'a> Quantised<'a> {
    /// A matrix over `bytes`.
    ///
    /// # Panics
    /// If the encoding has no blocks, or the bytes are not exactly those of `rows * cols` numbers.
    pub fn new(encoding: Encoding, bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        assert!(!encoding.is_plain(), "{encoding} is plain");
        assert!(
            encoding.bytes(rows, cols) == Some(bytes.len()),
            "a {rows} x {cols} matrix in {encoding} over {} bytes",
            bytes.len()
        );
        Quantised {
            encoding,
            bytes,
            rows,
            cols,
        }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory behind the matrix.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all numbers are finite.
    pub fn is_finite(&self) -> bool {
        formats::is_finite(self.encoding, self.bytes)
    }

    /// The numbers of a row, exactly as the makers of the encodings compute them in f32.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as one.
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let row_bytes = self.row_bytes();
        let bytes = &self.bytes[row * row_bytes..(row + 1) * row_bytes];
        formats::dequantise(self.encoding, bytes, out);
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows.max(1)
    }
}

#[cfg(test)]
mod tests;

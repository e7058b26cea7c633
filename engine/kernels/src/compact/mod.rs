//! Matrices of bf16 in three quarters of their bytes, without loss. The exponents of a row of
//! weights are nearly all among sixteen that follow one another, so a number takes four bits for
//! its exponent's place among these (its code) and eight for sign and mantissa (its tail). Numbers
//! with another exponent (strays: one in some ten thousand) are kept whole, in a list beside.
//!
//! ```text
//! groups   a row: cols / 128 groups of 192 bytes = 64 of codes, 128 of tails
//! heads    8 bytes a row: what its codes mean, and its first stray; one more for the end
//! strays   4 bytes each: column and number, in the order of the rows
//! ```
//!
//! Codes of a group stand as two halves of 32 bytes: byte `j` of a half has number `j` of its 64 in
//! the low bits and number `32 + j` in the high ones. Knows nothing of layers or products.

mod pack;

pub use pack::{TooManyStrays, pack};

use half::bf16;

/// Numbers a group.
pub(crate) const GROUP: usize = 128;
/// Bytes a group.
pub(crate) const GROUP_BYTES: usize = GROUP / 2 + GROUP;
/// Where its tails begin.
pub(crate) const TAILS: usize = GROUP / 2;
/// One of so many numbers may be a stray.
const NUMBERS_A_STRAY: usize = 256;

/// A compact matrix, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Compact<'a> {
    groups: &'a [u8],
    heads: &'a [u64],
    strays: &'a [u32],
    rows: usize,
    cols: usize,
}

/// What the codes of a row mean, and where its strays begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct RowHead {
    pub strays: u32,
    /// The exponent that code 0 stands for: `base`, or that of zero in a row that has zeros.
    pub of_zero: u8,
    /// Code `c` from 1 on stands for `base + c`.
    pub base: u8,
}

impl RowHead {
    /// The head of a row whose strays are not counted yet.
    #[inline(always)]
    fn of(base: u8, zeros: bool) -> Self {
        RowHead {
            strays: 0,
            of_zero: if zeros { 0 } else { base },
            base,
        }
    }

    pub fn to_bits(self) -> u64 {
        u64::from(self.strays) | u64::from(self.of_zero) << 32 | u64::from(self.base) << 40
    }

    pub fn from_bits(bits: u64) -> Self {
        RowHead {
            strays: bits as u32,
            of_zero: (bits >> 32) as u8,
            base: (bits >> 40) as u8,
        }
    }

    /// The exponent of a code.
    #[inline(always)]
    pub fn exponent(self, code: u8) -> u8 {
        match code {
            0 => self.of_zero,
            code => self.base.wrapping_add(code),
        }
    }

    /// The code of an exponent, and whether there is one; 0 where there is none.
    #[inline(always)]
    fn code(self, exponent: u8) -> (u8, bool) {
        let above = exponent.wrapping_sub(self.base);
        let coded = above.wrapping_sub(1) < 15;
        (
            if coded { above } else { 0 },
            coded || exponent == self.of_zero,
        )
    }
}

/// Where the parts of numbers are in a group: the codes and tails of those from a place on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupOffsets {
    /// The byte of the first code.
    pub codes: usize,
    /// How many bits the codes stand high in their bytes.
    pub shift: u32,
    /// The byte of the first tail.
    pub tails: usize,
}

impl GroupOffsets {
    #[inline(always)]
    pub fn of(at: usize) -> Self {
        GroupOffsets {
            codes: at / 64 * 32 + at % 32,
            shift: (at % 64 / 32 * 4) as u32,
            tails: TAILS + at,
        }
    }
}

/// A number that has no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray(u32);

impl Stray {
    fn new(col: usize, bits: u16) -> Self {
        Stray((col as u32) << 16 | u32::from(bits))
    }

    pub fn col(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub fn bits(self) -> u16 {
        self.0 as u16
    }
}

/// The parts of a matrix's bytes.
struct Parts {
    groups: usize,
    heads: usize,
    strays: usize,
}

impl Parts {
    /// `None` for a matrix that has no compact form: one whose rows are not whole groups, or that is
    /// larger than strays can tell.
    fn of(rows: usize, cols: usize) -> Option<Self> {
        if cols == 0 || !cols.is_multiple_of(GROUP) || cols > 1 << 16 {
            return None;
        }
        let numbers = rows.checked_mul(cols)?;
        u32::try_from(numbers / NUMBERS_A_STRAY).ok()?;
        Some(Parts {
            groups: numbers / GROUP * GROUP_BYTES,
            heads: (rows + 1) * size_of::<u64>(),
            strays: numbers / NUMBERS_A_STRAY * size_of::<u32>(),
        })
    }

    fn bytes(&self) -> usize {
        self.groups + self.heads + self.strays
    }
}

impl<'a> Compact<'a> {
    /// Bytes that a matrix takes, if it has a compact form.
    pub fn bytes_for(rows: usize, cols: usize) -> Option<usize> {
        Some(Parts::of(rows, cols)?.bytes())
    }

    /// The matrix that [`pack`] made of these bytes, which begin at a multiple of eight.
    ///
    /// # Panics
    /// If they are not as many as [`Compact::bytes_for`] says, or lie askew.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        let parts = Parts::of(rows, cols).filter(|parts| parts.bytes() == bytes.len());
        let Some(parts) = parts else {
            panic!(
                "{} bytes are no compact {rows} x {cols} matrix",
                bytes.len()
            );
        };
        let (groups, rest) = bytes.split_at(parts.groups);
        let (heads, strays) = rest.split_at(parts.heads);
        Compact {
            groups,
            heads: bytemuck::cast_slice(heads),
            strays: bytemuck::cast_slice(strays),
            rows,
            cols,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that reading all of it takes.
    pub fn bytes(&self) -> usize {
        let strays = RowHead::from_bits(self.heads[self.rows]).strays as usize;
        self.groups.len() + size_of_val(self.heads) + strays.min(self.strays.len()) * 4
    }

    /// The groups of all rows, one after the other.
    pub(crate) fn groups(&self) -> &'a [u8] {
        self.groups
    }

    /// Bytes from one row to the next.
    pub(crate) fn row_bytes(&self) -> usize {
        self.cols / GROUP * GROUP_BYTES
    }

    pub(crate) fn head(&self, row: usize) -> RowHead {
        RowHead::from_bits(self.heads[row])
    }

    /// The strays of a row, by column.
    pub(crate) fn strays(&self, row: usize) -> impl Iterator<Item = Stray> + Clone + use<'a> {
        let [from, to] = [row, row + 1].map(|row| self.head(row).strays as usize);
        self.strays[from..to].iter().map(|&bits| Stray(bits))
    }

    /// Whether all numbers are.
    pub fn is_finite(&self) -> bool {
        let mut finite = true;
        let mut numbers = vec![bf16::ZERO; self.cols];
        for row in 0..self.rows {
            self.unpack_row(row, &mut numbers);
            finite &= numbers.iter().all(|number| number.is_finite());
        }
        finite
    }

    /// The numbers of a row.
    ///
    /// # Panics
    /// If there is no such row, `out` is not as long, or a stray lies outside it.
    #[inline(always)]
    pub(crate) fn unpack_row(&self, row: usize, out: &mut [bf16]) {
        assert!(out.len() == self.cols);
        let head = self.head(row);
        let groups = &self.groups[row * self.row_bytes()..][..self.row_bytes()];
        let out: &mut [u16] = bytemuck::cast_slice_mut(out);
        let (to, _) = out.as_chunks_mut();
        for (group, to) in groups.chunks_exact(GROUP_BYTES).zip(to) {
            unpack_group(head, group, to);
        }
        for stray in self.strays(row) {
            out[stray.col()] = stray.bits();
        }
    }

    /// Tells every number of a row, and its column; a stray's place is told before, with another.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_into(&self, row: usize, mut tell: impl FnMut(usize, bf16)) {
        assert!(row < self.rows);
        let head = self.head(row);
        let groups =
            self.groups[row * self.row_bytes()..][..self.row_bytes()].chunks_exact(GROUP_BYTES);
        for (at, group) in groups.enumerate() {
            let mut numbers = [0; GROUP];
            unpack_group(head, group, &mut numbers);
            for (i, bits) in numbers.into_iter().enumerate() {
                tell(at * GROUP + i, bf16::from_bits(bits));
            }
        }
        for stray in self.strays(row) {
            tell(stray.col(), bf16::from_bits(stray.bits()));
        }
    }
}

/// The numbers of a group but for its strays.
#[inline(always)]
pub(crate) fn unpack_group(head: RowHead, group: &[u8], out: &mut [u16; GROUP]) {
    for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
        let offsets = GroupOffsets::of(quarter * 32);
        let codes = &group[offsets.codes..][..32];
        let tails = &group[offsets.tails..][..32];
        for ((out, &codes), &tail) in out.iter_mut().zip(codes).zip(tails) {
            *out = number(head.exponent(codes >> offsets.shift & 15), tail);
        }
    }
}

/// A number of its exponent and tail.
#[inline(always)]
pub(crate) fn number(exponent: u8, tail: u8) -> u16 {
    let tail = u16::from(tail);
    (tail & 0x80) << 8 | u16::from(exponent) << 7 | tail & 0x7f
}

#[inline(always)]
fn exponent_of(bits: u16) -> u8 {
    (bits >> 7) as u8
}

#[inline(always)]
fn tail_of(bits: u16) -> u8 {
    (bits >> 8 & 0x80) as u8 | (bits & 0x7f) as u8
}

#[cfg(test)]
mod tests;

//! Weights as the kernels see them: borrowed slices in the checkpoint's own number format, and
//! matrices of them. Knows nothing of where the bytes came from.

use half::{bf16, f16};

use super::compact::Compact;
use super::quant::Quantised;

/// Numbers of one format, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl<'a> Weights<'a> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        match self {
            Weights::Bf16(values) => values.len(),
            Weights::F16(values) => values.len(),
            Weights::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory behind the slice.
    pub fn bytes(&self) -> usize {
        match self {
            Weights::Bf16(values) => size_of_val(*values),
            Weights::F16(values) => size_of_val(*values),
            Weights::F32(values) => size_of_val(*values),
        }
    }

    /// The number at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Weights::Bf16(values) => values[index].to_f32(),
            Weights::F16(values) => values[index].to_f32(),
            Weights::F32(values) => values[index],
        }
    }

    /// The numbers from `start`, as many as fit `out`, widened.
    pub fn widen_into(&self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match self {
            Weights::Bf16(values) => {
                out.iter_mut()
                    .zip(&values[start..end])
                    .for_each(|(o, v)| *o = v.to_f32());
            }
            Weights::F16(values) => {
                out.iter_mut()
                    .zip(&values[start..end])
                    .for_each(|(o, v)| *o = v.to_f32());
            }
            Weights::F32(values) => out.copy_from_slice(&values[start..end]),
        }
    }
}

/// The numbers of a matrix, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// As the checkpoint has them.
    Plain(Weights<'a>),
    /// bfloat16 in three quarters of its bytes.
    Compact(Compact<'a>),
    /// Blocks of small integers with scales.
    Quantised(Quantised<'a>),
}

/// Rows that lie together.
#[derive(Clone, Copy, Debug)]
pub struct Strip<'a> {
    pub numbers: Numbers<'a>,
    pub rows: usize,
}

/// A row-major matrix of weights, `rows` outputs by `cols` inputs. Its rows lie in strips, each
/// somewhere, in some format.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    first: Strip<'a>,
    more: [Option<Strip<'a>>; STRIPS_MAX - 1],
    rows: usize,
    cols: usize,
    // Of all strips; small layers ask for them at every step.
    bytes: usize,
    is_quantised: bool,
}

/// Queries, keys and values.
pub const STRIPS_MAX: usize = 3;

impl<'a> Matrix<'a> {
    /// A matrix over `data`.
    ///
    /// # Panics
    /// If `data` does not hold exactly `rows * cols` numbers.
    pub fn new(data: Weights<'a>, rows: usize, cols: usize) -> Self {
        assert!(
            rows.checked_mul(cols) == Some(data.len()),
            "a {rows} x {cols} matrix over {} numbers",
            data.len()
        );
        Matrix::one(Numbers::Plain(data), rows, cols)
    }

    fn one(numbers: Numbers<'a>, rows: usize, cols: usize) -> Self {
        Matrix {
            first: Strip { numbers, rows },
            more: [None; STRIPS_MAX - 1],
            rows,
            cols,
            bytes: match numbers {
                Numbers::Plain(data) => data.bytes(),
                Numbers::Compact(data) => data.bytes(),
                Numbers::Quantised(data) => data.bytes(),
            },
            is_quantised: matches!(numbers, Numbers::Quantised(_)),
        }
    }

    /// The same with the rows of another one below.
    ///
    /// # Panics
    /// If the widths differ, or there would be more than [`STRIPS_MAX`] strips.
    pub fn above(mut self, below: Matrix<'a>) -> Self {
        assert!(
            self.cols == below.cols,
            "{} columns over {}",
            self.cols,
            below.cols
        );
        let mut free = self.more.iter_mut().filter(|strip| strip.is_none());
        for strip in below.strips() {
            match free.next() {
                Some(free) => *free = Some(*strip),
                None => panic!("more than {STRIPS_MAX} strips"),
            }
        }
        self.rows += below.rows;
        self.bytes += below.bytes;
        self.is_quantised |= below.is_quantised;
        self
    }

    /// The strips, in the order of the rows.
    pub fn strips(&self) -> impl Iterator<Item = &Strip<'a>> {
        std::iter::once(&self.first).chain(self.more.iter().flatten())
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory that reading the matrix takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some of its rows are quantised.
    pub fn is_quantised(&self) -> bool {
        self.is_quantised
    }

    /// The numbers of a row, widened.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as one.
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let mut first = 0;
        for strip in self.strips() {
            if row < first + strip.rows {
                let row = row - first;
                return match strip.numbers {
                    Numbers::Plain(data) => data.widen_into(row * self.cols, out),
                    Numbers::Compact(data) => {
                        data.row_into(row, |col, number| out[col] = number.to_f32());
                    }
                    Numbers::Quantised(data) => data.row_into(row, out),
                };
            }
            first += strip.rows;
        }
    }
}

impl<'a> From<Quantised<'a>> for Matrix<'a> {
    fn from(data: Quantised<'a>) -> Self {
        Matrix::one(Numbers::Quantised(data), data.rows(), data.cols())
    }
}

impl<'a> From<Compact<'a>> for Matrix<'a> {
    fn from(data: Compact<'a>) -> Self {
        Matrix::one(Numbers::Compact(data), data.rows(), data.cols())
    }
}

/// # Panics
/// If the matrix has another size, or is quantised where only plain numbers are multiplied.
pub(crate) fn check_matrix(name: &str, matrix: &Matrix<'_>, rows: usize, cols: usize) {
    check_size(name, matrix, rows, cols);
    assert!(!matrix.is_quantised(), "{name} is quantised");
}

/// # Panics
/// If the matrix has another size.
pub(crate) fn check_size(name: &str, matrix: &Matrix<'_>, rows: usize, cols: usize) {
    assert!(
        matrix.rows() == rows && matrix.cols() == cols,
        "{name} is {} x {}, not {rows} x {cols}",
        matrix.rows(),
        matrix.cols()
    );
}

/// # Panics
/// If the vector has another length.
pub(crate) fn check_vector(name: &str, vector: Weights<'_>, len: usize) {
    assert!(
        vector.len() == len,
        "{name} has {} numbers, not {len}",
        vector.len()
    );
}

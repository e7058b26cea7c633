//! Causal convolutions of a stream whose rows are times, with their channels side by side: what
//! several codecs of audio are made of. Knows nothing of the layers around them, or of what is kept
//! from one call to the next.

mod depthwise;
mod transposed;

pub(crate) use depthwise::{Depthwise, by_taps};
pub(crate) use transposed::Transposed;

use super::weights::{Matrix, Numbers, Weights, check_matrix, check_vector};

/// A convolution. Its kernel is what the matrix's columns hold for each channel, last.
#[derive(Clone, Copy, Debug)]
pub struct ConvWeights<'a> {
    /// As stored: a row for each output, `[out][in][k]`; of a transposed convolution for each
    /// input, `[in][out][k]`; of a depthwise one for each channel, `[channel][k]`.
    pub weight: Matrix<'a>,
    /// A number for each output.
    pub bias: Weights<'a>,
}

impl<'a> ConvWeights<'a> {
    /// The numbers of one that is read by columns.
    pub(crate) fn numbers(&self) -> Weights<'a> {
        numbers(&self.weight)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.bytes()
    }

    /// # Panics
    /// If it has another number of outputs, or a matrix of another size.
    pub(crate) fn check(&self, name: &str, outputs: usize, (rows, cols): (usize, usize)) {
        check_matrix(name, &self.weight, rows, cols);
        check_vector(name, self.bias, outputs);
    }
}

/// # Panics
/// If the matrix is not plain numbers in one strip: what is read by columns.
pub(crate) fn check_plain(name: &str, matrix: &Matrix<'_>) {
    assert!(plain(matrix).is_some(), "{name} is not plain");
}

fn numbers<'a>(matrix: &Matrix<'a>) -> Weights<'a> {
    let Some(numbers) = plain(matrix) else {
        unreachable!("checked on entry");
    };
    numbers
}

/// The numbers of a matrix that lies plain, in one strip.
fn plain<'a>(matrix: &Matrix<'a>) -> Option<Weights<'a>> {
    let mut strips = matrix.strips();
    match (strips.next()?.numbers, strips.next()) {
        (Numbers::Plain(numbers), None) => Some(numbers),
        _ => None,
    }
}

/// Puts the inputs of an output side by side, as its weights have them: of each channel `kernel`
/// times that are `apart` rows from each other, from the first of `rows` on.
pub(crate) fn gather(rows: &[f32], width: usize, kernel: usize, apart: usize, to: &mut [f32]) {
    for (channel, to) in to.chunks_exact_mut(kernel).enumerate().take(width) {
        let from = rows[channel..].iter().step_by(apart * width);
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// What a time of a transposed convolution becomes: the first `stride` products of each channel,
/// the last ones of the time before where a kernel has twice as many, and the bias. A row for each
/// of the times that it becomes.
pub(crate) fn overlap(
    (before, now): (Option<&[f32]>, &[f32]),
    (kernel, stride): (usize, usize),
    bias: Weights<'_>,
    out: &mut [f32],
) {
    let width = now.len() / kernel;
    for (channel, now) in now.chunks_exact(kernel).enumerate() {
        let bias = bias.get(channel);
        let out = out[channel..].iter_mut().step_by(width);
        let both = out.zip(&now[..stride]);
        match before {
            Some(before) => {
                let before = &before[channel * kernel + stride..(channel + 1) * kernel];
                both.zip(before)
                    .for_each(|((out, now), before)| *out = bias + now + before);
            }
            None => both.for_each(|(out, now)| *out = bias + now),
        }
    }
}

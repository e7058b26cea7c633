//! What an encoder or a decoder keeps of a stream from one call to the next. Knows sizes only.

use super::layers::layers;
use super::parts::CodecShape;
use crate::shared::Buffer;

/// What all convolutions still see of what went through before, and zeros at first. One for each
/// stream.
#[derive(Debug)]
pub struct CodecState {
    pub(super) shape: CodecShape,
    pub(super) floats: Buffer,
}

impl CodecState {
    /// Of a stream that begins.
    pub fn new(shape: &CodecShape) -> Self {
        let (_, floats) = layers(shape);
        CodecState {
            shape: shape.clone(),
            floats: Buffer::zeroed(floats),
        }
    }

    /// Bytes that a state of that shape allocates.
    pub fn bytes_for(shape: &CodecShape) -> usize {
        Buffer::bytes_for(layers(shape).1)
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.floats.bytes()
    }

    /// All of it, to be kept elsewhere.
    pub fn numbers(&self) -> &[f32] {
        &self.floats
    }

    /// Goes on from numbers that were kept; `false` where they are not as many as it has.
    pub fn go_on_from(&mut self, numbers: &[f32]) -> bool {
        let same = numbers.len() == self.floats.len();
        if same {
            self.floats.copy_from_slice(numbers);
        }
        same
    }

    /// The stream begins anew.
    pub fn reset(&mut self) {
        self.floats.fill(0.0);
    }
}

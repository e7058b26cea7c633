//! The layers of an encoder or a decoder in the order they run: what each takes and gives for a
//! frame, and what it keeps from one call to the next. Knows sizes only.

use super::parts::{CodecPart, CodecShape};
use crate::linear::panel_floats;

/// What a layer is, and where its weights are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Stem,
    Head,
    /// A strided convolution between stages.
    Strided(usize),
    /// A transposed convolution between stages.
    Transposed(usize),
    /// A block of a stage.
    Block(usize, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub kind: Kind,
    /// Channels that it takes, and gives.
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Times a frame that it takes, and gives.
    pub times: usize,
    pub times_out: usize,
    /// Times before the first that it sees: kept from one call to the next.
    pub history: usize,
    /// Where in the state what it keeps begins.
    pub state: usize,
}

impl Layer {
    /// Floats of the state: times it sees, or of a transposed convolution what the last time adds
    /// to those that follow.
    pub fn state_floats(&self) -> usize {
        match self.kind {
            Kind::Transposed(_) => self.products(),
            Kind::Stem | Kind::Head | Kind::Strided(_) | Kind::Block(..) => {
                self.history * self.inputs
            }
        }
    }

    /// What a time becomes before overlapping: of a transposed convolution.
    pub fn products(&self) -> usize {
        self.outputs * self.kernel
    }

    /// Whether it is multiplied as many rows are. The times of a frame decide, so that a frame
    /// gives the same bits however many there are.
    pub fn has_many_rows(&self) -> bool {
        // Packing a panel is worth it from so many rows on. Rows of weights that belong to inputs
        // are packed by copying, which takes less.
        match self.kind {
            Kind::Transposed(_) => self.times >= 8,
            Kind::Stem | Kind::Head | Kind::Strided(_) | Kind::Block(..) => self.times_out >= 16,
        }
    }

    /// Floats that each worker needs to multiply it so.
    pub fn panel_floats(&self, expansion: usize) -> usize {
        if !self.has_many_rows() {
            return 0;
        }
        match self.kind {
            Kind::Transposed(_) => panel_floats(self.inputs, self.products(), true),
            Kind::Block(..) => {
                let inner = expansion * self.inputs;
                panel_floats(self.inputs, inner, false).max(panel_floats(inner, self.inputs, false))
            }
            Kind::Stem | Kind::Head | Kind::Strided(_) => {
                panel_floats(self.window(), self.outputs, false)
            }
        }
    }

    /// Inputs of one output: of a convolution.
    pub fn window(&self) -> usize {
        self.inputs * self.kernel
    }
}

/// All layers, and the floats of the state.
pub(super) fn layers(shape: &CodecShape) -> (Vec<Layer>, usize) {
    let count = shape.ratios.len();
    let is_encoder = shape.part == CodecPart::Encoder;
    let width = |at: usize| shape.width(if is_encoder { at } else { count - at });
    let (first, last) = match shape.part {
        CodecPart::Encoder => (shape.channels, shape.latent),
        CodecPart::Decoder => (shape.latent, shape.channels),
    };
    let mut times = if is_encoder { shape.hop() } else { 1 };
    let mut all = Vec::new();
    let mut state = 0;
    let mut push = |kind, (inputs, outputs), kernel, stride, times: usize| {
        let (times_out, history) = match kind {
            Kind::Transposed(_) => (times * stride, 0),
            Kind::Strided(_) => (times / stride, kernel - stride),
            Kind::Stem | Kind::Head | Kind::Block(..) => (times, kernel - 1),
        };
        let layer = Layer {
            kind,
            inputs,
            outputs,
            kernel,
            stride,
            times,
            times_out,
            history,
            state,
        };
        state += layer.state_floats();
        all.push(layer);
        times_out
    };
    push(Kind::Stem, (first, width(0)), shape.kernel, 1, times);
    let mut ratios = shape.ratios_run();
    for (stage, depth) in shape.depths.iter().enumerate() {
        for block in 0..*depth {
            let channels = (width(stage), width(stage));
            push(Kind::Block(stage, block), channels, shape.kernel, 1, times);
        }
        if let Some(ratio) = ratios.next() {
            let channels = (width(stage), width(stage + 1));
            let kind = match shape.part {
                CodecPart::Encoder => Kind::Strided(stage),
                CodecPart::Decoder => Kind::Transposed(stage),
            };
            times = push(kind, channels, 2 * ratio, ratio, times);
        }
    }
    push(Kind::Head, (width(count), last), shape.kernel, 1, times);
    (all, state)
}

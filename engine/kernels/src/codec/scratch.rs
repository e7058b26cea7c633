//! All working memory of an encoder or a decoder, allocated once for the most frames that go
//! through together. Knows sizes only.

use super::layers::{Kind, Layer, layers};
use super::parts::CodecShape;
use super::pass::{Part, parts};
use super::rows;
use crate::level::Level;
use crate::shared::{Buffer, LINE, round_up};
use crate::team::Team;

/// How much working memory an encoder or a decoder takes: what a plan counts, and a
/// [`CodecScratch`] is made from. In floats of each buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct CodecScratchSize {
    shape: CodecShape,
    layers: Vec<Layer>,
    phases: Vec<(usize, Part)>,
    frames: usize,
    threads: usize,
    stream: usize,
    gathered: usize,
    products: usize,
    normed: usize,
    inner: usize,
    own: usize,
}

impl CodecScratchSize {
    /// For up to `frames` frames together of `shape`, computed by so many threads at `level`. More
    /// frames are computed piece by piece.
    pub fn of(level: Level, threads: usize, shape: &CodecShape, frames: usize) -> Self {
        let _ = level;
        let (frames, threads) = (frames.max(1), threads.max(1));
        let (layers, _) = layers(shape);
        let most = |floats: &dyn Fn(&Layer) -> usize| layers.iter().map(floats).max().unwrap_or(0);
        let is_block = |layer: &Layer| matches!(layer.kind, Kind::Block(..));
        let rows = |layer: &Layer| layer.times * frames * layer.inputs;
        let normed = most(&|layer| if is_block(layer) { rows(layer) } else { 0 });
        let phases = layers.iter().enumerate();
        let phases =
            phases.flat_map(|(at, layer)| parts(layer).iter().map(move |part| (at, *part)));
        CodecScratchSize {
            shape: shape.clone(),
            phases: phases.collect(),
            frames,
            threads,
            stream: most(&|layer| layer.history * layer.inputs + rows(layer)),
            gathered: most(&|layer| match layer.kind {
                Kind::Stem | Kind::Head | Kind::Strided(_) => {
                    layer.times_out * frames * layer.window()
                }
                Kind::Transposed(_) | Kind::Block(..) => 0,
            }),
            products: most(&|layer| match layer.kind {
                Kind::Transposed(_) => (1 + layer.times * frames) * layer.products(),
                Kind::Stem | Kind::Head | Kind::Strided(_) | Kind::Block(..) => 0,
            }),
            normed,
            inner: normed * shape.expansion,
            own: most(&|layer| {
                let own = if is_block(layer) {
                    rows::own_floats(layer)
                } else {
                    0
                };
                round_up(own.max(layer.panel_floats(shape.expansion)), LINE)
            }),
            layers,
        }
    }

    /// Bytes that a [`CodecScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let own = self.threads * self.own;
        let buffers = [
            self.stream,
            self.stream,
            self.gathered,
            self.products,
            self.normed,
            self.inner,
            own,
        ];
        buffers.into_iter().map(Buffer::bytes_for).sum::<usize>() + self.lists_bytes()
    }

    fn lists_bytes(&self) -> usize {
        size_of_val(&*self.layers) + size_of_val(&*self.phases)
    }
}

/// Working memory of [`encode`](super::encode) or [`decode`](super::decode).
#[derive(Debug)]
pub struct CodecScratch {
    pub(super) shape: CodecShape,
    pub(super) layers: Vec<Layer>,
    pub(super) phases: Vec<(usize, Part)>,
    pub(super) frames: usize,
    pub(super) threads: usize,
    /// What a layer takes, and what it gives: in turns.
    pub(super) streams: [Buffer; 2],
    /// The inputs of each output of a convolution, side by side.
    pub(super) gathered: Buffer,
    /// What each time becomes before overlapping.
    pub(super) products: Buffer,
    pub(super) normed: Buffer,
    /// The inner rows of a block.
    pub(super) inner: Buffer,
    /// Each worker's.
    pub(super) own: Buffer,
}

impl CodecScratch {
    /// Memory for up to `frames` frames together of `shape`, computed by `team`.
    pub fn new(team: &Team, shape: &CodecShape, frames: usize) -> Self {
        let size = CodecScratchSize::of(team.level(), team.threads(), shape, frames);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &CodecScratchSize) -> Self {
        CodecScratch {
            shape: size.shape.clone(),
            layers: size.layers.clone(),
            phases: size.phases.clone(),
            frames: size.frames,
            threads: size.threads,
            streams: [(); 2].map(|()| Buffer::zeroed(size.stream)),
            gathered: Buffer::zeroed(size.gathered),
            products: Buffer::zeroed(size.products),
            normed: Buffer::zeroed(size.normed),
            inner: Buffer::zeroed(size.inner),
            own: Buffer::zeroed(size.threads * size.own),
        }
    }

    /// Frames that go through together.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let buffers = [
            &self.gathered,
            &self.products,
            &self.normed,
            &self.inner,
            &self.own,
        ];
        let buffers = buffers.into_iter().chain(&self.streams);
        let lists = size_of_val(&*self.layers) + size_of_val(&*self.phases);
        buffers.map(Buffer::bytes).sum::<usize>() + lists
    }
}

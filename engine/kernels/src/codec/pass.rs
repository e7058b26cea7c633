//! Some frames on their way through an encoder or a decoder, as a region of the team: its layers
//! one after another, each in a few phases. Knows nothing of how many calls there are.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a phase write buffers that no step of the same phase reads, except for
// elements of the step's own: rows, or outputs of one linear layer. Layers read one stream and
// write the other. What a layer keeps is copied from its stream, and what the next one has kept to
// the other stream, before that layer's own times, in one step of the first phase that reads the
// stream: no other step uses either. All buffers are borrowed exclusively for the region.

use std::ops::Range;

use super::layers::{Kind, Layer};
use super::parts::{CodecBlock, CodecShape, CodecWeights};
use crate::conv::{ConvWeights, Transposed, gather, overlap};
use crate::level::Level;
use crate::linear::{Epilogue, Linear, PanelLinear, Taps, Then};
use crate::run::RunKind;
use crate::shared::Shared;
use crate::team::{Cut, Region, Steps};
use crate::weights::{Matrix, Weights};

/// A phase of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// Of a convolution: the inputs of each output are put side by side.
    Gather,
    /// They are multiplied.
    Multiply,
    /// Of a transposed convolution: what each time becomes.
    Products,
    /// It is added up.
    Overlap,
    /// Of a block: all before the inner rows.
    Mix,
    Up,
    Down,
}

/// The phases of a layer, in order.
pub(super) fn parts(layer: &Layer) -> &'static [Part] {
    match layer.kind {
        Kind::Stem | Kind::Head | Kind::Strided(_) => &[Part::Gather, Part::Multiply],
        Kind::Transposed(_) => &[Part::Products, Part::Overlap],
        Kind::Block(..) => &[Part::Mix, Part::Up, Part::Down],
    }
}

/// Frames that go through together.
pub(super) struct Pass<'a, 'w> {
    pub shape: &'a CodecShape,
    pub weights: &'a CodecWeights<'w>,
    pub layers: &'a [Layer],
    pub phases: &'a [(usize, Part)],
    pub state: Shared<'a, f32>,
    pub streams: [Shared<'a, f32>; 2],
    pub gathered: Shared<'a, f32>,
    pub products: Shared<'a, f32>,
    pub normed: Shared<'a, f32>,
    pub inner: Shared<'a, f32>,
    pub own: Shared<'a, f32>,
    pub out: Shared<'a, f32>,
    pub frames: usize,
    pub level: Level,
    pub threads: usize,
}

impl Region for Pass<'_, '_> {
    fn phases(&self) -> usize {
        self.phases.len()
    }

    fn open(&self, phase: usize) -> usize {
        let (at, part) = self.phases[phase];
        match part {
            // One more: what is kept.
            Part::Gather | Part::Mix | Part::Overlap => self.cut(at, part).steps() + 1,
            Part::Products => self.products(at).steps() + 1,
            Part::Multiply | Part::Up | Part::Down => {
                let linear = self.linear(at, part);
                if self.layers[at].has_many_rows() {
                    self.panels(linear).steps(self.threads)
                } else {
                    linear.steps(self.level, 0, self.threads)
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.frames * self.weights.bytes()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (at, part) = self.phases[phase];
        let worker = steps.worker();
        // SAFETY: the steps are of this phase, the phases before it are over, and rows and outputs
        // are in one step each.
        unsafe {
            match part {
                Part::Gather | Part::Mix | Part::Overlap => {
                    let cut = self.cut(at, part);
                    for step in steps {
                        if step == cut.steps() {
                            self.keep(at);
                            continue;
                        }
                        let rows = cut.piece(step);
                        match part {
                            Part::Gather => self.gather(at, rows),
                            Part::Mix => self.mix(at, rows, worker),
                            _ => self.overlap(at, rows),
                        }
                    }
                }
                Part::Products => {
                    let products = self.products(at);
                    let count = products.steps();
                    for step in steps {
                        if step == count {
                            self.recall_products(at);
                        } else {
                            products.work_step(self.level, step, worker);
                        }
                    }
                }
                Part::Multiply | Part::Up | Part::Down => {
                    let linear = self.linear(at, part);
                    if self.layers[at].has_many_rows() {
                        self.panels(linear).work(self.level, steps);
                    } else {
                        linear.work(self.level, 0, steps);
                    }
                }
            }
        }
    }
}

impl<'a, 'w: 'a> Pass<'a, 'w> {
    pub(super) fn stream(&self, at: usize) -> Shared<'a, f32> {
        self.streams[at % 2]
    }

    /// Where a layer's outputs go: after what the next one has kept, or to the caller.
    pub(super) fn target(&self, at: usize) -> Shared<'a, f32> {
        let Some(next) = self.layers.get(at + 1) else {
            return self.out;
        };
        let stream = self.stream(at + 1);
        stream.part(next.history * next.inputs..stream.len())
    }

    pub(super) fn conv(&self, at: usize) -> &'a ConvWeights<'w> {
        match self.layers[at].kind {
            Kind::Stem => &self.weights.stem,
            Kind::Strided(place) | Kind::Transposed(place) => &self.weights.resample[place],
            Kind::Block(..) | Kind::Head => &self.weights.head,
        }
    }

    pub(super) fn block(&self, at: usize) -> &'a CodecBlock<'w> {
        match self.layers[at].kind {
            Kind::Block(stage, block) => &self.weights.stages[stage][block],
            _ => unreachable!("no block"),
        }
    }

    /// The rows of a phase: times that a layer takes, or gives.
    fn cut(&self, at: usize, part: Part) -> Cut {
        let layer = &self.layers[at];
        let rows = match part {
            Part::Mix | Part::Overlap => layer.times,
            _ => layer.times_out,
        };
        Cut::pieces(4, rows * self.frames, self.threads)
    }

    fn panels(&self, linear: Linear<'a>) -> PanelLinear<'a> {
        PanelLinear {
            linear,
            by_input: false,
            taps: Taps::NONE,
            own: self.own(),
        }
    }

    /// The products of a transposed convolution.
    fn products(&self, at: usize) -> Transposed<'a> {
        let layer = &self.layers[at];
        // After those of the time before.
        let first = layer.products();
        Transposed {
            weights: &self.conv(at).weight,
            x: self.stream(at),
            rows: layer.times * self.frames,
            out: self.products.part(first..self.products.len()),
            panels: layer.has_many_rows().then(|| self.own()),
            threads: self.threads,
        }
    }

    /// Each worker's floats, and how many one has.
    fn own(&self) -> (Shared<'a, f32>, usize) {
        (self.own, self.own.len() / self.threads)
    }

    /// Puts the inputs of some outputs of a convolution side by side.
    ///
    /// # Safety
    /// The rows are in one step; the stream is complete.
    unsafe fn gather(&self, at: usize, rows: Range<usize>) {
        let layer = &self.layers[at];
        let (width, window) = (layer.inputs, layer.window());
        for row in rows {
            let from = row * layer.stride * width;
            // SAFETY: as the caller promises.
            let (from, to) = unsafe {
                (
                    self.stream(at).get(from..from + window),
                    self.gathered.get_mut(row * window..(row + 1) * window),
                )
            };
            gather(from, width, layer.kernel, 1, to);
        }
    }

    /// Adds up the products of some times, and the bias.
    ///
    /// # Safety
    /// The times are in one step; the products are complete.
    unsafe fn overlap(&self, at: usize, times: Range<usize>) {
        let layer = &self.layers[at];
        let bias = self.conv(at).bias;
        let (products, target) = (layer.products(), self.target(at));
        let each = layer.stride * layer.outputs;
        for time in times {
            // SAFETY: as the caller promises.
            let (both, out) = unsafe {
                let both = time * products..(time + 2) * products;
                let out = time * each..(time + 1) * each;
                (self.products.get(both), target.get_mut(out))
            };
            let (before, now) = both.split_at(products);
            let taps = (layer.kernel, layer.stride);
            overlap((Some(before), now), taps, bias, out);
        }
    }

    /// A linear layer; it takes one phase.
    fn linear(&self, at: usize, part: Part) -> Linear<'a> {
        let layer = &self.layers[at];
        type Parts<'a> = (&'a Matrix<'a>, Weights<'a>, Option<Weights<'a>>);
        let linear = |(weights, bias, gain): Parts<'a>, x, then, out| Linear {
            weights,
            x,
            x_stride: weights.cols(),
            rows: layer.times_out * self.frames,
            // A frame gives the same bits however many there are.
            kind: RunKind::Decode,
            epilogue: Epilogue {
                then,
                bias: Some(bias),
                gain,
                out,
                stride: weights.rows(),
            },
            tiles: Shared::new(&mut []),
            // Nothing is quantised.
            rounded: Shared::new(&mut []),
        };
        match part {
            Part::Up => {
                let block = self.block(at);
                let weights = (&block.linear1, block.bias1, None);
                linear(weights, self.normed, Then::Gelu, self.inner)
            }
            Part::Down => {
                let block = self.block(at);
                let weights = (&block.linear2, block.bias2, Some(block.ffn_gamma));
                linear(weights, self.inner, Then::Add, self.target(at))
            }
            _ => {
                let conv = self.conv(at);
                let weights = (&conv.weight, conv.bias, None);
                linear(weights, self.gathered, Then::Store, self.target(at))
            }
        }
    }

    /// Copies the last times of a layer's stream to the state, and what the next layer has kept to
    /// its own.
    ///
    /// # Safety
    /// One step does this, in a phase whose other steps write neither.
    unsafe fn keep(&self, at: usize) {
        let layer = &self.layers[at];
        let width = layer.inputs;
        // SAFETY: as the caller promises.
        unsafe {
            if matches!(layer.kind, Kind::Transposed(_)) {
                let kept = layer.products();
                let from = layer.times * self.frames * kept;
                let to = self.state.get_mut(layer.state..layer.state + kept);
                to.copy_from_slice(self.products.get(from..from + kept));
            } else {
                let kept = layer.history * width;
                let from = layer.times * self.frames * width;
                let to = self.state.get_mut(layer.state..layer.state + kept);
                to.copy_from_slice(self.stream(at).get(from..from + kept));
            }
            if let Some(next) = self.layers.get(at + 1) {
                let kept = next.history * next.inputs;
                let to = self.stream(at + 1).get_mut(0..kept);
                to.copy_from_slice(self.state.get(next.state..next.state + kept));
            }
        }
    }

    /// Copies what the last time adds to those that follow before the products.
    ///
    /// # Safety
    /// As for [`Pass::keep`].
    unsafe fn recall_products(&self, at: usize) {
        let layer = &self.layers[at];
        let kept = layer.products();
        // SAFETY: as the caller promises.
        unsafe {
            let to = self.products.get_mut(0..kept);
            to.copy_from_slice(self.state.get(layer.state..layer.state + kept));
        }
    }
}

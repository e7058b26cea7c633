//! The tasks of a vocoder of some shape, in order. Knows nothing of how they are done.

use std::fmt::Display;

use super::{
    Kept, Memory, Of, Place, Product, Shown, SnakeOf, Spread, Stage, Step, Task, Tasks, Window,
};
use crate::linear::{Taps, panel_floats};
use crate::vocoder::parts::VocoderShape;

/// Times a frame from which on rows are multiplied in panels: packing these is then worth it. Rows
/// of weights that belong to inputs are packed by copying, which takes less.
const MANY: usize = 16;
const MANY_BY_INPUT: usize = 8;

impl Tasks {
    /// `shows`: each stage is copied out, to be compared.
    pub fn of(shape: &VocoderShape, shows: bool) -> Self {
        let mut tasks = Tasks {
            shown: shows.then(Vec::new),
            steps: Vec::new(),
            transformer: 0,
            state: 0,
            floats: Default::default(),
            own: shape.entry,
        };
        let hidden = shape.block.hidden;
        let entries = Place::start(Memory::Inner);
        tasks.needs(entries, 2 * shape.entry);
        tasks.push(Task::Look);
        let quantised = tasks.seen((shape.pre_kernel - 1) * shape.quantised);
        let rest = Place {
            first: shape.entry,
            ..entries
        };
        for (of, from) in [(Of::First, entries), (Of::Rest, rest)] {
            let sizes = (2 * shape.entry, shape.quantised);
            tasks.product(of, from, sizes, quantised, 1);
        }
        tasks.show("quantizer", quantised, shape.quantised, 1);
        let latent = Place::start(Memory::Stream);
        let sizes = (shape.quantised, shape.latent);
        tasks.conv(Of::Pre, sizes, (shape.pre_kernel, 1), latent, 1);
        tasks.show("pre_conv", latent, shape.latent, 1);
        let stream = Place::start(Memory::Hidden);
        tasks.product(Of::Input, latent, (shape.latent, hidden), stream, 1);
        tasks.transformer = tasks.steps.len();
        tasks.needs(entries, hidden);
        tasks.push(Task::Norm);

        let past = (shape.kernel - 1) * shape.latent;
        let mut from = match shape.upsampling.is_empty() {
            true => tasks.seen(past),
            false => latent,
        };
        tasks.product(Of::Output, entries, (hidden, shape.latent), from, 1);
        tasks.show("transformer", from, shape.latent, 1);
        let mut times = 1;
        for (at, rate) in shape.upsampling.iter().enumerate() {
            let to = tasks.seen(past);
            tasks.first_stage(shape, at, *rate, from, to, times);
            (from, times) = (to, times * rate);
            tasks.show(format_args!("upsample.{at}"), to, shape.latent, times);
        }
        let (stem, kernel) = ((shape.latent, shape.channels), (shape.kernel, 1));
        tasks.conv(Of::Stem, stem, kernel, latent, times);
        tasks.show("decoder.0", latent, shape.channels, times);
        for (at, rate) in shape.rates.iter().enumerate() {
            times = tasks.second_stage(shape, at, *rate, times);
            let (name, width) = (format_args!("decoder.{}", at + 1), shape.width(at + 1));
            tasks.show(name, latent, width, times);
        }
        let (stages, width) = (shape.rates.len(), shape.width(shape.rates.len()));
        let last = tasks.snake(SnakeOf::Last, (shape.kernel - 1) * width, width, times);
        tasks.show(format_args!("decoder.{}", stages + 1), last, width, times);
        let audio = Place::start(Memory::Audio);
        tasks.conv(Of::Head, (width, 1), kernel, audio, times);
        tasks.show(format_args!("decoder.{}", stages + 2), audio, 1, times);
        tasks.push(Task::Clamp);
        tasks
    }

    fn first_stage(
        &mut self,
        shape: &VocoderShape,
        at: usize,
        rate: usize,
        from: Place,
        to: Place,
        times: usize,
    ) {
        let latent = shape.latent;
        self.spread(
            Stage::First(at),
            (latent, latent),
            from,
            to,
            (rate, rate),
            times,
        );
        let times = times * rate;
        let kept = self.kept(to, times * latent);
        self.recall(kept);
        let (inner, wide) = (Place::start(Memory::Inner), Place::start(Memory::Wide));
        self.needs(inner, times * latent);
        self.push(Task::Mix(at, times));
        self.keep(kept);
        // The kernels, and the biases.
        self.own = self.own.max((shape.kernel + 1) * latent);
        let sizes = (latent, shape.expansion * latent);
        self.product(Of::Up(at), inner, sizes, wide, times);
        self.product(Of::Down(at), wide, (sizes.1, latent), to, times);
    }

    /// Gives the times that come out.
    fn second_stage(
        &mut self,
        shape: &VocoderShape,
        at: usize,
        rate: usize,
        times: usize,
    ) -> usize {
        let (inputs, width) = (shape.width(at), shape.width(at + 1));
        let stream = Place::start(Memory::Stream);
        let from = self.snake(SnakeOf::Stage(at), 0, inputs, times);
        let kernel = (2 * rate, rate);
        self.spread(
            Stage::Second(at),
            (inputs, width),
            from,
            stream,
            kernel,
            times,
        );
        let times = times * rate;
        let inner = Place::start(Memory::Inner);
        for (unit, dilation) in shape.dilations.iter().enumerate() {
            let past = (shape.kernel - 1) * dilation * width;
            self.snake(SnakeOf::Unit1(at, unit), past, width, times);
            let kernel = (shape.kernel, *dilation);
            self.conv(Of::Conv1(at, unit), (width, width), kernel, inner, times);
            self.push(Task::Snake {
                of: SnakeOf::Unit2(at, unit),
                from: inner,
                to: inner,
                width,
                times,
            });
            self.product(Of::Conv2(at, unit), inner, (width, width), stream, times);
        }
        times
    }

    fn push(&mut self, task: Task) {
        self.steps.push(Step {
            task,
            recall: None,
            keep: None,
        });
    }

    /// The rows that the last task wrote, where they are shown: of a width, so many a frame.
    fn show(&mut self, name: impl Display, from: Place, width: usize, times: usize) {
        let Some(shown) = &mut self.shown else { return };
        let before = shown.last().map_or(0, |it| it.before + it.frame());
        shown.push(Shown {
            name: name.to_string(),
            from,
            width,
            times,
            before,
        });
        let at = shown.len() - 1;
        self.push(Task::Show(at));
    }

    /// Rows of so many floats a frame are at the place.
    fn needs(&mut self, place: Place, frame: usize) {
        if let Some(floats) = self.floats.get_mut(place.memory as usize) {
            floats.push((place.first, frame));
        }
    }

    /// Rows after so many floats that are still seen.
    fn seen(&self, first: usize) -> Place {
        Place {
            memory: Memory::Seen,
            first,
        }
    }

    /// What a call keeps for the next of rows at a place, with so many floats a frame: as much as
    /// is before them.
    fn kept(&mut self, place: Place, frame: usize) -> Kept {
        self.needs(place, frame);
        let kept = Kept {
            memory: place.memory,
            state: self.state,
            floats: place.first,
            frame,
        };
        self.state += kept.floats;
        kept
    }

    /// It is put before the rows that the last task writes.
    fn recall(&mut self, kept: Kept) {
        if let Some(step) = self.steps.last_mut() {
            step.recall = Some(kept).filter(|kept| kept.floats > 0);
        }
    }

    /// It is taken while the last task reads them.
    fn keep(&mut self, kept: Kept) {
        if let Some(step) = self.steps.last_mut() {
            step.keep = Some(kept).filter(|kept| kept.floats > 0);
        }
    }

    /// The stream, into rows that a convolution sees after so many floats.
    fn snake(&mut self, of: SnakeOf, past: usize, width: usize, times: usize) -> Place {
        let (from, to) = (Place::start(Memory::Stream), self.seen(past));
        self.needs(to, times * width);
        self.own = self.own.max(2 * width);
        self.push(Task::Snake {
            of,
            from,
            to,
            width,
            times,
        });
        to
    }

    fn product(
        &mut self,
        of: Of,
        from: Place,
        (stride, outputs): (usize, usize),
        to: Place,
        times: usize,
    ) {
        self.multiply(of, from, stride, Taps::NONE, (stride, outputs), to, times);
    }

    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own")]
    fn multiply(
        &mut self,
        of: Of,
        from: Place,
        stride: usize,
        taps: Taps,
        (inputs, outputs): (usize, usize),
        to: Place,
        times: usize,
    ) {
        self.needs(to, times * outputs);
        let is_many = times >= MANY;
        if is_many {
            self.own = self.own.max(panel_floats(inputs, outputs, false));
        }
        self.push(Task::Product(Product {
            of,
            from,
            stride,
            taps,
            to,
            times,
            is_many,
        }));
    }

    /// A causal convolution of the rows that are seen, which the last task wrote.
    fn conv(
        &mut self,
        of: Of,
        (inputs, outputs): (usize, usize),
        (kernel, dilation): (usize, usize),
        to: Place,
        times: usize,
    ) {
        let rows = self.seen((kernel - 1) * dilation * inputs);
        let kept = self.kept(rows, times * inputs);
        self.recall(kept);
        let window = kernel * inputs;
        if times >= MANY {
            let taps = Taps {
                count: kernel,
                apart: dilation * inputs,
            };
            let (from, sizes) = (self.seen(0), (window, outputs));
            self.multiply(of, from, inputs, taps, sizes, to, times);
            self.keep(kept);
        } else {
            let gathered = Place::start(Memory::Gathered);
            self.needs(gathered, times * window);
            self.push(Task::Gather(Window {
                width: inputs,
                kernel,
                apart: dilation,
                times,
            }));
            self.keep(kept);
            self.product(of, gathered, (window, outputs), to, times);
        }
    }

    /// A transposed convolution.
    fn spread(
        &mut self,
        stage: Stage,
        (inputs, outputs): (usize, usize),
        from: Place,
        to: Place,
        (kernel, stride): (usize, usize),
        times: usize,
    ) {
        let spread = Spread {
            stage,
            from,
            to,
            outputs,
            kernel,
            stride,
            times,
            is_many: times >= MANY_BY_INPUT,
        };
        if spread.is_many {
            let floats = panel_floats(inputs, spread.products(), true);
            self.own = self.own.max(floats);
        }
        let products = Place {
            memory: Memory::Products,
            first: spread.before(),
        };
        let kept = self.kept(products, times * spread.products());
        self.push(Task::Products(spread));
        self.recall(kept);
        self.needs(to, times * stride * outputs);
        self.push(Task::Overlap(spread));
        self.keep(kept);
    }
}

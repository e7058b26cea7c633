//! Linear layers over many rows in f32 at the speed of multiply-adds, on any instruction set:
//! panels of sixteen outputs, whose weights are laid side by side, input after input, and stay in a
//! cache while rows pass. An output is the sum over its inputs in order, so its bits depend neither
//! on how many rows there are nor on how they are cut. Knows nothing of whose rows they are.
#![expect(unsafe_code, reason = "vector loads and shared outputs")]
// Sound because every step writes its own outputs of its own rows, and packs into its worker's own
// memory; vectors are loaded inside panels and rows whose lengths are checked, and a panel without
// all of its outputs is stored through an array.

mod pack;

use std::cell::Cell;
use std::ops::Range;

use super::epilogue::gelu;
use super::{Linear, Then};
use crate::isa::{Element, Isa, Kernel, dispatch};
use crate::level::Level;
use crate::shared::Shared;
use crate::team::{Cut, Steps};
use crate::weights::{Numbers, Weights};
use pack::{Ahead, Pack};

/// Outputs of a panel: a whole number of vectors at every level.
const WIDTH: usize = 16;
/// Numbers of the panels of a step, if one is not more: half of a first-level cache in bf16.
const GROUP_NUMBERS: usize = 8192;
/// Pieces for each worker, where there is enough to do.
const PIECES: usize = 6;
/// Inputs after which memory is asked for again.
const TURN: usize = 32;
/// Rows of a step, at least: packing is to be worth it.
const ROWS_MIN: usize = 24;

/// How the inputs of a row lie: of a convolution its channels side by side, at several times. The
/// weights have them the other way round: the times of a channel side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Taps {
    pub count: usize,
    /// Floats from the channels at one time to those at the next.
    pub apart: usize,
}

impl Taps {
    /// All inputs lie side by side, as the weights have them.
    pub const NONE: Taps = Taps { count: 1, apart: 0 };
}

/// A linear layer over many rows.
#[derive(Clone, Copy)]
pub(crate) struct PanelLinear<'a> {
    pub linear: Linear<'a>,
    /// The weights have a row for each input.
    pub by_input: bool,
    pub taps: Taps,
    /// So many floats of each worker's: at least [`own_floats`].
    pub own: (Shared<'a, f32>, usize),
}

/// Floats of a worker for layers of these sizes: panels, and the biases and gains of their outputs.
pub(crate) fn own_floats(inputs: usize, outputs: usize, by_input: bool) -> usize {
    let group = group_outputs(inputs, outputs, by_input);
    group * (inputs + 2)
}

/// Outputs whose panels are packed together, at most.
fn group_outputs(inputs: usize, outputs: usize, by_input: bool) -> usize {
    // Of each row of weights whole lines of memory.
    let least = if by_input { 4 } else { 1 };
    let panels = (GROUP_NUMBERS / (WIDTH * inputs)).max(least);
    (panels * WIDTH).min(outputs.next_multiple_of(WIDTH))
}

impl<'a> PanelLinear<'a> {
    fn sizes(&self) -> (usize, usize) {
        let (rows, cols) = (self.linear.weights.rows(), self.linear.weights.cols());
        if self.by_input {
            (rows, cols)
        } else {
            (cols, rows)
        }
    }

    /// Outputs, and rows.
    fn cuts(&self, threads: usize) -> [Cut; 2] {
        let (inputs, outputs) = self.sizes();
        let rows = self.linear.rows;
        let size = group_outputs(inputs, outputs, self.by_input);
        let items = outputs;
        // Where rows are few, smaller groups: each is packed once whatever its size.
        let least = if self.by_input { 4 * WIDTH } else { WIDTH };
        let enough = outputs.div_ceil(PIECES * threads).next_multiple_of(least);
        let few = rows < 2 * ROWS_MIN * PIECES * threads;
        let outputs = Cut {
            items,
            size: if few { size.min(enough) } else { size },
        };
        let parts = (PIECES * threads).div_ceil(outputs.steps());
        let size = rows.div_ceil(parts).max(ROWS_MIN).next_multiple_of(12);
        [outputs, Cut { items: rows, size }]
    }

    pub fn steps(&self, threads: usize) -> usize {
        let [outputs, rows] = self.cuts(threads);
        outputs.steps() * rows.steps()
    }

    /// One step. The outputs are complete when all are done.
    ///
    /// # Safety
    /// The step is the calling worker's; `x` is not written and the output not used meanwhile.
    pub unsafe fn work_step(&self, level: Level, step: usize, worker: usize, threads: usize) {
        let [outputs, rows] = self.cuts(threads);
        let share = outputs.piece(step / rows.steps());
        let rows = rows.piece(step % rows.steps());
        let (own, stride) = self.own;
        // SAFETY: the memory is the worker's; the rest is passed on from the caller.
        unsafe {
            let own = own.get_mut(worker * stride..(worker + 1) * stride);
            let mut strips = self.linear.weights.strips();
            match (strips.next().map(|strip| strip.numbers), strips.next()) {
                (Some(Numbers::Plain(Weights::Bf16(data))), None) => {
                    self.share(level, data, share, rows, own);
                }
                (Some(Numbers::Plain(Weights::F16(data))), None) => {
                    self.share(level, data, share, rows, own);
                }
                (Some(Numbers::Plain(Weights::F32(data))), None) => {
                    self.share(level, data, share, rows, own);
                }
                (Some(Numbers::Compact(data)), None) => {
                    self.share(level, &data, share, rows, own);
                }
                _ => unreachable!("weights in one strip, and not quantised"),
            }
        }
    }

    /// All steps of a phase.
    ///
    /// # Safety
    /// As for [`PanelLinear::work_step`].
    pub unsafe fn work(&self, level: Level, steps: &mut Steps<'_>) {
        let (worker, threads) = (steps.worker(), steps.threads());
        for step in steps {
            // SAFETY: passed on from the caller.
            unsafe { self.work_step(level, step, worker, threads) };
        }
    }

    unsafe fn share<W: Pack + ?Sized>(
        &self,
        level: Level,
        weights: &W,
        share: Range<usize>,
        rows: Range<usize>,
        own: &mut [f32],
    ) {
        let (linear, (inputs, outputs)) = (&self.linear, self.sizes());
        let padded = share.len().next_multiple_of(WIDTH);
        let (vectors, own) = own.split_at_mut(2 * padded);
        let (bias, gain) = vectors.split_at_mut(padded);
        let count = share.len();
        for (vector, to, none) in [
            (linear.epilogue.bias, &mut *bias, 0.0),
            (linear.epilogue.gain, &mut *gain, 1.0),
        ] {
            to.fill(none);
            if let Some(vector) = vector {
                vector.widen_into(share.start, &mut to[..count]);
            }
        }
        let panels: &mut [W::E] = bytemuck::cast_slice_mut(own);
        let panels = &mut panels[..padded * inputs];
        if self.by_input {
            weights.pack_by_input(outputs, share.clone(), inputs, panels);
        } else {
            let pack = PackAll {
                weights,
                share: share.clone(),
                inputs,
                taps: self.taps.count,
                panels: &mut *panels,
            };
            // SAFETY: levels in use are supported.
            unsafe { dispatch(level, pack) };
        }
        // The weights of the group that comes next, while this one is multiplied.
        let follows = share.end..(share.end + count).min(outputs);
        let row_groups = rows.len().div_ceil(6) * padded / WIDTH;
        let turns = row_groups * self.taps.count * (inputs / self.taps.count).div_ceil(TURN);
        let ahead = weights.ahead(self.by_input.then_some(outputs), follows, inputs, turns);
        let stride = linear.x_stride;
        let Taps { count: taps, apart } = self.taps;
        assert!(
            inputs.is_multiple_of(taps),
            "{inputs} inputs at {taps} times"
        );
        let seen = (taps - 1) * apart + inputs / taps;
        let range = rows.start * stride..(rows.end - 1) * stride + seen;
        let multiply = Multiply {
            // SAFETY: the caller promises that nothing writes it.
            x: unsafe { linear.x.get(range) },
            x_stride: stride,
            inputs,
            taps: self.taps,
            rows,
            panels,
            bias,
            gain,
            then: linear.epilogue.then,
            out: linear.epilogue.out,
            out_stride: linear.epilogue.stride,
            share,
            ahead: Cell::new(ahead),
        };
        // SAFETY: levels in use are supported; the outputs are this step's.
        unsafe { dispatch(level, multiply) };
    }
}

/// Lays out the weights of some outputs.
struct PackAll<'a, W: Pack + ?Sized> {
    weights: &'a W,
    share: Range<usize>,
    inputs: usize,
    taps: usize,
    panels: &'a mut [W::E],
}

impl<W: Pack + ?Sized> Kernel for PackAll<'_, W> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        // SAFETY: dispatched at a level that is supported.
        unsafe {
            self.weights
                .pack::<I>(self.share, self.inputs, self.taps, self.panels);
        }
    }
}

/// Some outputs of some rows.
struct Multiply<'a, E> {
    /// From the first of the rows on.
    x: &'a [f32],
    x_stride: usize,
    inputs: usize,
    taps: Taps,
    rows: Range<usize>,
    panels: &'a [E],
    bias: &'a [f32],
    gain: &'a [f32],
    then: Then,
    out: Shared<'a, f32>,
    out_stride: usize,
    share: Range<usize>,
    ahead: Cell<Ahead>,
}

impl<E: Element> Kernel for Multiply<'_, E> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let padded = self.share.len().next_multiple_of(WIDTH);
        let rows = self.rows.len();
        assert!(self.panels.len() == padded * self.inputs);
        assert!(self.bias.len() == padded && self.gain.len() == padded);
        let Taps { count, apart } = self.taps;
        assert!(self.inputs.is_multiple_of(count));
        let seen = (count - 1) * apart + self.inputs / count;
        assert!(rows > 0 && self.x.len() >= (rows - 1) * self.x_stride + seen);
        // As many sums as there are registers for beside the weights.
        // SAFETY: passed on from the caller.
        unsafe {
            match WIDTH / I::LANES {
                1 => self.all_rows::<I, 1, 12>(),
                2 => self.all_rows::<I, 2, 6>(),
                _ => self.all_rows::<I, 4, 3>(),
            }
        }
    }
}

impl<E: Element> Multiply<'_, E> {
    /// # Safety
    /// The instructions of `I` are supported, `V` vectors of which make a panel; the outputs are
    /// the calling worker's.
    #[inline(always)]
    unsafe fn all_rows<I: Isa, const V: usize, const R: usize>(&self) {
        let (mut row, end) = (0, self.rows.len());
        // SAFETY: passed on from the caller.
        unsafe {
            while row < end {
                let left = end - row;
                row += match left {
                    // Two rows have too few sums to keep the processor busy: eight are four and
                    // four.
                    8 if R == 6 => self.some_rows::<I, V, 4>(row),
                    _ if left >= R => self.some_rows::<I, V, R>(row),
                    4.. => self.some_rows::<I, V, 4>(row),
                    2.. => self.some_rows::<I, V, 2>(row),
                    _ => self.some_rows::<I, V, 1>(row),
                };
            }
        }
    }

    /// # Safety
    /// As for [`Multiply::all_rows`]; there are `R` rows from `row` on.
    #[inline(always)]
    unsafe fn some_rows<I: Isa, const V: usize, const R: usize>(&self, row: usize) -> usize {
        let (inputs, lanes) = (self.inputs, I::LANES);
        let channels = inputs / self.taps.count;
        let mut ahead = self.ahead.get();
        let panels = self.panels.chunks_exact(inputs * WIDTH);
        for (at, panel) in panels.enumerate() {
            let first = at * WIDTH;
            // SAFETY: `call` has checked that all rows and panels are there.
            unsafe {
                let mut weights = panel.as_ptr();
                let mut sums = [[I::splat(0.0); V]; R];
                for tap in 0..self.taps.count {
                    let x: [*const f32; R] = std::array::from_fn(|r| {
                        let first = (row + r) * self.x_stride + tap * self.taps.apart;
                        self.x.as_ptr().add(first)
                    });
                    for turn in (0..channels).step_by(TURN) {
                        ahead.ask::<I>();
                        for input in turn..channels.min(turn + TURN) {
                            let w: [I::V; V] =
                                std::array::from_fn(|v| E::load::<I>(weights.add(v * lanes)));
                            for r in 0..R {
                                let x = I::splat(*x[r].add(input));
                                for v in 0..V {
                                    sums[r][v] = I::fma(x, w[v], sums[r][v]);
                                }
                            }
                            weights = weights.add(WIDTH);
                        }
                    }
                }
                for (r, sums) in sums.into_iter().enumerate() {
                    self.finish::<I, V>(row + r, first, sums);
                }
            }
        }
        self.ahead.set(ahead);
        R
    }

    /// # Safety
    /// As for [`Multiply::all_rows`].
    #[inline(always)]
    unsafe fn finish<I: Isa, const V: usize>(&self, row: usize, first: usize, sums: [I::V; V]) {
        let count = WIDTH.min(self.share.len() - first);
        let at = (self.rows.start + row) * self.out_stride + self.share.start + first;
        // SAFETY: these outputs are this worker's own, as the caller promises.
        let out = unsafe { self.out.get_mut(at..at + count) };
        if count == WIDTH {
            // SAFETY: a whole panel.
            unsafe { self.store::<I, V>(first, sums, out.as_mut_ptr()) };
        } else {
            let mut all = [0.0; WIDTH];
            all[..count].copy_from_slice(out);
            // SAFETY: as above.
            unsafe { self.store::<I, V>(first, sums, all.as_mut_ptr()) };
            out.copy_from_slice(&all[..count]);
        }
    }

    /// # Safety
    /// A panel at `out`, and the instructions of `I`.
    #[inline(always)]
    unsafe fn store<I: Isa, const V: usize>(&self, first: usize, sums: [I::V; V], out: *mut f32) {
        // SAFETY: `call` has checked that there are as many biases and gains as outputs.
        unsafe {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = v * I::LANES;
                let sum = I::add(sum, I::load(self.bias.as_ptr().add(first + at)));
                let out = out.add(at);
                let value = match self.then {
                    Then::Store => sum,
                    Then::Gelu => gelu::<I>(sum),
                    Then::Add => {
                        let gain = I::load(self.gain.as_ptr().add(first + at));
                        I::fma(gain, sum, I::load(out))
                    }
                    Then::AddScaled(_) | Then::SwiGlu => unreachable!("not over panels"),
                };
                I::store(out, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
